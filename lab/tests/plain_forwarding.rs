//! The lab itself, over plain kernel forwarding: what it says of a network that is known to work.

use std::net::SocketAddr;
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Arp, Ethernet, NeighbourMessage, Transport, ethertype};
use lab::lan::address;
use lab::ping::ping;
use lab::probe::Probes;
use lab::{Capture, Family, Lan, Link, Mac, Namespace, Offload, Protocol, Server};

/// A LAN with a host that routes to one machine behind it.
fn routed() -> (Lan, Namespace, Namespace) {
    let lan = Lan::new().expect("a LAN");
    let (host, inner) = (Namespace::new("host").expect("a host"), Namespace::new("inner").expect("a machine"));
    lan.join(&host).expect("joins");
    host.forward().expect("forwards");
    let port = Link { namespace: &host, name: "port0", addresses: &["10.20.0.1/24", "fd20::1/64"] };
    port.join(&Link { namespace: &inner, name: "eth0", addresses: &["10.20.0.2/24", "fd20::2/64"] }).expect("joins");
    inner.ip("route add default via 10.20.0.1\nroute add default via fd20::1").expect("routes");
    lan.machine.ip("route add 10.20.0.0/24 via 192.0.2.1\nroute add fd20::/64 via 2001:db8:2::1").expect("routes");
    (lan, host, inner)
}

#[test]
fn an_exchange_tells_both_sides() {
    let (lan, _host, inner) = routed();
    let server = Server::start(&lan.internet, "far", 80).expect("serves");
    for family in Family::ALL {
        let target = SocketAddr::new(family.of(Lan::INTERNET), 80);
        for protocol in Protocol::ALL {
            let exchange = Client::new(&inner).exchange(protocol, target).expect("is reached");
            assert_eq!(exchange.server, "far");
            assert_eq!(exchange.peer, target);
            assert_eq!(exchange.seen.ip(), family.of(["10.20.0.2", "fd20::2"]));
            assert_eq!(exchange.seen.port(), exchange.local.port());
        }
        let source = SocketAddr::new(family.of(["10.20.0.2", "fd20::2"]), 5555);
        let bound = Client::new(&inner).from(source).exchange(Protocol::Tcp, target).expect("is reached");
        assert_eq!(bound.seen, source);
        assert_eq!(ping(&inner, target.ip(), 7, Duration::from_secs(1)).expect("answers"), target.ip());
    }
    assert_eq!(server.seen().len(), 8);
}

#[test]
fn refusals_are_errors_within_their_time() {
    let (lan, _host, inner) = routed();
    let brief = Client::new(&inner).timeout(Duration::from_millis(200));
    let closed = SocketAddr::new(address(Lan::INTERNET[0]), 81);
    for protocol in Protocol::ALL {
        brief.exchange(protocol, closed).expect_err("nobody listens");
    }
    ping(&inner, address("10.99.0.77"), 7, Duration::from_millis(200)).expect_err("nobody answers");
    drop(lan);
}

#[test]
fn captures_see_what_passes_and_nothing_else() {
    let (lan, host, inner) = routed();
    let _server = Server::start(&lan.internet, "far", 80).expect("serves");
    let capture = Capture::start(&lan.machine, Lan::TO_HOST).expect("captures");
    let target = SocketAddr::new(address(Lan::INTERNET[0]), 80);
    Client::new(&inner).exchange(Protocol::Udp, target).expect("is reached");
    let frames = capture.stop();
    let of_ours = frames.iter().filter(|frame| frame.view.mentions(address("10.20.0.2")));
    let of_ours: Vec<_> = of_ours.filter(|frame| matches!(frame.view.transport, Transport::Udp { .. })).collect();
    assert_eq!(of_ours.len(), 2, "one there and one back: {frames:?}");
    assert!(!of_ours[0].outgoing && of_ours[1].outgoing);
    drop(host);
}

#[test]
fn crafted_frames_arrive_as_they_are() {
    let (lan, host, inner) = routed();
    let (mac, gateway) = (inner.mac("eth0").expect("a MAC"), host.mac("port0").expect("a MAC"));
    let capture = Capture::start(&host, "port0").expect("captures");
    let (from, to) = (address("10.20.0.2"), address("10.20.0.1"));
    let tagged = Ethernet::new(mac, gateway).tag(ethertype::VLAN, 5).ip(from, to).udp(1, 2, b"tagged");
    send_frames(&inner, "eth0", &[tagged]).expect("sends");
    let arrived = capture.wait_for(Duration::from_secs(1), |frame| frame.view.payload == b"tagged");
    assert_eq!(arrived.expect("arrives").view.vlan, Some(5));
    let request = Arp::request((mac, "10.20.0.2".parse().expect("v4")), "10.20.0.1".parse().expect("v4"));
    let solicitation = NeighbourMessage::solicit((mac, "fd20::2".parse().expect("v6")), "fd20::1".parse().expect("v6"));
    send_frames(&inner, "eth0", &[request.frame(mac, Mac::BROADCAST), solicitation]).expect("sends");
    for family in Family::ALL {
        let gateway = family.of(["10.20.0.1", "fd20::1"]);
        let answer = capture.wait_for(Duration::from_secs(1), |frame| {
            frame.outgoing && frame.view.is_neighbour_discovery() && frame.view.source == Some(gateway)
        });
        answer.expect("the kernel answers frames that are right");
    }
    drop(lan);
}

#[test]
fn large_transfers_with_and_without_offloads() {
    let (lan, _host, inner) = routed();
    let _server = Server::start(&lan.internet, "far", 80).expect("serves");
    for offload in [Offload::On, Offload::Off] {
        inner.set_offload("eth0", offload).expect("ethtool");
        for family in Family::ALL {
            let target = SocketAddr::new(family.of(Lan::INTERNET), 80);
            Client::new(&inner).transfer(target, 4 << 20).expect("every byte returns");
        }
    }
}

#[test]
fn probes_find_loss_and_its_absence() {
    let (lan, host, inner) = routed();
    let _server = Server::start(&lan.internet, "far", 80).expect("serves");
    let target = SocketAddr::new(address(Lan::INTERNET[0]), 80);
    let probes = Probes::start(&inner, target).expect("start");
    std::thread::sleep(Duration::from_millis(400));
    probes.stop().expect("stop").check_zero_loss().expect("nothing is lost");

    let probes = Probes::start(&inner, target).expect("start");
    std::thread::sleep(Duration::from_millis(200));
    host.ip("link set port0 down").expect("goes down");
    std::thread::sleep(Duration::from_millis(300));
    host.ip("link set port0 up\naddr replace fd20::1/64 dev port0 nodad").expect("goes up");
    std::thread::sleep(Duration::from_millis(500));
    let findings = probes.stop().expect("stop");
    findings.check_zero_loss().expect_err("an interface was down");
    assert!(findings.datagrams_lost > 0, "{findings:?}");
}
