//! Behaviour B6, and N9 where it speaks of path MTU discovery: what is too large for where it goes is answered by the
//! programs, the right end learns the MTU, and everything arrives. Routers farther away: icmp_errors.rs.

mod support;

use std::net::{IpAddr, SocketAddr};

use lab::client::{Client, ask};
use lab::icmp_error::{IcmpError, Inquirer};
use lab::{Container, Family, Lan, Namespace, Offload, PATIENCE};
use support::{REFUSAL, Scene, assert_no_leak, at, endpoint, gateway, of, serve};

/// Who sends on a path, where to, how much fits, and who says so.
struct Path<'a> {
    name: &'a str,
    sender: &'a Namespace,
    /// Its address there.
    own: IpAddr,
    target: SocketAddr,
    /// Where that is. What is known there of the way back bounds what is asked for.
    receiver: &'a Namespace,
    mtu: u32,
    router: IpAddr,
}

impl Path<'_> {
    fn route(&self) -> String {
        let (to, from) = (self.target.ip().to_string(), self.own.to_string());
        self.sender.run("ip", ["route", "get", &to, "from", &from]).expect("ip")
    }

    #[track_caller]
    fn knows(&self, mtu: Option<u32>) {
        let route = self.route();
        let known =
            route.split_whitespace().skip_while(|word| *word != "mtu").nth(1).map(|mtu| mtu.parse().expect("an MTU"));
        assert_eq!(known, mtu, "{}: {route}", self.name);
    }

    fn forget(&self) {
        for (namespace, family) in
            [(self.sender, "-4"), (self.sender, "-6"), (self.receiver, "-4"), (self.receiver, "-6")]
        {
            namespace.run("ip", [family, "route", "flush", "cache", "table", "all"]).expect("ip");
        }
        self.knows(None);
    }

    /// A stream in both directions arrives, and its sender has learnt how much fits.
    #[track_caller]
    fn carries_a_stream(&self) {
        self.forget();
        let result = Client::new(self.sender).transfer(self.target, 1 << 20);
        result.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.knows(Some(self.mtu));
    }

    /// A datagram that is too large is answered, and one that just fits is not.
    #[track_caller]
    fn tells_of_datagrams(&self) {
        self.forget();
        let headers = if self.target.is_ipv4() { 28 } else { 48 };
        let inquirer = Inquirer::new(&Client::new(self.sender), self.target).expect("a socket");
        let largest = vec![7; (self.mtu - headers) as usize];
        let too_large = [largest.as_slice(), &[7]].concat();
        inquirer.send(self.target, 64, &too_large).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let [kind, code] = if self.target.is_ipv4() { [3, 4] } else { [2, 0] };
        let error = inquirer.error(PATIENCE).expect("an error queue");
        let wanted = IcmpError { kind, code, sender: self.router, target: self.target };
        assert_eq!(error, Some(wanted), "{}", self.name);
        inquirer.send(self.target, 64, &largest).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(inquirer.error(REFUSAL / 4).expect("an error queue"), None, "{}: {} bytes fit", self.name, self.mtu);
        // The answer is longer than what it echoes.
        let smaller = &largest[..largest.len() - 100];
        ask(inquirer.socket(), self.target, smaller).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// As [`Self::tells_of_datagrams`], and the sender has learnt how much fits.
    #[track_caller]
    fn carries_datagrams(&self) {
        self.tells_of_datagrams();
        self.knows(Some(self.mtu));
    }

    #[track_caller]
    fn carries_all(&self) {
        self.carries_a_stream();
        self.carries_datagrams();
    }
}

fn set_mtu(namespace: &Namespace, interface: &str, mtu: u32) {
    namespace.ip(&format!("link set {interface} mtu {mtu}")).expect("set");
}

/// Gives the container's interface another MTU than its network has, as somebody inside and somebody on the host could.
fn widen(scene: &Scene, container: &Container) {
    set_mtu(&container.namespace, "eth0", 1_500);
    set_mtu(&scene.namespace, &scene.host_side(container, "eth0"), 1_500);
}

#[test]
fn b6_a_narrow_uplink_is_learnt_by_containers() {
    const NARROW: u32 = 1_400;
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("8080:80", "a");
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    let _servers = (serve(internet, "far", 80), serve(&a.namespace, "a", 80));
    let uplink = scene.watch_uplink();
    scene.kill_daemon().expect("it runs");
    // Without a daemon to see it.
    set_mtu(&scene.namespace, "up0", NARROW);
    set_mtu(machine, Lan::TO_HOST, NARROW);
    for offload in [Offload::On, Offload::Off] {
        a.namespace.set_offload("eth0", offload).expect("ethtool");
        for family in Family::ALL {
            let out = Path {
                name: "out",
                sender: &a.namespace,
                own: of(family, endpoint(1, 10)),
                target: at(family.of(Lan::INTERNET), 80),
                receiver: &scene.lan().internet,
                mtu: NARROW,
                router: of(family, gateway(1)),
            };
            out.carries_all();
            // The server behind the published port has to learn it for what it answers.
            let answers = Path { name: "answers", target: at(family.of(Lan::INTERNET), 0), ..out };
            answers.forget();
            Client::new(internet).transfer(at(family.of(Lan::HOST), 8080), 1 << 20).expect("arrives");
            answers.knows(Some(NARROW));
        }
    }
    assert_no_leak(uplink);
}

#[test]
fn b6_the_routes_own_mtu_counts() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&scene.lan().internet, "far", 80);
    scene
        .namespace
        .ip("route change default via 192.0.2.10 mtu lock 1350\nroute change default via 2001:db8:2::10 mtu lock 1350")
        .expect("set");
    for family in Family::ALL {
        let path = Path {
            name: "out",
            sender: &a.namespace,
            own: of(family, endpoint(1, 10)),
            target: at(family.of(Lan::INTERNET), 80),
            receiver: &scene.lan().internet,
            mtu: 1_350,
            router: of(family, gateway(1)),
        };
        path.carries_all();
    }
}

#[test]
fn b6_a_narrow_network_is_learnt_by_all_who_send_there() {
    const NARROW: u32 = 1_300;
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, &format!("--mtu {NARROW}"));
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 2, 11), scene.join("c", 2, 12));
    scene.publish("8080:80", "b");
    let _server = serve(&b.namespace, "b", 80);
    // The server asks for larger segments than its network takes, and the sibling sends some.
    widen(&scene, &b);
    widen(&scene, &c);
    for family in Family::ALL {
        let (host, inside) = (family.of(Lan::HOST), of(family, endpoint(2, 11)));
        let path = |name, sender, own, target, router| Path {
            name,
            sender,
            own,
            target,
            receiver: &b.namespace,
            mtu: NARROW,
            router,
        };
        let (near, far) = (of(family, gateway(1)), of(family, gateway(2)));
        let (at_a, at_c) = (of(family, endpoint(1, 10)), of(family, endpoint(2, 12)));
        let internet = &scene.lan().internet;
        path("from outside", internet, family.of(Lan::INTERNET), at(host, 8080), host).carries_all();
        path("from another network", &a.namespace, at_a, at(host, 8080), near).carries_all();
        path("from a sibling", &c.namespace, at_c, at(inside, 80), far).carries_all();
        path("from a sibling, by the host", &c.namespace, at_c, at(host, 8080), far).carries_all();
        // The kernel does not keep what is told of another address of its own than that of lo, and a connection over lo
        // goes on as it began.
        path("from the host", &scene.namespace, host, at(host, 8080), host).tells_of_datagrams();
        let loopback = family.of(["127.0.0.1", "::1"]);
        path("by loopback", &scene.namespace, loopback, at(loopback, 8080), loopback).carries_datagrams();
        // The host's own stack knows the MTU of the gateway device, and fragments.
        let socket = Client::new(&scene.namespace).datagrams(at(inside, 80)).expect("a socket");
        ask(&socket, at(inside, 80), &[7; 2_000]).expect("arrives");
    }
}
