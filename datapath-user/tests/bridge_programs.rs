//! The programs on an adopted Linux bridge, live: its ports, the bridge device, and what must not pass. The tables are
//! written by hand, so that nothing but the programs is under test.

mod support;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use datapath_common::abi::{Address, DropReason, Endpoint, HOST, Network, Program, Settings, network_flags as flags};
use datapath_user::kernel::{Attach, Datapath, Options};
use lab::{Namespace, Protocol};
use support::{address, at, fail, fail_all, reach_all, serve};

const NETWORK: u32 = 1;
const BRIDGE: &str = "br0";
const BRIDGE_MAC: [u8; 6] = [2, 0, 0, 0, 5, 0xfe];
const GATEWAY: [&str; 2] = ["10.5.0.1", "fd00:5::1"];

/// A host with a bridge and three containers. The third one's port has no program yet.
struct Bridged {
    host: Namespace,
    containers: [Namespace; 3],
    datapath: Option<Datapath>,
    pins: PathBuf,
}

impl Drop for Bridged {
    fn drop(&mut self) {
        self.datapath = None;
        // Pins that stay are found by their name.
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

fn addresses(container: usize) -> [String; 2] {
    [format!("10.5.0.{}", container + 2), format!("fd00:5::{}", container + 2)]
}

fn mac(container: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(container + 1).expect("few containers")]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Both addresses of a container.
fn of(container: usize) -> [std::net::IpAddr; 2] {
    addresses(container).map(|text| address(&text))
}

impl Bridged {
    fn new() -> Self {
        let host = Namespace::new("bridged").expect("a namespace");
        // As with Docker: the kernel would route for everybody.
        host.forward().expect("forwards");
        host.ip(&format!(
            "link add {BRIDGE} address {} type bridge\nlink set {BRIDGE} up\naddr add {}/24 dev {BRIDGE}\n\
             addr add {}/64 dev {BRIDGE} nodad",
            text(BRIDGE_MAC),
            GATEWAY[0],
            GATEWAY[1]
        ))
        .expect("a bridge");
        let containers = [0, 1, 2].map(|container| plug(&host, container));
        let pins = PathBuf::from(format!("/sys/fs/bpf/dp-bridged-{}-{}", std::process::id(), host.name()));
        let settings = Settings { flow_capacity: 1_024, ..Settings::DEFAULT };
        let options = Options { pin_dir: pins.clone(), attach: Attach::Auto, xdp: false, settings };
        let datapath = host.enter(|| Datapath::open(options)).expect("opens");
        let bridged = Self { host, containers, datapath: Some(datapath), pins };
        bridged.add_network();
        [0, 1].into_iter().for_each(|container| bridged.add_endpoint(container));
        bridged
    }

    fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().expect("open until the end")
    }

    fn attach(&self, program: Program, device: &str) {
        let ifindex = self.host.ifindex(device).expect("there");
        self.host.enter(|| self.datapath().attach(program, ifindex)).expect("attaches");
    }

    fn add_network(&self) {
        let tables = self.datapath().tables();
        let ifindex = self.host.ifindex(BRIDGE).expect("there");
        let [ipv4, ipv6] = GATEWAY.map(|text| Address::from(address(text)));
        let network = Network {
            flags: flags::ICC | flags::MASQUERADE | flags::IPV4 | flags::IPV6 | flags::ADOPTED,
            gateway_ifindex: ifindex,
            gateway_mac: BRIDGE_MAC,
            ageing: 0,
            mtu: 1_500,
            members: 2,
            gateway_ipv4: ipv4,
            gateway_ipv6: ipv6,
        };
        tables.set_network(NETWORK, &network).expect("written");
        tables.set_mac(NETWORK, BRIDGE_MAC, HOST).expect("written");
        for address in [ipv4, ipv6] {
            tables.set_address(NETWORK, address, HOST).expect("written");
            tables.set_host_address(address, ifindex).expect("written");
        }
        tables.set_subnet("10.5.0.0/24".parse().expect("a subnet"), NETWORK).expect("written");
        tables.set_subnet("fd00:5::/64".parse().expect("a subnet"), NETWORK).expect("written");
        tables.set_network_by_gateway(ifindex, NETWORK).expect("written");
        self.attach(Program::FromHost, BRIDGE);
        self.attach(Program::ToHost, BRIDGE);
    }

    fn add_endpoint(&self, container: usize) {
        let tables = self.datapath().tables();
        let port = format!("port{container}");
        let ifindex = self.host.ifindex(&port).expect("there");
        let index = u32::try_from(container + 1).expect("few containers");
        let [ipv4, ipv6] = of(container).map(Address::from);
        let link_local = Address::link_local_of(mac(container));
        let endpoint = Endpoint {
            generation: 10 + index,
            ifindex,
            network: NETWORK,
            publications: 0,
            mac: mac(container),
            stations: 0,
            ipv4,
            ipv6,
            link_local,
        };
        tables.set_endpoint(index, &endpoint).expect("written");
        for address in [ipv4, ipv6, link_local] {
            tables.set_address(NETWORK, address, index).expect("written");
        }
        tables.set_mac(NETWORK, endpoint.mac, index).expect("written");
        tables.set_member(NETWORK, index - 1, ifindex).expect("written");
        tables.set_endpoint_by_ifindex(ifindex, index).expect("written");
        self.attach(Program::FromContainer, &port);
        self.attach(Program::ToContainer, &port);
    }

    /// Packets dropped for this reason so far.
    fn dropped(&self, reason: DropReason) -> u64 {
        let drops = self.datapath().tables().drops().expect("readable");
        drops.into_iter().find(|(other, _)| *other == reason).expect("every reason is there").1
    }

    /// Runs `attempt` and asserts that packets are dropped for this reason meanwhile.
    fn expect_drops(&self, reason: DropReason, attempt: impl FnOnce()) {
        let before = self.dropped(reason);
        attempt();
        assert!(self.dropped(reason) > before, "nothing was dropped for {}", reason.name());
    }
}

/// A container with its port in the bridge. The port speaks no IPv6 of its own, or the host's kernel would report groups
/// (RFC 3810, section 6) through it when it pleases, and nobody has judged those.
fn plug(host: &Namespace, container: usize) -> Namespace {
    let inside = Namespace::new("plugged").expect("a namespace");
    let port = format!("port{container}");
    host.ip(&format!(
        "link add {port} type veth peer name eth0 address {} netns {}\nlink set {port} master {BRIDGE}",
        text(mac(container)),
        inside.name()
    ))
    .expect("a port");
    host.sysctl(&format!("ipv6/conf/{port}/disable_ipv6"), "1").expect("a sysctl");
    host.ip(&format!("link set {port} up")).expect("up");
    let [ipv4, ipv6] = addresses(container);
    inside
        .ip(&format!(
            "link set eth0 up\naddr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad\n\
             route add default via {}\nroute add default via {}",
            GATEWAY[0], GATEWAY[1]
        ))
        .expect("addresses");
    inside
}

#[test]
fn containers_and_the_host_reach_each_other() {
    let bridged = Bridged::new();
    let [one, two, _] = &bridged.containers;
    // The third container's kernel, too, reports its groups when it pleases.
    bridged.add_endpoint(2);
    let unjudged = bridged.dropped(DropReason::Unjudged);
    let _servers = [serve(two, "two", 80), serve(&bridged.host, "host", 80)];
    reach_all(one, of(1), 80, "two", of(0));
    reach_all(one, GATEWAY.map(address), 80, "host", of(0));
    reach_all(&bridged.host, of(1), 80, "two", GATEWAY.map(address));
    assert_eq!(bridged.dropped(DropReason::Unjudged), unjudged, "all that was delivered had been judged");
}

#[test]
fn groups_reach_the_other_ports_and_the_host_and_the_hosts_own_come_back() {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let bridged = Bridged::new();
    let [one, two, _] = &bridged.containers;
    let listen = |namespace: &Namespace, own: &str| {
        namespace.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5_353)).expect("binds");
            socket.join_multicast_v4(&GROUP, &own.parse().expect("an address")).expect("joins");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
            socket
        })
    };
    let (at_host, at_two) = (listen(&bridged.host, GATEWAY[0]), listen(two, &addresses(1)[0]));
    let send = |namespace: &Namespace, own: &str| {
        namespace.enter(|| {
            let socket = UdpSocket::bind((own, 0)).expect("binds");
            socket.send_to(b"hello", (GROUP, 5_353)).expect("sends");
        });
    };
    let heard = |socket: &UdpSocket, from: &str| {
        let (_, sender) = socket.recv_from(&mut [0; 16]).unwrap_or_else(|error| panic!("nothing from {from}: {error}"));
        assert_eq!(sender.ip(), address(from));
    };
    send(one, &addresses(0)[0]);
    heard(&at_host, &addresses(0)[0]);
    heard(&at_two, &addresses(0)[0]);
    send(&bridged.host, GATEWAY[0]);
    heard(&at_two, GATEWAY[0]);
    heard(&at_host, GATEWAY[0]);
}

#[test]
fn a_port_without_a_program_is_closed() {
    let bridged = Bridged::new();
    let [one, _, late] = &bridged.containers;
    let _servers = [serve(one, "one", 80), serve(&bridged.host, "host", 80), serve(late, "late", 80)];
    bridged.expect_drops(DropReason::Unjudged, || {
        fail_all(late, GATEWAY.map(address), 80);
        fail_all(late, of(0), 80);
    });
    fail_all(one, of(2), 80);
    fail_all(&bridged.host, of(2), 80);
    // And open once it has its identity. What its kernel asked before got no answer, and may be given up on just now.
    bridged.add_endpoint(2);
    late.ip("neigh flush all").expect("forgets");
    reach_all(late, GATEWAY.map(address), 80, "host", of(2));
    reach_all(late, of(0), 80, "one", of(2));
}

/// Although its endpoint is still there, which is how every detach begins.
#[test]
fn a_port_is_closed_and_an_address_gone_as_soon_as_the_tables_say() {
    let bridged = Bridged::new();
    bridged.add_endpoint(2);
    let [one, two, late] = &bridged.containers;
    let _servers = [serve(one, "one", 80), serve(late, "late", 80)];
    reach_all(two, of(2), 80, "late", of(1));
    let tables = bridged.datapath().tables();
    for address in of(2) {
        tables.remove_address(NETWORK, address.into()).expect("removed");
    }
    bridged.expect_drops(DropReason::UnknownDestination, || fail_all(two, of(2), 80));
    tables.remove_endpoint_by_ifindex(bridged.host.ifindex("port2").expect("there")).expect("removed");
    bridged.expect_drops(DropReason::UnknownPort, || fail_all(late, of(0), 80));
    reach_all(two, of(0), 80, "one", of(1));
}

#[test]
fn the_host_does_not_route_to_containers() {
    let bridged = Bridged::new();
    let outside = Namespace::new("outside").expect("a namespace");
    bridged
        .host
        .ip(&format!(
            "link add wire type veth peer name eth0 netns {}\nlink set wire up\naddr add 10.77.0.1/24 dev wire",
            outside.name()
        ))
        .expect("a wire");
    outside.ip("link set eth0 up\naddr add 10.77.0.2/24 dev eth0\nroute add default via 10.77.0.1").expect("addresses");
    let _server = serve(&bridged.containers[0], "one", 80);
    bridged.expect_drops(DropReason::Forwarded, || {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            fail(&outside, protocol, at(of(0)[0], 80));
        }
    });
    // A process of the host that sends for others: a source that is not the host's.
    bridged.host.ip("addr add 10.78.0.1/32 dev lo").expect("an address");
    let proxy = lab::client::Client::new(&bridged.host).from_address(address("10.78.0.1")).timeout(support::REFUSAL);
    bridged.expect_drops(DropReason::Forwarded, || {
        proxy.exchange(Protocol::Udp, at(of(0)[0], 80)).expect_err("not one of the host's in the tables");
    });
}
