//! dockerd's socket: missing, refused, garbled, and another one's.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::Lan;
use lab::docker::{DockerdOptions, Rules};

use super::{both, converge, reach, serve, start};

/// Answers that no dockerd gives; a connection gets one of them.
const GARBAGE: [&[u8]; 7] = [
    b"",
    b"\x00\xff\xfe\x80 what?\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n[{\"Id\": 7, \"Nam\x80\"",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{",
];

/// Something that is not dockerd behind dockerd's socket, until it is dropped.
struct Impostor {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Impostor {
    fn serve(socket: &std::path::Path, answered: &Arc<AtomicUsize>) -> Self {
        // dockerd has left its file.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("binds");
        listener.set_nonblocking(true).expect("a listener");
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::clone(answered));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = listener.accept() else {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    let garbage = GARBAGE[answered.fetch_add(1, Ordering::Relaxed) % GARBAGE.len()];
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
                    let _ = stream.read(&mut [0; 4096]);
                    // The daemon may have hung up first.
                    let _ = stream.write_all(garbage);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn garbage_on_the_socket_changes_nothing() {
    let scene = start(DockerdOptions::new(Rules::Datapath).with_live_restore());
    let host = scene.datapath().expect("the datapath");
    serve(&scene, "web", "-p 8080:80 -p 8080:80/udp");
    converge(&scene);
    let pid = host.daemon_pid().expect("runs");
    scene.dockerd.stop().expect("stops");
    let answered = Arc::<AtomicUsize>::default();
    let impostor = Impostor::serve(&scene.dockerd.socket(), &answered);
    let end = Instant::now() + Duration::from_secs(20);
    while answered.load(Ordering::Relaxed) < GARBAGE.len() {
        assert!(Instant::now() < end, "the daemon asked only {answered:?} times");
        reach(&scene.lan.machine, &both(Lan::HOST), 8080, "web");
    }
    drop(impostor);
    let log = host.daemon_log();
    assert!(log.contains(&scene.dockerd.socket().display().to_string()), "the log names the socket:\n{log}");
    scene.dockerd.start_again().expect("starts again");
    converge(&scene);
    serve(&scene, "new", "-p 8090:80 -p 8090:80/udp");
    converge(&scene);
    reach(&scene.lan.machine, &both(Lan::HOST), 8080, "web");
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "new");
    assert_eq!(host.daemon_pid().expect("runs"), pid, "it is still the same process");
}
