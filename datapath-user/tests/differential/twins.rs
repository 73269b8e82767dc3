//! The two hosts, with the same ports and the same MAC addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use lab::oracle::{Member, Network, Oracle, Plan, Publication};
use lab::{Container, DaemonOptions, Delivered, Host, Lan, LocalDelivery, LocalOrigin, Mac, Namespace, Tap};
use nix::poll::{PollFd, PollFlags, poll};

use crate::locate::ETHERNET;
use crate::support::{Scene, endpoint, gateway};

/// The world of the daemon, as an index.
pub const OURS: usize = 0;
/// The world of bridges and nftables, as an index.
pub const ORACLE: usize = 1;

/// Networks: with ICC, without, internal, and IPv4 only. Each has two endpoints.
const NETWORKS: usize = 4;
/// Endpoints of all networks: ports 0 to 7.
pub const MEMBERS: usize = 2 * NETWORKS;
/// The port towards the LAN machine.
pub const LAN: usize = MEMBERS;
/// The host itself: what its own stack takes in and sends.
pub const HOST: usize = MEMBERS + 1;

/// MAC addresses of the uplink and of the LAN machine: the same in every run, so that a saved frame can be sent again.
const UPLINK: [Mac; 2] = [Mac([2, 0, 0, 0xff, 0, 1]), Mac([2, 0, 0, 0xff, 0, 2])];
/// Ports of the connections that the test begins in the host's name.
pub const HOST_PORTS: RangeInclusive<u16> = 60_001..=64_999;
const NO_MAC: Mac = Mac([0; 6]);

/// What both worlds are configured with; the MAC addresses are the daemon's choice.
pub fn plan() -> Plan {
    let names = [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]];
    let networks = names.iter().zip(1u8..).map(|(names, number)| Network {
        subnets: [format!("10.20.{number}.0/24"), format!("fd20:{number}::/64")],
        gateways: gateway(number),
        gateway_mac: NO_MAC,
        ipv6: number != 4,
        icc: number != 2,
        internal: number == 3,
        members: (names.iter().zip(10..))
            .map(|(name, host)| Member { name: (*name).to_owned(), addresses: endpoint(number, host), mac: NO_MAC })
            .collect(),
    });
    let to = |address: Option<&str>, port, target, target_port| Publication {
        address: address.map(lab::lan::address),
        port,
        target,
        target_port,
    };
    Plan {
        networks: networks.collect(),
        publications: vec![
            to(None, 8080, (0, 0), 80),
            to(None, 8081, (1, 0), 80),
            to(Some(Lan::HOST[0]), 8082, (0, 1), 81),
            to(None, 8082, (0, 0), 82),
            to(None, 8083, (1, 1), 8083),
            to(None, 8084, (3, 0), 80),
            to(Some(Lan::HOST[1]), 8085, (0, 1), 80),
            to(Some("127.0.0.1"), 8086, (0, 0), 80),
        ],
        uplink: UPLINK,
    }
}

/// One host and all its ports.
pub struct World {
    taps: Vec<Tap>,
    delivered: LocalDelivery,
    origin: LocalOrigin,
}

/// A frame that arrived. What the host takes in of IPv6 has a header made up of what is known.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub port: usize,
    pub vlan: Option<u16>,
    pub frame: Vec<u8>,
}

impl World {
    fn open(host: &Namespace, members: &[&Namespace], lan: &Lan) -> anyhow::Result<Self> {
        let mut taps = Vec::new();
        for member in members {
            taps.push(Tap::open(member, "eth0")?);
        }
        taps.push(Tap::open(&lan.machine, Lan::TO_HOST)?);
        Ok(Self { taps, delivered: LocalDelivery::open(host)?, origin: LocalOrigin::open(host)? })
    }

    /// Sends a frame as what is behind this port; as the host, the packet in it.
    pub fn send(&self, port: usize, frame: &[u8]) {
        let sent = match port {
            HOST => self.origin.send(&frame[ETHERNET..]),
            _ => self.taps[port].send(frame),
        };
        sent.unwrap_or_else(|error| panic!("{} bytes on port {port}: {error}", frame.len()));
    }

    /// Waits until nothing has come for `quiet` milliseconds, and returns all that has.
    pub fn settle(&self, quiet: u16) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        loop {
            let descriptors = self.taps.iter().map(AsFd::as_fd).chain(self.delivered.descriptors());
            let mut waiting: Vec<_> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if poll(&mut waiting, quiet).expect("poll") == 0 {
                return arrivals;
            }
            for (port, tap) in self.taps.iter().enumerate() {
                let captured = tap.drain().expect("a tap is readable");
                arrivals.extend(captured.into_iter().map(|one| Arrival {
                    port,
                    vlan: one.view.vlan,
                    frame: one.bytes,
                }));
            }
            arrivals.extend(self.delivered.drain().expect("raw sockets are readable").iter().map(to_host));
        }
    }
}

fn to_host(delivered: &Delivered) -> Arrival {
    let mut frame = vec![0; 12];
    match delivered.source {
        IpAddr::V4(_) => {
            frame.extend(lab::frame::ethertype::IPV4.to_be_bytes());
            frame.extend(&delivered.bytes);
        }
        IpAddr::V6(source) => {
            frame.extend(lab::frame::ethertype::IPV6.to_be_bytes());
            let length = u16::try_from(delivered.bytes.len()).unwrap_or(u16::MAX);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([delivered.protocol, 0]);
            frame.extend(source.octets());
            frame.extend(Ipv6Addr::UNSPECIFIED.octets());
            frame.extend(&delivered.bytes);
        }
    }
    Arrival { port: HOST, vlan: None, frame }
}

/// Both.
pub struct Twins {
    pub plan: Plan,
    pub worlds: [World; 2],
    _containers: Vec<Container>,
    _scene: Scene,
    _oracle: Oracle,
}

impl Twins {
    /// Starts the daemon's world, and builds the oracle's like it.
    pub fn start() -> Self {
        let mut plan = plan();
        let options = DaemonOptions::with_config("flood_rate = 1000000\nicmp_error_rate = 1000000\n");
        let scene = Scene::with(options);
        let containers = configure(&scene, &mut plan);
        let oracle = Oracle::build(&plan).unwrap_or_else(|error| panic!("the oracle stands: {error:#}"));
        for host in [&scene.namespace, &oracle.host] {
            settle_host(host, plan.uplink[1]).expect("routes and sysctls of the host");
        }
        let members: Vec<_> = containers.iter().map(|container| &container.namespace).collect();
        let ours = World::open(&scene.namespace, &members, scene.lan()).expect("taps");
        let members: Vec<_> = oracle.members.iter().collect();
        let theirs = World::open(&oracle.host, &members, &oracle.lan).expect("taps");
        // What the kernel announces of new addresses comes within the first second or two.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let worlds = [ours, theirs];
        worlds.iter().for_each(|world| drop(world.settle(50)));
        Self { plan, worlds, _containers: containers, _scene: scene, _oracle: oracle }
    }
}

/// Tells the daemon the plan, and the plan the daemon's MAC addresses.
fn configure(scene: &Scene, plan: &mut Plan) -> Vec<Container> {
    let mut containers = Vec::new();
    for (network, number) in plan.networks.iter_mut().zip(1u8..) {
        let flags = [(!network.icc, "--no-icc"), (network.internal, "--internal")];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect::<Vec<_>>().join(" ");
        let families = if network.ipv6 { 2 } else { 1 };
        let subnets = network.subnets[..families].join(" --subnet ");
        scene.run(&format!("network create net{number} --subnet {subnets} {flags}"));
        for member in &mut network.members {
            let addresses = member.addresses[..families].iter().map(ToString::to_string).collect::<Vec<_>>();
            let texts = addresses.iter().map(String::as_str).collect::<Vec<_>>();
            let container = scene.container(&member.name, &format!("net{number}"), &texts).expect("attaches");
            // Its stack has nothing to say, not even about its addresses.
            container.namespace.sysctl("ipv6/conf/eth0/disable_ipv6", "1").expect("a sysctl");
            member.mac = container.namespace.mac("eth0").expect("a MAC address");
            containers.push(container);
        }
        network.gateway_mac = scene.namespace.mac(&scene.gateway_device(number)).expect("a MAC address");
    }
    for publication in &plan.publications {
        let address = match publication.address {
            None => String::new(),
            Some(IpAddr::V4(v4)) => format!("{v4}:"),
            Some(IpAddr::V6(v6)) => format!("[{v6}]:"),
        };
        scene.publish(
            &format!("{address}{}:{}", publication.port, publication.target_port),
            &plan.target(publication).name,
        );
    }
    let uplink = [(&scene.namespace, Host::UPLINK), (&scene.lan().machine, Lan::TO_HOST)];
    for ((namespace, device), mac) in uplink.into_iter().zip(plan.uplink) {
        namespace.ip(&format!("link set {device} address {mac}")).expect("a MAC address can be set");
    }
    containers
}

/// The host resets connections that it knows nothing of; those that the test begins in its name shall live. Its own
/// packets have no identification, those of the test all have one.
fn without_resets() -> String {
    let (first, last) = (HOST_PORTS.start(), HOST_PORTS.end());
    let resets = format!("tcp sport {first}-{last} tcp flags & rst == rst");
    format!(
        "table inet silence {{\n  chain output {{\n    type filter hook output priority -400;\n    \
         ip id 0 {resets} drop\n    ip6 flowlabel 0 {resets} drop\n  }}\n}}\n"
    )
}

/// No neighbour of the uplink has to be asked for, and no answer is withheld for being one of many.
fn settle_host(host: &Namespace, lan: Mac) -> anyhow::Result<()> {
    for (address, length, subnet) in [(Lan::MACHINE[0], 32, "192.0.2.0/24"), (Lan::MACHINE[1], 128, "2001:db8:2::/64")]
    {
        host.ip(&format!(
            "neigh replace {address} lladdr {lan} dev up0 nud permanent\n\
             route replace {address}/{length} dev up0\n\
             route del {subnet} dev up0"
        ))?;
    }
    host.run_with_input("nft", ["-f", "-"], &without_resets())?;
    host.sysctl("ipv4/icmp_ratelimit", "0")?;
    host.sysctl("ipv6/icmp/ratelimit", "0")?;
    host.sysctl("ipv6/auto_flowlabels", "0")?;
    // Nobody is told after 30 seconds, in one world sooner than in the other, that a datagram did not get whole.
    for setting in ["ipv4/ipfrag_time", "ipv6/ip6frag_time", "netfilter/nf_conntrack_frag6_timeout"] {
        host.sysctl(setting, "3600")?;
    }
    // Of each namespace since Linux 6.12; before, of the machine.
    for setting in ["ipv4/icmp_msgs_per_sec", "ipv4/icmp_msgs_burst"] {
        if host.read_sysctl(setting).is_ok() {
            host.sysctl(setting, "1000000")?;
        }
    }
    Ok(())
}
