//! Boots the virtual machine and reads its console.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, say};

/// The longest the machine may take, on a slow and busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// What the machine said.
pub struct Report {
    /// The JSON of the programs' costs, if it came that far.
    pub costs: Option<String>,
    /// `passed`, or what failed.
    pub verdict: String,
}

/// Boots, waits for the verdict, and switches the machine off whatever happens.
pub fn boot(folder: &Path, kernel: &Path, initramfs: &Path) -> Result<Report> {
    let log = folder.join("console.log");
    let mut machine = Machine::start(kernel, initramfs)?;
    let report = machine.listen(&log);
    drop(machine);
    report.with_context(|| format!("the whole console is in {}", log.display()))
}

/// A running virtual machine; dropping it switches it off.
struct Machine(Child);

impl Machine {
    fn start(kernel: &Path, initramfs: &Path) -> Result<Self> {
        let child = shell::command("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536M"])
            .args(["-nographic", "-no-reboot", "-nic", "none"])
            .args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu-system-x86_64; run `cargo xtask setup`")?;
        Ok(Self(child))
    }

    fn listen(&mut self, log: &Path) -> Result<Report> {
        let mut log = fs::File::create(log)?;
        let console = BufReader::new(self.0.stdout.take().context("the console")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in console.split(b'\n').map_while(std::result::Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        let (end, mut costs) = (Instant::now() + LIMIT, None);
        loop {
            let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("no verdict within {} s", LIMIT.as_secs()),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine stopped without a verdict"),
            };
            writeln!(log, "{line}")?;
            // The firmware leaves escape sequences in front of the first lines.
            let Some((_, said)) = line.split_once("guest: ") else { continue };
            if let Some(verdict) = said.strip_prefix("verdict ") {
                return Ok(Report { costs, verdict: verdict.to_owned() });
            }
            match said.strip_prefix("costs ") {
                Some(json) => costs = Some(json.to_owned()),
                None => say(format!("  {said}")),
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
