//! Behaviour B4: what is learnt, for how long, and how much of it.

mod support;

use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::frame::ethertype;
use lab::{Capture, Mac, PATIENCE, Protocol};
use support::nest::{Learning, PAUSE, STRANGER, between, fdb, mac_of, plain, send};
use support::{at, reach, serve};

/// learning_test of the kernel (tools/testing/selftests/net/forwarding/lib.sh): a record appears with the first frame, leads to the
/// port and no other, and goes by itself.
#[test]
fn b4_a_station_is_learnt_used_and_forgotten() {
    let net = Learning::start("--ageing 2");
    let [h1, h2] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    assert_eq!(net.learnt(STRANGER), None);
    send(h1, plain(STRANGER, Mac::BROADCAST));
    assert_eq!(net.learnt(STRANGER).as_deref(), Some("a"));

    // The programs alone forget it.
    net.scene.kill_daemon().expect("killed");
    let at_first = Capture::start(h1, "eth0").expect("captures");
    let third = net.watch_third();
    send(h2, plain(mac_of(h2), STRANGER));
    at_first.wait_for(PATIENCE, |frame| frame.view.destination_mac == STRANGER).expect("it leads to the port");
    std::thread::sleep(PAUSE);
    assert_eq!(between(&third.stop(), mac_of(h2), STRANGER), 0, "and to no other");
    std::thread::sleep(Duration::from_millis(2_500));
    let third = net.watch_third();
    send(h2, plain(mac_of(h2), STRANGER));
    third.wait_for(PATIENCE, |frame| frame.view.destination_mac == STRANGER).expect("flooded: it is forgotten");
    net.scene.start_daemon().expect("ready");
    assert_eq!(net.learnt(STRANGER), None);
}

#[test]
fn b4_what_is_heard_is_not_forgotten() {
    let net = Learning::start("--ageing 3");
    let [h1, h2] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    send(h1, plain(STRANGER, mac_of(h2)));
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(500));
        send(h1, plain(STRANGER, mac_of(h2)));
    }
    assert_eq!(net.learnt(STRANGER).as_deref(), Some("a"));
    let third = net.watch_third();
    send(h2, plain(mac_of(h2), STRANGER));
    std::thread::sleep(PAUSE);
    assert_eq!(between(&third.stop(), mac_of(h2), STRANGER), 0);
}

#[test]
fn b4_a_station_that_moves_is_found_where_it_is() {
    let net = Learning::start("");
    let [h1, h2] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    for (home, name, away) in [(h1, "a", h2), (h2, "b", h1), (h1, "a", h2)] {
        send(home, plain(STRANGER, Mac::BROADCAST));
        assert_eq!(net.learnt(STRANGER).as_deref(), Some(name));
        let [at_home, at_away] = [home, away].map(|namespace| Capture::start(namespace, "eth0").expect("captures"));
        let from = mac_of(&net.third.namespace);
        send(&net.third.namespace, plain(from, STRANGER));
        at_home.wait_for(PATIENCE, |frame| frame.view.destination_mac == STRANGER).expect("it arrives");
        std::thread::sleep(PAUSE);
        assert_eq!(between(&at_away.stop(), from, STRANGER), 0, "only where it is now");
    }
    assert_eq!(fdb(&net.scene, "learnt").iter().filter(|(mac, _)| *mac == STRANGER.to_string()).count(), 1);
}

#[test]
fn b4_an_endpoint_that_leaves_takes_its_stations_with_it() {
    let net = Learning::start("");
    let [h1, h2] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    send(h1, plain(STRANGER, Mac::BROADCAST));
    assert_eq!(net.learnt(STRANGER).as_deref(), Some("a"));
    net.scene.run("detach a");
    assert_eq!(net.learnt(STRANGER), None);
    // The next one gets the same table, with nothing in it.
    let next = net.scene.join("next", 1, 13);
    assert_eq!(net.learnt(STRANGER), None);
    let at_next = Capture::start(&next.namespace, "eth0").expect("captures");
    let third = net.watch_third();
    send(h2, plain(mac_of(h2), STRANGER));
    for capture in [third, at_next] {
        capture.wait_for(PATIENCE, |frame| frame.view.destination_mac == STRANGER).expect("nobody knows it");
    }
}

#[test]
fn b4_one_port_cannot_take_the_room_of_others() {
    let net = Learning::start("--ageing 4");
    let [s, t] = net.stations();
    let _server = serve(&t.namespace, "t", 80);
    let [h1, h2] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    reach(&s.namespace, Protocol::Tcp, at(t.addresses[0], 80));
    let to = mac_of(h2);
    let made = |number: u16| Mac([2, 0x66, 0, 0, (number >> 8) as u8, number as u8]);
    let frames: Vec<_> = (0..10_000).map(|number| plain(made(number), to)).collect();
    let at_second = Capture::start(h2, "eth0").expect("captures");
    send_frames(h1, "eth0", &frames).expect("sends");
    let learnt = fdb(&net.scene, "learnt");
    let behind = |name: &str| learnt.iter().filter(|(_, endpoint)| endpoint == name).count();
    assert_eq!(behind("a"), 256, "no more than a port may have");
    assert_eq!(net.learnt(t.mac).as_deref(), Some("b"), "others keep theirs");
    assert_eq!(net.learnt(s.mac).as_deref(), Some("a"), "and those that were there first");
    assert!(net.scene.metric("stations_refused").expect("counted") >= 9_700);
    let arrived = at_second.stop().iter().filter(|f| !f.outgoing && f.view.ethertype == ethertype::EXPERIMENT).count();
    assert_eq!(arrived, frames.len(), "what is not learnt is switched all the same");
    // A port that others are behind learns on.
    send(&net.third.namespace, plain(STRANGER, to));
    assert_eq!(net.learnt(STRANGER).as_deref(), Some("c"));
    reach(&s.namespace, Protocol::Tcp, at(t.addresses[0], 80));

    // When those are over, there is room again.
    std::thread::sleep(Duration::from_millis(4_500));
    send(h1, plain(made(20_000), to));
    assert_eq!(net.learnt(made(20_000)).as_deref(), Some("a"));
}
