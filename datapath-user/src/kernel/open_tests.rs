//! The embedded object, opened, attached, replaced, adopted and taken away in a scratch namespace.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use datapath_common::abi::{
    ABI_VERSION, Address, DropReason, Endpoint, EndpointUsage, Flow, FlowEnd, FlowIndex, FlowKey, Network, Program,
    PublishedKey, Settings, claim, map, network_flags,
};

use super::map::Map;
use super::netlink::{Direction, GatewayPair, Netlink};
use super::programs::{Attach, Datapath, Mode, Options};
use super::{flows, pins, remove_everything, scratch, tcx};

/// A pin directory that is gone with the test.
struct Pins(PathBuf);

impl Pins {
    fn new(name: &str) -> Self {
        Self(format!("/sys/fs/bpf/kt-{name}-{}", std::process::id()).into())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Unpinning needs no order; whatever fails here is shown by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CAPACITY: u32 = 16_384;

fn open(pins: &Path, attach: Attach) -> anyhow::Result<Datapath> {
    let settings = Settings { flow_capacity: CAPACITY, ..Settings::DEFAULT };
    Datapath::open(Options { pin_dir: pins.into(), attach, xdp: false, settings })
}

async fn pair(netlink: &Netlink, name: &str) -> (u32, u32) {
    let pair = GatewayPair {
        name: format!("kt-{name}"),
        far_name: format!("kt-{name}-far"),
        mac: [2, 0, 0, 0, 0, 1],
        far_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1_500,
        big_tcp: false,
    };
    netlink.create_gateway_pair(&pair).await.expect("a new pair")
}

#[test]
fn links_outlive_the_daemon_and_are_adopted() {
    scratch::in_namespace_async(async || {
        let pins = Pins::new("adopt");
        let netlink = Netlink::open().expect("a socket");
        let (port, _) = pair(&netlink, "a").await;
        let first = open(&pins.0, Attach::Tcx).expect("opens");
        assert_eq!(first.mode(), Mode::Tcx);
        for program in [Program::FromContainer, Program::ToContainer] {
            first.attach(program, port).expect("attaches");
        }
        let before = tcx::attached(&pins.0).expect("readable");
        drop(first);
        assert_eq!(tcx::attached(&pins.0).expect("readable"), before, "nothing ends with the daemon");

        // Of another build, as far as that goes here.
        let settings = Settings { flow_capacity: CAPACITY, flood_rate: 1, ..Settings::DEFAULT };
        let options = Options { pin_dir: pins.0.clone(), attach: Attach::Auto, xdp: false, settings };
        let second = Datapath::open(options).expect("adopts");
        assert_eq!(tcx::attached(&pins.0).expect("readable"), before, "replaced one by one");
        for program in [Program::FromContainer, Program::ToContainer] {
            second.attach(program, port).expect("replaces");
        }
        let after = tcx::attached(&pins.0).expect("readable");
        assert_eq!(after.len(), 2, "replaced, not added");
        assert!(after.iter().all(|link| link.alive && !before.iter().any(|old| old.program_id == link.program_id)));

        second.detach(Program::ToContainer, port).expect("detaches");
        second.detach(Program::ToContainer, port).expect("again");
        assert_eq!(second.attached(&netlink).await.expect("readable"), [(Program::FromContainer, port)]);

        netlink.delete_link(port).await.expect("deletes");
        assert_eq!(second.sweep_links().expect("sweeps"), 1, "the pin of the vanished device");
        assert!(second.attach(Program::FromHost, port).is_err(), "no such device");
        drop(second);
        let report = remove_everything(&pins.0).await;
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(!pins.0.exists());
    });
}

#[test]
fn the_same_programs_are_loaded_once() {
    scratch::in_namespace_async(async || {
        let pins = Pins::new("same");
        let netlink = Netlink::open().expect("a socket");
        let (port, _) = pair(&netlink, "s").await;
        let attach = || {
            let datapath = open(&pins.0, Attach::Tcx).expect("opens");
            datapath.attach(Program::FromContainer, port).expect("attaches");
            tcx::attached(&pins.0).expect("readable")[0].program_id
        };
        let first = attach();
        assert_eq!(attach(), first, "the same object, settings and maps");
        let programs = pins.0.join("programs");
        let made_of = || pins::names_in(&programs).expect("readable");
        let [only] = &made_of()[..] else { panic!("{:?}", made_of()) };
        fs::remove_file(programs.join(only).join("to_uplink")).expect("removes");
        let second = attach();
        assert_ne!(second, first, "one was missing, as after a start that was cut short");
        // The programs have the map whose pin is gone, and the daemon would have another.
        fs::remove_file(pins.0.join(map::EVENTS)).expect("removes");
        let third = attach();
        assert!(third != second && third != first, "not on the same maps");
        assert_eq!((attach(), made_of().len()), (third, 1), "those of before are not kept");
    });
}

#[test]
fn a_stale_pin_is_replaced() {
    scratch::in_namespace_async(async || {
        let pins = Pins::new("stale");
        let netlink = Netlink::open().expect("a socket");
        let (old, _) = pair(&netlink, "old").await;
        let (port, _) = pair(&netlink, "new").await;
        let datapath = open(&pins.0, Attach::Tcx).expect("opens");
        datapath.attach(Program::FromContainer, old).expect("attaches");
        netlink.delete_link(old).await.expect("deletes");
        // As if the index had come round again.
        let links = pins.0.join("links");
        fs::rename(links.join(format!("from_container-{old}")), links.join(format!("from_container-{port}")))
            .expect("renames");
        datapath.attach(Program::FromContainer, port).expect("attaches anew");
        let attached = tcx::attached(&pins.0).expect("readable");
        assert!(attached.len() == 1 && attached[0].alive && attached[0].ifindex == port, "{attached:?}");
    });
}

#[test]
fn filters_outlive_the_daemon_and_are_replaced() {
    scratch::in_namespace_async(async || {
        let pins = Pins::new("clsact");
        let netlink = Netlink::open().expect("a socket");
        let (port, _) = pair(&netlink, "c").await;
        let first = open(&pins.0, Attach::Clsact).expect("opens");
        first.attach(Program::FromUplink, port).expect("attaches");
        first.attach(Program::ToUplink, port).expect("attaches");
        drop(first);
        let second = open(&pins.0, Attach::Clsact).expect("adopts");
        second.attach(Program::FromUplink, port).expect("replaces");
        let ingress = netlink.filters(port, Direction::Ingress).await.expect("readable");
        assert_eq!(ingress.len(), 1, "{ingress:?}");
        assert_eq!(ingress[0].program.as_deref(), Some("from_uplink"));
        assert_eq!(netlink.filters(port, Direction::Egress).await.expect("readable").len(), 1);
        let attached = second.attached(&netlink).await.expect("readable");
        assert_eq!(attached, [(Program::FromUplink, port), (Program::ToUplink, port)]);

        // The other mode takes over without a gap, and back.
        drop(second);
        let third = open(&pins.0, Attach::Tcx).expect("adopts");
        third.attach(Program::FromUplink, port).expect("takes over");
        assert!(netlink.filters(port, Direction::Ingress).await.expect("readable").is_empty());
        drop(third);
        let report = remove_everything(&pins.0).await;
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!((report.links, report.filters, report.qdiscs), (1, 1, 1));
        assert!(netlink.filters(port, Direction::Egress).await.expect("readable").is_empty());
    });
}

#[test]
fn what_cannot_be_understood_is_left_alone() {
    scratch::in_namespace(|| {
        let pins = Pins::new("version");
        drop(open(&pins.0, Attach::Auto).expect("opens"));
        let settings = Settings { flow_capacity: CAPACITY * 2, ..Settings::DEFAULT };
        let error = Datapath::open(Options { pin_dir: pins.0.clone(), attach: Attach::Auto, xdp: false, settings });
        assert!(format!("{:#}", error.expect_err("another size")).contains("--cleanup` to change it"));
        let version: Map<u32, u32> = Map::open(&pins.0, map::ABI).expect("pinned");
        assert_eq!(version.get(&0).expect("readable"), Some(ABI_VERSION));
        version.set(&0, &(ABI_VERSION + 1)).expect("writable");
        let error = open(&pins.0, Attach::Auto).expect_err("another version");
        assert!(format!("{error:#}").contains("they go on as they are"), "{error:#}");
        assert!(pins.0.join(map::FLOWS).exists());
    });
}

#[test]
fn a_pin_directory_that_others_can_write_is_refused() {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    scratch::in_namespace(|| {
        let pins = Pins::new("mode");
        fs::DirBuilder::new().mode(0o755).create(&pins.0).expect("creates");
        fs::set_permissions(&pins.0, fs::Permissions::from_mode(0o755)).expect("changes");
        let error = open(&pins.0, Attach::Auto).expect_err("not private");
        assert!(format!("{error:#}").contains("must be root's with mode 0700"), "{error:#}");
        let plain = tempfile::tempdir().expect("a directory");
        fs::set_permissions(plain.path(), fs::Permissions::from_mode(0o700)).expect("changes");
        let error = open(plain.path(), Attach::Auto).expect_err("no bpffs");
        assert!(format!("{error:#}").contains("not on a BPF file system"), "{error:#}");
    });
}

#[test]
fn tables_keep_what_is_written() {
    scratch::in_namespace(|| {
        let pins = Pins::new("tables");
        let datapath = open(&pins.0, Attach::Auto).expect("opens");
        let tables = datapath.tables();
        let network = Network { flags: network_flags::IPV4, gateway_ifindex: 3, ..Network::default() };
        tables.set_network(7, &network).expect("writes");
        assert_eq!(tables.networks().expect("reads"), [(7, network)]);
        assert!(tables.network(1_000_000).is_err(), "beyond the table");
        tables.clear_network(7).expect("writes");
        assert!(tables.networks().expect("reads").is_empty());

        tables.set_member(7, 2, 9).expect("writes");
        assert_eq!(tables.members().expect("reads"), [((7, 2), 9)]);
        tables.remove_member(7, 2).expect("writes");
        tables.remove_member(7, 2).expect("missing is no error");

        for subnet in ["10.1.0.0/16", "fd00:1::/64"] {
            tables.set_subnet(subnet.parse().expect("a literal"), 7).expect("writes");
        }
        assert_eq!(tables.subnets().expect("reads").len(), 2);

        let keys: Vec<_> = (0..10_000).map(|port| PublishedKey::new(Address::ANY_V4, port, 6)).collect();
        tables.publish(&keys, 5).expect("writes");
        assert_eq!(tables.published().expect("reads").len(), keys.len());
        tables.unpublish(&keys[3..4]).expect("writes");
        tables.unpublish(&keys).expect("a hole is no error");
        assert!(tables.published().expect("reads").is_empty());

        let address = |text: &str| Address::from(text.parse::<IpAddr>().expect("a literal"));
        let wanted = [(address("10.0.0.1"), 1), (address("fd00::1"), 2)].into();
        assert!(tables.replace_host_addresses(&wanted).expect("writes"));
        assert!(!tables.replace_host_addresses(&wanted).expect("writes"), "nothing to do");
        assert_eq!(tables.host_addresses().expect("reads"), wanted);
        assert!(tables.drops().expect("reads").iter().all(|&(_, count)| count == 0));
        assert!(!tables.metrics().expect("reads").is_empty());
    });
}

#[test]
fn publishing_is_all_or_nothing() {
    scratch::in_namespace(|| {
        let pins = Pins::new("full");
        let datapath = open(&pins.0, Attach::Auto).expect("opens");
        let tables = datapath.tables();
        let room = tables.capacity().published;
        let key = |number: u32| {
            let [_, third, second, first] = number.to_be_bytes();
            PublishedKey::new(Address::v4([10, third, second, first]), 80, 6)
        };
        let keys: Vec<_> = (0..room + 1).map(key).collect();
        let error = tables.publish(&keys, 1).expect_err("one too many");
        assert!(format!("{error:#}").contains("is full"), "{error:#}");
        assert!(tables.published().expect("reads").is_empty());
    });
}

/// A flow of endpoint 3, written as the programs would.
fn plant(pins: &Path, slot: u32, port: u16, deadline: u64, generation: u32) -> Flow {
    let original = FlowKey { source_port: port, protocol: 17, scope: 1, ..FlowKey::default() };
    let flow = Flow {
        claim: claim::LIVE,
        serial: 40 + slot,
        original,
        reply: original.reverse(0),
        initiator: FlowEnd { endpoint: 3, generation },
        deadline,
        ..Flow::default()
    };
    let by_key: Map<FlowKey, FlowIndex> = Map::open(pins, map::FLOW_BY_KEY).expect("pinned");
    for key in [flow.original, flow.reply] {
        by_key.set(&key, &FlowIndex { slot, serial: flow.serial }).expect("writes");
    }
    let slots: Map<u32, Flow> = Map::open(pins, map::FLOWS).expect("pinned");
    slots.set(&slot, &flow).expect("writes");
    flow
}

#[test]
fn the_sweep_frees_what_is_over_and_nothing_else() {
    scratch::in_namespace(|| {
        let pins = Pins::new("sweep");
        let datapath = open(&pins.0, Attach::Auto).expect("opens");
        let (tables, all) = (datapath.tables(), datapath.flows());
        assert_eq!((all.capacity(), all.used().expect("reads")), (CAPACITY, 0));
        tables.set_endpoint(3, &Endpoint { generation: 8, ..Endpoint::default() }).expect("writes");
        let usage: Map<u32, EndpointUsage> = Map::open(&pins.0, map::ENDPOINT_USAGE).expect("pinned");
        usage.set(&3, &EndpointUsage { flows: 3, ..EndpointUsage::default() }).expect("writes");

        let later = flows::now() + 60_000_000_000;
        let kept = plant(&pins.0, 0, 1, later, 8);
        let expired = plant(&pins.0, 1, 2, 1, 8);
        let orphan = plant(&pins.0, CAPACITY - 1, 3, later, 7);
        // Its key was taken by another flow in the meantime.
        let by_key: Map<FlowKey, FlowIndex> = Map::open(&pins.0, map::FLOW_BY_KEY).expect("pinned");
        let successor = FlowIndex { slot: 0, serial: 99 };
        by_key.set(&expired.reply, &successor).expect("writes");

        assert_eq!(all.used().expect("reads"), 3);
        assert_eq!(all.sweep(tables).expect("sweeps"), 2);
        assert_eq!(all.live(|slot, flow| Some((slot, flow))).expect("reads"), [(0, kept)]);
        assert_eq!(by_key.get(&expired.original).expect("reads"), None);
        assert_eq!(by_key.get(&expired.reply).expect("reads"), Some(successor));
        assert_eq!(by_key.get(&orphan.original).expect("reads"), None);
        assert!(by_key.get(&kept.original).expect("reads").is_some());
        assert_eq!(tables.usage(3).expect("reads").flows, 2, "the orphan was charged to an earlier owner");

        // A daemon was killed while it took this one down: the second sweep that finds it so frees it.
        let stuck = plant(&pins.0, 5, 4, later, 8);
        let slots: Map<u32, Flow> = Map::open(&pins.0, map::FLOWS).expect("pinned");
        slots.set(&5, &Flow { claim: claim::BUSY, ..stuck }).expect("writes");
        assert_eq!((all.sweep(tables).expect("sweeps"), all.sweep(tables).expect("sweeps")), (0, 1));
        assert_eq!(by_key.get(&stuck.original).expect("reads"), None);

        let end = |generation| [FlowEnd { endpoint: 3, generation }];
        assert_eq!(all.purge(tables, &end(7)).expect("purges"), 0);
        assert_eq!(all.purge(tables, &end(8)).expect("purges"), 1);
        assert_eq!((all.used().expect("reads"), tables.usage(3).expect("reads").flows), (0, 0));
    });
}

#[test]
fn a_dropped_packet_is_counted_and_told() {
    scratch::in_namespace_async(async || {
        let pins = Pins::new("events");
        let netlink = Netlink::open().expect("a socket");
        let (near, far) = pair(&netlink, "e").await;
        let datapath = open(&pins.0, Attach::Auto).expect("opens");
        datapath.attach(Program::FromContainer, far).expect("attaches");
        let mut events = datapath.events().expect("opens");
        netlink.add_address(near, "10.9.0.1/24".parse().expect("a literal")).await.expect("new");
        netlink.set_up(near).await.expect("up");
        netlink.set_up(far).await.expect("up");
        // Makes the host ask for the address; the port belongs to nobody.
        let socket = std::net::UdpSocket::bind("10.9.0.1:0").expect("free");
        socket.send_to(b"x", "10.9.0.2:9").expect("sends");
        let event = tokio::time::timeout(std::time::Duration::from_secs(5), events.next()).await;
        let event = event.expect("told").expect("readable");
        assert_eq!(DropReason::from_number(event.reason), Some(DropReason::UnknownPort));
        let counts = datapath.tables().drops().expect("reads");
        assert!(counts.iter().any(|&(reason, count)| reason == DropReason::UnknownPort && count > 0));
    });
}

#[test]
fn programs_of_others_are_found() {
    scratch::in_namespace_async(async || {
        let (pins, others) = (Pins::new("ours"), Pins::new("others"));
        let netlink = Netlink::open().expect("a socket");
        let (port, _) = pair(&netlink, "f").await;
        let ours = open(&pins.0, Attach::Tcx).expect("opens");
        ours.attach(Program::FromUplink, port).expect("attaches");
        let found = ours.foreign_programs(&netlink, Program::FromUplink, port).await.expect("readable");
        assert!(found.is_empty(), "{found:?}");
        let other = open(&others.0, Attach::Tcx).expect("opens");
        other.attach(Program::FromContainer, port).expect("attaches ahead");
        let found = ours.foreign_programs(&netlink, Program::FromUplink, port).await.expect("readable");
        assert_eq!(found.len(), 1);
        assert!(found[0].ahead && found[0].name == "from_container", "{found:?}");
    });
}
