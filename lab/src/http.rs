//! Requests to daemons on unix sockets without their commands, which take longer to start than a daemon to answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// `GET <path>`, and the body of the answer.
pub fn get(socket: &Path, path: &str) -> io::Result<String> {
    ask(socket, "GET", path, "")
}

/// `<method> <path>` with this body, and the body of the answer. By HTTP/1.0, so that its end is that of the connection.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = body.len();
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.lines().next() {
        Some(status) if status.contains(" 200 ") => Ok(body.to_owned()),
        status => Err(io::Error::other(format!("{method} {path}: {} {body}", status.unwrap_or("no answer")))),
    }
}
