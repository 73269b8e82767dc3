//! Running other programs: what is run is said, what fails names its command, and nothing is left waiting for ever.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// The workspace's root, where every command starts.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Where things that survive between runs and are no source go. Not moved by `CARGO_TARGET_DIR`: build scripts look
/// for the BPF object here.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Says what happens next.
pub fn say(text: impl std::fmt::Display) {
    eprintln!("\x1b[1m[xtask]\x1b[0m {text}");
}

/// A command that starts in the workspace's root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn started(command: &mut Command) -> Result<std::process::Child> {
    let text = shown(command);
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "{} is not installed; `cargo xtask setup` installs it",
            command.get_program().to_string_lossy()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot run `{text}`")),
    })
}

/// Runs the command and returns how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    Ok(started(command)?.wait()?)
}

/// Runs the command and fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(())
}

/// Runs the command and returns what it printed on stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let child = started(command.stdout(Stdio::piped()))?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "`{}` failed: {}", shown(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no text", shown(command)))
}

/// Whether the command runs and succeeds; what it prints is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Runs the command for at most this long, then kills it and fails.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = started(command)?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill().context("cannot stop a command that took too long")?;
            child.wait()?;
            bail!("`{}` did not end within {} s", shown(command), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where this program is on the path, the places of system programs included.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Cargo's folder of installed programs.
pub fn cargo_bin() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo"),
        PathBuf::from,
    );
    home.join("bin")
}

/// `PATH` with cargo's installed programs first.
pub fn path_with_cargo_bin() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(cargo_bin()).chain(std::env::split_paths(&path)))?)
}
