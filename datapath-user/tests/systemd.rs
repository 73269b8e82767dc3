//! What systemd is told, as the unit of the package has it: ready, alive, stopping.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lab::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BINARY: &str = env!("CARGO_BIN_EXE_datapath");

/// A daemon that systemd would watch, and what it tells.
struct Watched {
    daemon: Child,
    manager: UnixDatagram,
    pins: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _namespace: Namespace,
}

impl Watched {
    fn start(limit: Duration) -> Self {
        let namespace = Namespace::new("watched").expect("a namespace");
        let folder = tempfile::tempdir().expect("a folder");
        let [socket, state, notify] = ["socket", "state", "notify"].map(|name| folder.path().join(name));
        // Named after the namespace, so that the sweep of a later run finds it.
        let pins = std::path::Path::new("/sys/fs/bpf").join(namespace.name());
        let manager = UnixDatagram::bind(&notify).expect("binds");
        manager.set_read_timeout(Some(Duration::from_millis(50))).expect("settable");
        let mut command = namespace.command(BINARY, ["daemon", "--socket"]);
        command.arg(socket).arg("--state-dir").arg(state).arg("--pin-dir").arg(&pins);
        command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", limit.as_micros().to_string());
        let daemon = command.env_remove("WATCHDOG_PID").stdin(Stdio::null()).spawn().expect("starts");
        Self { daemon, manager, pins, _folder: folder, _namespace: namespace }
    }

    /// Waits for a message, and counts those before it.
    fn wait_for(&self, wanted: &str, limit: Duration) -> Option<usize> {
        let (end, mut others) = (Instant::now() + limit, 0);
        let mut message = [0; 256];
        while Instant::now() < end {
            let Ok(length) = self.manager.recv(&mut message) else { continue };
            if &message[..length] == wanted.as_bytes() {
                return Some(others);
            }
            others += 1;
        }
        None
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.daemon.id()).expect("a pid is small"));
        kill(pid, signal).expect("the daemon runs");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

#[test]
fn ready_alive_and_stopping_are_told() {
    let limit = Duration::from_millis(1_500);
    let mut watched = Watched::start(limit);
    assert!(watched.wait_for("READY=1", Duration::from_secs(60)).is_some(), "it becomes ready");
    for _ in 0..5 {
        assert!(watched.wait_for("WATCHDOG=1", limit).is_some(), "it says in time that it lives");
    }
    watched.signal(Signal::SIGSTOP);
    std::thread::sleep(limit);
    while watched.wait_for("WATCHDOG=1", Duration::from_millis(1)).is_some() {}
    assert_eq!(watched.wait_for("WATCHDOG=1", limit * 2), None, "one that hangs does not say that it lives");
    watched.signal(Signal::SIGCONT);
    assert!(watched.wait_for("WATCHDOG=1", limit * 2).is_some());
    watched.signal(Signal::SIGTERM);
    assert!(watched.wait_for("STOPPING=1", Duration::from_secs(10)).is_some());
    assert!(watched.daemon.wait().expect("ends").success());
}
