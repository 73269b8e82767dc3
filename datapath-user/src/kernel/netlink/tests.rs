//! Requests against a namespace of the test's own.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use futures::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::link::LinkAttribute;
use tokio::time::timeout;

use super::{BIG_TCP, EndpointPair, GatewayPair, LEGACY_TCP, Netlink, UplinkRule, Watch, uplinks};
use crate::kernel::scratch;

fn pair() -> GatewayPair {
    GatewayPair {
        name: "kt-gw".into(),
        far_name: "kt-gw-far".into(),
        mac: [2, 0, 0, 0, 0, 1],
        far_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1_420,
        big_tcp: false,
    }
}

#[test]
fn gateway_pairs_come_and_go() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        let (near, far) = netlink.create_gateway_pair(&pair()).await.expect("new");
        let link = netlink.link(near).await.expect("readable").expect("there");
        assert_eq!((link.name.as_str(), link.mac, link.mtu, link.up), ("kt-gw", Some(pair().mac), 1_420, false));
        assert_eq!((link.kind.as_deref(), link.hardware, link.peer_index), (Some("veth"), 1, Some(far)));
        let error = netlink.create_gateway_pair(&pair()).await.expect_err("taken");
        assert!(error.to_string().contains("already exists"), "{error:#}");

        for address in ["10.5.0.1/24", "fd00:5::1/64"] {
            let address = address.parse().expect("a literal");
            netlink.add_address(near, address).await.expect("new");
            netlink.add_address(near, address).await.expect("there already");
        }
        netlink.set_up(near).await.expect("up");
        netlink.set_up(far).await.expect("up");
        let addresses = netlink.addresses().await.expect("readable");
        let of_pair = addresses.iter().filter(|address| address.ifindex == near);
        assert!(of_pair.clone().any(|address| address.address.is_ipv4() && address.is_global()));
        assert!(of_pair.clone().any(|address| address.address.is_ipv6() && address.usable && address.prefix == 64));
        let rule = UplinkRule { own_prefix: "other-", names: &[], adopted_bridges: &[] };
        let links = netlink.links().await.expect("readable");
        assert_eq!(uplinks(&links, &addresses, &rule).len(), 1);
        assert!(uplinks(&links, &addresses, &UplinkRule { own_prefix: "kt-", ..rule }).is_empty());

        netlink.delete_address(near, "10.5.0.1/24".parse().expect("a literal")).await.expect("deleted");
        netlink.delete_address(near, "10.5.0.1/24".parse().expect("a literal")).await.expect("missing is no error");
        netlink.delete_link_named("kt-gw").await.expect("deleted");
        netlink.delete_link_named("kt-gw").await.expect("missing is no error");
        netlink.delete_link(near).await.expect("missing is no error");
        assert!(netlink.link(far).await.expect("readable").is_none());
    });
}

/// The limits of a device: largest packets of TCP by IPv4 and by IPv6, made and put together.
async fn limits(netlink: &Netlink, index: u32) -> [u32; 4] {
    let found = netlink.handle.link().get().match_index(index).execute().try_next().await;
    let attributes = found.expect("readable").expect("there").attributes;
    let limit = |of: fn(&LinkAttribute) -> Option<u32>| attributes.iter().find_map(of).expect("Linux 6.3 or later");
    [
        limit(|attribute| if let LinkAttribute::GsoIpv4MaxSize(size) = attribute { Some(*size) } else { None }),
        limit(|attribute| if let LinkAttribute::GsoMaxSize(size) = attribute { Some(*size) } else { None }),
        limit(|attribute| if let LinkAttribute::GroIpv4MaxSize(size) = attribute { Some(*size) } else { None }),
        limit(|attribute| if let LinkAttribute::GroMaxSize(size) = attribute { Some(*size) } else { None }),
    ]
}

#[test]
fn both_ends_of_a_pair_take_large_packets() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        for (big_tcp, size) in [(false, LEGACY_TCP), (true, BIG_TCP)] {
            let (near, far) = netlink.create_gateway_pair(&GatewayPair { big_tcp, ..pair() }).await.expect("new");
            for end in [near, far] {
                assert_eq!(limits(&netlink, end).await, [size; 4]);
            }
            netlink.delete_link(near).await.expect("deleted");
        }
    });
}

#[test]
fn changes_are_told_even_after_an_overrun() {
    scratch::in_namespace_async(async || {
        const SOON: Duration = Duration::from_secs(5);
        let netlink = Netlink::open().expect("a socket");
        let mut watch = Watch::open().expect("a socket");
        assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err(), "nothing has changed");
        let (near, _) = netlink.create_gateway_pair(&pair()).await.expect("new");
        timeout(SOON, watch.changed()).await.expect("told").expect("works");
        // Many more messages than the socket has room for, unread.
        for round in 0..1_500_u32 {
            netlink.set_mtu(near, 1_400 + round % 2).await.expect("set");
        }
        timeout(SOON, watch.changed()).await.expect("told").expect("an overrun is no error");
        while timeout(Duration::from_millis(50), watch.changed()).await.is_ok() {}
        netlink.delete_link(near).await.expect("deleted");
        timeout(SOON, watch.changed()).await.expect("told").expect("works");
    });
}

#[test]
fn the_far_end_in_another_namespace_is_asked_for_by_its_id() {
    scratch::in_namespace_async(async || {
        let netlink = Netlink::open().expect("a socket");
        let (sender, inside) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let container = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of its own");
            sender.send(File::open("/proc/thread-self/ns/net").expect("opened")).expect("sent");
            ended.recv().expect("told to end");
        });
        let inside = inside.recv().expect("a namespace");
        let pair = EndpointPair {
            host_name: "kt-host".to_owned(),
            container_name: "eth7".to_owned(),
            mac: [2, 0, 0, 0, 0, 7],
            mtu: 1_500,
            big_tcp: false,
        };
        let index = netlink.create_endpoint_pair(&pair, inside.as_fd()).await.expect("new");
        let link = netlink.link(index).await.expect("readable").expect("there");
        let far = netlink.far_end(&link).await.expect("readable").expect("there");
        assert_eq!((far.name.as_str(), far.mac), ("eth7", pair.mac));
        let (gateway, _) = netlink.create_gateway_pair(&self::pair()).await.expect("new");
        let same = netlink.link(gateway).await.expect("readable").expect("there");
        assert_eq!(netlink.far_end(&same).await.expect("readable"), None, "it is in this namespace");
        netlink.delete_link(index).await.expect("deleted");
        assert_eq!(netlink.far_end(&link).await.expect("readable"), None, "it is gone");
        end.send(()).expect("told");
        container.join().expect("ended");
        drop(inside);
        let mut gone = false;
        for _ in 0..100 {
            gone = netlink.far_end(&link).await.expect("readable").is_none();
        }
        assert!(gone, "its namespace is gone");
    });
}
