//! Behaviour N3: the states of TCP connections.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Ethernet, TcpSegment, Transport, tcp_flags};
use lab::{Capture, Family, Lan, PATIENCE};
use support::{Scene, address, at, bound, serve};

#[test]
fn n3_half_closed_connections_go_on_in_the_other_direction() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("8080:9000", "a");
    for family in Family::ALL {
        let any = if family == Family::V4 { "0.0.0.0:9000" } else { "[::]:9000" };
        // Masqueraded out, published in, and published from the host itself.
        let outward = at(family.of(Lan::INTERNET), 9000);
        let inward = at(family.of(Lan::HOST), 8080);
        let loopback = at(family.of(["127.0.0.1", "::1"]), 8080);
        for (client, server, target) in [
            (&a.namespace, &scene.lan().internet, outward),
            (&scene.lan().machine, &a.namespace, inward),
            (&scene.namespace, &a.namespace, loopback),
        ] {
            let listener = server.enter(|| TcpListener::bind(any)).expect("binds");
            let after_end = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
                let (mut stream, _) = listener.accept()?;
                let mut asked = Vec::new();
                stream.read_to_end(&mut asked)?;
                for _ in 0..5 {
                    std::thread::sleep(Duration::from_millis(20));
                    stream.write_all(b"still here ")?;
                }
                Ok(asked)
            });
            let mut stream = Client::new(client).stream(target).expect("connects");
            stream.write_all(b"all of it").expect("sends");
            stream.shutdown(std::net::Shutdown::Write).expect("half-closes");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("the other direction goes on");
            assert_eq!(answer, "still here ".repeat(5), "{target}");
            assert_eq!(after_end.join().expect("no panic").expect("serves"), b"all of it");
        }
    }
}

#[test]
fn n3_states_and_deadlines_of_tcp() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    let flows = || scene.run("flow ls --json");
    let silent = Client::new(&a.namespace).timeout(Duration::from_millis(100));
    silent.stream(at(address("10.99.0.77"), 81)).expect_err("nobody is there");
    let mut connection = Client::new(&a.namespace).connect(at(address(Lan::INTERNET[0]), 80)).expect("connects");
    connection.say(b"hello").expect("echoes");
    let listed = flows();
    assert!(listed.contains("10.99.0.77") && listed.contains("10.99.0.10"), "{listed}");
    let states = || -> Vec<(String, String)> {
        let flows = scene.json(["flow", "ls"]).expect("JSON");
        let flows = flows.as_array().expect("a list").clone();
        flows.iter().map(|flow| (flow.to_string(), flow["state"].as_str().unwrap_or_default().to_owned())).collect()
    };
    let state_of = |target: &str| states().into_iter().find(|(flow, _)| flow.contains(target)).map(|(_, state)| state);
    let (half_open, established) = (state_of("10.99.0.77"), state_of("10.99.0.10"));
    assert_ne!(half_open, established, "half-open and established are told apart: {listed}");
    connection.finish().expect("closes");
    let end = Instant::now() + PATIENCE;
    while state_of("10.99.0.10") == established && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(state_of("10.99.0.10"), established, "closed is told from established");
}

#[test]
fn n3_simultaneous_open_passes() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    // The far end answers a SYN by a SYN of its own (RFC 9293 section 3.5), so no kernel may answer there.
    scene.lan().internet.ip("addr add 10.99.0.66/24 dev eth0").expect("an address");
    let far = &scene.lan().internet;
    far.run("nft", ["add table ip quiet; add chain ip quiet in { type filter hook input priority 0; }; add rule ip quiet in ip daddr 10.99.0.66 drop"]).expect("nft");
    let on_far = Capture::start(far, "eth0").expect("captures");
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let target = at(address("10.99.0.66"), 80);
    let connecting = bound(&a.namespace, target.ip(), 5800).timeout(Duration::from_millis(1500));
    std::thread::scope(|scope| {
        let attempt = scope.spawn(move || connecting.stream(target));
        let is_syn = |flags: u8| flags & tcp_flags::SYN != 0 && flags & tcp_flags::ACK == 0;
        let syn =
            on_far.wait_for(PATIENCE, |f| matches!(f.view.transport, Transport::Tcp { flags, .. } if is_syn(flags)));
        let syn = syn.expect("the SYN gets out");
        let sequence = u32::from_be_bytes(syn.bytes[38..42].try_into().expect("four bytes"));
        let Transport::Tcp { source, .. } = syn.view.transport else { panic!("{syn:?}") };
        let answer = |flags, acknowledgement, sequence| {
            Ethernet::new(syn.view.destination_mac, syn.view.source_mac)
                .ip(target.ip(), syn.view.source.expect("IP"))
                .tcp(TcpSegment { source: 80, destination: source, sequence, acknowledgement, flags }, b"")
        };
        send_frames(far, "eth0", &[answer(tcp_flags::SYN, 0, 1000)]).expect("sends");
        let inside = on_a.wait_for(PATIENCE, |f| {
            !f.outgoing && matches!(f.view.transport, Transport::Tcp { flags, .. } if is_syn(flags))
        });
        inside.expect("the crossing SYN gets in");
        let both = tcp_flags::SYN | tcp_flags::ACK;
        send_frames(far, "eth0", &[answer(both, sequence.wrapping_add(1), 1000)]).expect("sends");
        attempt.join().expect("no panic").expect("the connection is established");
    });
}
