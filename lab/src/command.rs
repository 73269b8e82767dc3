//! Running the programs of the system, with errors that say what was run and what it said.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a program printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs `command`, feeding it `input`, and collects what it says. An exit code is not an error here.
    pub fn of(mut command: Command, input: Option<&str>) -> Result<Self> {
        let line = shown(&command);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`; is it installed?"))?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // A child that refuses its input says why on stderr, which is the better message than our broken pipe.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Self {
            command: line,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Standard output, if it succeeded.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!("`{}` failed with {}: {}{}", self.command, self.code, self.stderr.trim(), self.stdout.trim());
        }
        Ok(self.stdout)
    }
}

/// The command as a person would type it, without its environment.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a program and returns its standard output.
pub fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    Output::of(command, None)?.ok()
}

/// Runs a program with this text on its standard input.
pub(crate) fn run_with_input(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: &str,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    Output::of(command, Some(input))?.ok()
}
