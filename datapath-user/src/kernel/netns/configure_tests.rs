//! A host and a container, both namespaces of this test, with real pairs between them.

use std::collections::HashSet;
use std::fs::File;
use std::net::IpAddr;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::{ContainerInterface, Netns, configure_container, deconfigure_container};
use crate::kernel::netlink::{EndpointPair, Link, MAIN_TABLE, Netlink, Route, Rule};
use crate::kernel::{scratch, sysctl};

/// A new namespace that lives as long as this.
fn container() -> (File, Netns) {
    let file = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests of the kernel layer run as root");
        File::open("/proc/thread-self/ns/net").expect("our own")
    });
    let file = file.join().expect("no panic");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let netns = Netns::open(&path).expect("a namespace");
    (file, netns)
}

fn interface(name: &str, number: u8) -> ContainerInterface {
    ContainerInterface {
        name: name.into(),
        mac: [2, 0, 0, 0, 1, number],
        mtu: 1_400,
        ipv4: Some(format!("10.{number}.0.2/24").parse().expect("a literal")),
        ipv6: Some(format!("fd00:{number}::2/64").parse().expect("a literal")),
        gateway_v4: Some(format!("10.{number}.0.1").parse().expect("a literal")),
        gateway_v6: Some(format!("fd00:{number}::1").parse().expect("a literal")),
    }
}

async fn plug(netlink: &Netlink, netns: &Netns, interface: &ContainerInterface) -> u32 {
    let pair = EndpointPair {
        host_name: format!("kt-{}", interface.name),
        container_name: interface.name.clone(),
        mac: interface.mac,
        mtu: interface.mtu,
        big_tcp: false,
    };
    let index = netlink.create_endpoint_pair(&pair, std::os::fd::AsFd::as_fd(netns)).await.expect("a pair");
    configure_container(netns, interface).await.expect("configured");
    netlink.set_up(index).await.expect("up");
    index
}

async fn inside(netns: &Netns) -> (Vec<Link>, Vec<Route>) {
    let look = || async {
        let netlink = Netlink::open()?;
        Ok((netlink.links().await?, netlink.routes().await?))
    };
    netns.run_async(look).await.expect("readable")
}

async fn rules(netns: &Netns) -> Vec<Rule> {
    netns.run_async(|| async { Netlink::open()?.rules().await }).await.expect("readable")
}

fn defaults(routes: &[Route]) -> Vec<IpAddr> {
    let main = routes.iter().filter(|route| route.is_default() && route.table == MAIN_TABLE);
    main.filter_map(|route| route.gateway).collect()
}

#[test]
fn interfaces_are_configured_and_the_default_route_moves_on() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        let (_file, netns) = container();
        let (first, second) = (interface("eth0", 1), interface("eth1", 2));
        let port = plug(&netlink, &netns, &first).await;
        assert_eq!(rules(&netns).await, [], "nothing to choose from");
        plug(&netlink, &netns, &second).await;

        let of_both = ["10.1.0.2", "fd00:1::2", "10.2.0.2", "fd00:2::2"].map(|text| text.parse().expect("a literal"));
        let sources: HashSet<IpAddr> = rules(&netns).await.iter().map(|rule| rule.source).collect();
        assert_eq!(sources, of_both.into());
        let (links, routes) = inside(&netns).await;
        let eth0 = links.iter().find(|link| link.name == "eth0").expect("there");
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(first.mac), 1_400, true));
        assert!(links.iter().any(|link| link.name == "lo" && link.up));
        let gateways: Vec<IpAddr> = ["10.1.0.1", "fd00:1::1"].map(|text| text.parse().expect("a literal")).into();
        assert_eq!(defaults(&routes), gateways);
        // A source of the second interface leaves by the second interface (I4).
        let route = |from: &'static str, to: &'static str| {
            netns.run(move || {
                let output = std::process::Command::new("ip").args(["route", "get", to, "from", from]).output()?;
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            })
        };
        assert!(route("10.2.0.2", "192.0.2.1").expect("runs").contains("via 10.2.0.1 dev eth1"));
        assert!(route("fd00:2::2", "2001:db8::1").expect("runs").contains("via fd00:2::1 dev eth1"));
        assert!(route("10.1.0.2", "192.0.2.1").expect("runs").contains("via 10.1.0.1 dev eth0"));
        // A source of the first one does so too where the second has the subnet.
        assert!(route("10.1.0.2", "10.2.0.9").expect("runs").contains("via 10.1.0.1 dev eth0"));
        assert!(route("fd00:1::2", "fd00:2::9").expect("runs").contains("via fd00:1::1 dev eth0"));

        deconfigure_container(&netns, &first).await.expect("deconfigured");
        netlink.delete_link(port).await.expect("deleted");
        deconfigure_container(&netns, &first).await.expect("again, without the interface");
        let (_, routes) = inside(&netns).await;
        let gateways: Vec<IpAddr> = ["10.2.0.1", "fd00:2::1"].map(|text| text.parse().expect("a literal")).into();
        assert_eq!(defaults(&routes), gateways);
    });
}

#[test]
fn without_ipv6_there_is_none() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        let (_file, netns) = container();
        let only_v4 = ContainerInterface { ipv6: None, gateway_v6: None, ..interface("eth0", 3) };
        plug(&netlink, &netns, &only_v4).await;
        let disabled = netns.run(|| sysctl::read("net/ipv6/conf/eth0/disable_ipv6")).expect("readable");
        assert_eq!(disabled, "1");
        // Not in the namespace of the thread that asked.
        assert!(sysctl::read("net/ipv6/conf/eth0/disable_ipv6").is_err());
    });
}

#[test]
fn a_taken_name_is_refused_with_its_place() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        let (_file, netns) = container();
        plug(&netlink, &netns, &interface("eth0", 1)).await;
        let netns = std::os::fd::AsFd::as_fd(&netns);
        let pair = |host: &str| EndpointPair {
            host_name: host.into(),
            container_name: "eth0".into(),
            mac: [2, 0, 0, 0, 1, 9],
            mtu: 1_500,
            big_tcp: false,
        };
        let error = netlink.create_endpoint_pair(&pair("kt-other"), netns).await.expect_err("eth0 is there");
        assert!(error.to_string().contains("in the container"), "{error:#}");
        let error = netlink.create_endpoint_pair(&pair("kt-eth0"), netns).await.expect_err("kt-eth0 is there");
        assert!(error.to_string().contains("on the host"), "{error:#}");
        assert!(netlink.link_named("kt-other").await.expect("readable").is_none());
    });
}
