//! The host of these tests: files, and processes in a namespace.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use lab::{Namespace, Output};
use serde_json::Value;

use super::BINARY;

/// A host with a folder for dockerd's file, and no dockerd.
pub struct Host {
    pub namespace: Namespace,
    pub folder: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        let namespace = Namespace::new("docker").expect("a namespace");
        Self { namespace, folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("daemon.json")
    }

    pub fn backup(&self) -> PathBuf {
        self.folder.path().join("daemon.json.before-datapath")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub fn write(&self, text: &str) {
        std::fs::write(self.file(), text).expect("writes");
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("reads")
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("lists");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn docker(&self, command: &str) -> Output {
        let (file, socket) = (self.file(), self.socket());
        let (file, socket) = (file.to_str().expect("text"), socket.to_str().expect("text"));
        let words = ["docker"].into_iter().chain(command.split(' ')).chain(["--file", file, "--docker", socket]);
        self.namespace.output(BINARY, words).expect("runs")
    }

    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        self.docker(command).ok().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Must be refused with this in the reason, and leave everything as it was.
    #[track_caller]
    pub fn refuse(&self, command: &str, reason: &str) {
        let before = (self.names(), std::fs::read(self.file()).ok());
        let output = self.docker(command);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains(reason), "wanted `{reason}`: {}", output.stderr);
        assert_eq!((self.names(), std::fs::read(self.file()).ok()), before, "nothing has changed");
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run("status --json")).expect("JSON")
    }

    /// A program of this name that waits, with these words on its command line.
    pub fn process(&self, name: &str, words: &[&str]) -> Running {
        let program = self.folder.path().join(name);
        std::fs::copy("/bin/sh", &program).expect("copies");
        let mut command = self.namespace.command(&program, ["-c", "read end"]);
        let child = command.args(words).stdin(Stdio::piped()).spawn().expect("starts");
        let running = Running(child);
        let comm = format!("/proc/{}/comm", running.0.id());
        // nsenter becomes the program in the same process.
        while std::fs::read_to_string(&comm).expect("it runs").trim_end() != name {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running
    }

    /// Answers as dockerd does.
    pub fn answer(&self, info: &'static str) {
        let listener = UnixListener::bind(self.socket()).expect("binds");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 1_024];
                let length = stream.read(&mut request).unwrap_or(0);
                let found = request[..length].starts_with(b"GET /info ");
                let (status, body) = if found { ("200 OK", info) } else { ("404 Not Found", "{}") };
                // One who asks and goes away is no concern of dockerd's.
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        });
    }
}

/// A process, until this goes.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
