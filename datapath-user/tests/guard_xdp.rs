//! The XDP program of the guard: where it comes, stays and goes, and that the rules hold meanwhile.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{Capture, DaemonOptions, Host, PATIENCE};
use support::Scene;
use support::guarded::{Guarded, NATIVE, native, options};

/// The daemon looks at what no message tells of every five seconds.
const NOTICED: Duration = Duration::from_secs(15);

#[track_caller]
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < NOTICED, "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rules_and_the_program_stay_over_a_restart() {
    for arguments in [NATIVE, &[NATIVE, &["--attach", "clsact"]].concat()] {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        scene.run("guard deny 10.99.0.77 2001:db8:7::/48");
        scene.run("guard limit syn 1000/s --burst 2000");
        let rules = |scene: &Scene| (scene.run("guard ls"), scene.run("guard limit --json"));
        let (before, program) = (rules(scene), native(scene, Host::UPLINK).expect("it is native"));
        let on_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let gaps = scope.spawn(|| {
                let mut gaps = 0;
                while !stop.load(Ordering::Relaxed) {
                    guarded.send(&guarded.datagrams("10.99.0.77", 20));
                    gaps += u32::from(native(scene, Host::UPLINK).is_none());
                }
                gaps
            });
            let restart = |options| {
                scene.kill_daemon().expect("kills");
                std::thread::sleep(Duration::from_millis(100));
                scene.start_daemon_with(options).expect("starts again");
                native(scene, Host::UPLINK).expect("it is native")
            };
            assert_eq!(restart(options(arguments)), program, "it would load the very same");
            let others = DaemonOptions { config: "flood_rate = 77\n".to_owned(), ..options(arguments) };
            assert_ne!(restart(others), program, "the new daemon's program is in the link");
            stop.store(true, Ordering::Relaxed);
            assert_eq!(gaps.join().expect("no panic"), 0, "the device was without a program");
        });
        assert_eq!(rules(scene), before);
        // A socket of the host would see what passes the program.
        let seen = on_host.stop();
        assert!(seen.iter().all(|frame| frame.view.payload != b"flood"), "a denied source was let in meanwhile");
        scene.run("guard undeny --all");
        let on_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
        guarded.send(&guarded.datagrams("10.99.0.77", 1));
        on_host.wait_for(PATIENCE, |frame| frame.view.payload == b"flood").expect("it is let in now");
    }
}

#[test]
fn without_xdp_the_program_goes_and_the_rules_stay() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
    scene.stop_daemon().expect("stops");
    assert!(native(scene, Host::UPLINK).is_some(), "it outlives the daemon");
    scene.start_daemon_with(options(&["--xdp", "off"])).expect("starts");
    // The kernel lets go of links by deferred work.
    wait_for("the end of the program", || native(scene, Host::UPLINK).is_none());
    let by_xdp = guarded.dropped_by_xdp("denied");
    guarded.check(true);
    assert_eq!(guarded.dropped_by_xdp("denied"), by_xdp);

    scene.kill_daemon().expect("kills");
    scene.start_daemon_with(options(NATIVE)).expect("starts");
    assert!(native(scene, Host::UPLINK).is_some());
    guarded.check(true);
    scene.stop_daemon().expect("stops");
    let (status, log) = scene.start_refused(&options(&["--cleanup"]), Duration::from_secs(20)).expect("cleans up");
    assert!(status.success(), "{log}");
    wait_for("the end of the program", || native(scene, Host::UPLINK).is_none());
}

#[test]
fn a_veth_is_refused_unless_asked_for() {
    let guarded = Guarded::start(options(&["--xdp", "native"]));
    let Guarded { scene, .. } = &guarded;
    assert_eq!(native(scene, Host::UPLINK), None);
    let status = scene.json(["status"]).expect("status");
    let uplink = &status["guard"]["uplinks"][0];
    assert_eq!((uplink["name"].as_str(), uplink["native"].as_bool()), (Some(Host::UPLINK), Some(false)), "{status:#}");
    for text in [uplink["reason"].to_string(), scene.run("status"), scene.run("doctor"), scene.daemon_log()] {
        assert!(text.contains("it is a veth") && text.contains("--xdp-on-veth"), "{text}");
    }
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
}

#[test]
fn a_driver_without_xdp_is_told_of_and_goes_on() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    // Neither a bridge nor a device without Ethernet has native XDP.
    scene
        .namespace
        .ip("link add br7 type bridge\naddr add 198.18.7.1/24 dev br7\nlink set br7 up\ntuntap add tun7 mode tun\n\
             addr add 198.18.8.1/24 dev tun7\nlink set tun7 up")
        .expect("made");
    let state = |name: &str| {
        let status = scene.json(["status"]).expect("status");
        let uplinks = status["guard"]["uplinks"].as_array().cloned().unwrap_or_default();
        uplinks.into_iter().find(|uplink| uplink["name"] == name)
    };
    for (name, why) in [("br7", "its driver has no native XDP"), ("tun7", "no Ethernet header")] {
        wait_for(name, || state(name).is_some());
        let state = state(name).expect("just seen");
        assert!(state["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{state}");
        assert!(scene.daemon_log().contains(why), "{}", scene.daemon_log());
    }
    assert!(scene.run("doctor").contains("br7 is not guarded by XDP"));
    guarded.check(false);
}

#[test]
fn uplinks_are_guarded_as_they_come_and_let_go_as_they_leave() {
    let scene = Scene::with(options(NATIVE));
    scene.namespace.ip("link add up7 type veth peer name far7\nlink set far7 up\nlink set up7 up").expect("made");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(native(&scene, "up7"), None, "it is no uplink without an address");
    scene.namespace.ip("addr add 198.18.7.1/24 dev up7").expect("given");
    wait_for("the program on a new uplink", || native(&scene, "up7").is_some());
    scene.namespace.ip("addr flush dev up7").expect("taken");
    wait_for("the end of the program", || native(&scene, "up7").is_none());
    scene.namespace.ip("addr add 198.18.7.1/24 dev up7").expect("given");
    wait_for("the program once more", || native(&scene, "up7").is_some());
    scene.namespace.ip("link del up7").expect("deleted");
    let pins = || lab::run("find", [scene.pins()]).expect("find");
    wait_for("the end of the pin", || pins().matches("links/guard-").count() == 1);
}

#[test]
fn f8_xdp_programs_of_others_are_kept_and_respected() {
    let guarded = Guarded::start(options(&[]));
    let Guarded { scene, .. } = &guarded;
    let foreign = lab::xdp::ForeignXdp::attach(&scene.namespace, Host::UPLINK).expect("attaches");
    let theirs = native(scene, Host::UPLINK).expect("it is there");
    scene.stop_daemon().expect("stops");
    scene.start_daemon_with(options(NATIVE)).expect("starts");
    assert_eq!(native(scene, Host::UPLINK), Some(theirs));
    let text = scene.run("status");
    assert!(text.contains("somebody else's XDP program is on it"), "{text}");
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
    drop(foreign);
    wait_for("ours, once theirs is gone", || native(scene, Host::UPLINK).is_some());
    guarded.check(true);
    wait_for("the word of it", || !scene.run("status").contains("somebody else's"));
}

#[test]
fn a_detached_program_comes_back_and_is_made_up_for() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    scene.run("guard deny 10.99.0.10 fd99::/64");
    let ifindex = scene.namespace.ifindex(Host::UPLINK).expect("there");
    let pin = scene.pins().join(format!("links/guard-{ifindex}"));
    let before = native(scene, Host::UPLINK).expect("native");
    lab::foreign::detach_pinned(&pin).expect("detaches");
    wait_for("the program again", || native(scene, Host::UPLINK).is_some());
    assert_eq!(native(scene, Host::UPLINK), Some(before), "the same program, in a new link");
    guarded.check(true);
}
