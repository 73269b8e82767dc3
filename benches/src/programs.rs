//! Programs of a running daemon, timed by the kernel on frames that nobody sends (`BPF_PROG_TEST_RUN`).
//!
//! The host, its tables and the programs in it are the real ones; a run ends where a program returns, so that what a redirect
//! costs is not in it.

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, loaded_programs};
use comparison::flows;
use datapath_common::abi::{Program, Settings};
use lab::{
    Container, DaemonOptions, Family, Host, Lan, Mac, World,
    frame::{Ethernet, IpBuilder, TcpSegment, fragments, tcp_flags},
};

/// Slots of the flow table, and how many of them one endpoint may have.
pub const CAPACITY: u32 = 1 << 20;
const SUBNETS: [&str; 2] = ["10.20.1.0/24", "fd00:20:1::/64"];
const CLIENT: [&str; 2] = ["10.20.1.10", "fd00:20:1::10"];
const SERVER: [&str; 2] = ["10.20.1.11", "fd00:20:1::11"];
/// An address of the client's network that nobody has.
const NOBODY: [&str; 2] = ["10.20.1.99", "fd00:20:1::99"];
/// A network that learns, and who is on it.
const LEARNING: [&str; 2] = ["10.20.2.0/24", "fd00:20:2::/64"];
const NEAR: [&str; 2] = ["10.20.2.10", "fd00:20:2::10"];
const FAR: [&str; 2] = ["10.20.2.11", "fd00:20:2::11"];
/// Addresses of machines behind its ports.
const HERE: [&str; 2] = ["10.20.2.50", "fd00:20:2::50"];
const THERE: [&str; 2] = ["10.20.2.51", "fd00:20:2::51"];
/// Their MAC addresses, and one that nobody has seen.
const STATIONS: [Mac; 3] = [Mac([2, 0, 0, 0, 7, 1]), Mac([2, 0, 0, 0, 7, 2]), Mac([2, 0, 0, 0, 7, 3])];
const PUBLISHED: u16 = 8_080;
/// Where the published port leads, and what others serve.
const SERVICE: u16 = 80;
const EPHEMERAL: u16 = 40_000;

/// What a program says of a frame (linux/pkt_cls.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Said {
    /// `TC_ACT_UNSPEC`: not ours.
    Pass = u32::MAX,
    /// `TC_ACT_SHOT`.
    Drop = 2,
    /// `TC_ACT_REDIRECT`.
    Redirect = 7,
}

/// A frame at a device, the program it is shown to, and what that must say of it.
#[derive(Clone, Debug)]
pub struct Shown {
    program: &'static str,
    frame: Vec<u8>,
    ifindex: u32,
    mark: u32,
    expected: Said,
}

impl Shown {
    /// Makes it one of another flow. Checksums are not looked at by the programs, and stay.
    pub fn set_ports(&mut self, source: u16, destination: u16) {
        self.set_source_port(source);
        self.put(2, destination);
    }

    /// Makes it one of another flow to the same port.
    pub fn set_source_port(&mut self, source: u16) {
        self.put(0, source);
    }

    /// Makes it a fragment of another datagram. It has no IP options, and its fragment header is the first of IPv6's.
    pub fn set_identification(&mut self, number: u32) {
        if self.frame[12..14] == [0x08, 0x00] {
            self.frame[18..20].copy_from_slice(&(number as u16).to_be_bytes());
        } else {
            self.frame[58..62].copy_from_slice(&number.to_be_bytes());
        }
    }

    /// Behind headers without options or extensions.
    fn put(&mut self, offset: usize, port: u16) {
        let at = offset + if self.frame[12..14] == [0x08, 0x00] { 34 } else { 54 };
        self.frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
}

/// A conversation that the programs follow: a segment each way.
pub struct Conversation {
    /// Of who began it.
    pub forth: Shown,
    /// Of the other end.
    pub back: Shown,
}

/// A host of ours with two endpoints and a published port, and its programs.
pub struct Programs {
    loaded: HashMap<&'static str, SchedClassifier>,
    sizes: Vec<(&'static str, u32, u32)>,
    client: Port,
    server: Port,
    near: Port,
    far: Port,
    gateway: Port,
    outside: Port,
    uplink: Mac,
    loopback: u32,
    _containers: [Container; 4],
    world: World,
}

/// A device of the host, and the MAC address of who is behind it.
#[derive(Clone, Copy)]
struct Port {
    ifindex: u32,
    mac: Mac,
}

impl Programs {
    /// Starts the daemon.
    pub fn start(daemon: &Path) -> Result<Self> {
        let before: Vec<u32> = named()?.iter().map(|(_, info)| info.id()).collect();
        let flows = format!("flow_capacity = {CAPACITY}\nflow_quota = {CAPACITY}\n");
        let config = flows + "xdp = \"native\"\nxdp_on_veth = true\n";
        let world = World::start(daemon, DaemonOptions::with_config(&config))?;
        let host = &world.host;
        host.datapath(["network", "create", "app", "--subnet", SUBNETS[0], "--subnet", SUBNETS[1]])?;
        let learning = ["network", "create", "learn", "--learning", "--subnet", LEARNING[0], "--subnet", LEARNING[1]];
        host.datapath(learning)?;
        let containers = [
            host.container("client", "app", &CLIENT)?,
            host.container("server", "app", &SERVER)?,
            host.container("near", "learn", &NEAR)?,
            host.container("far", "learn", &FAR)?,
        ];
        for protocol in ["tcp", "udp"] {
            host.datapath(["publish", &format!("{PUBLISHED}:{SERVICE}/{protocol}"), "server"])?;
        }
        let networks = host.json(["network", "ls"])?;
        let networks = networks.as_array().context("networks are a list")?;
        let app = networks.iter().find(|network| network["name"] == "app").context("there is a network")?;
        let device = app["device"].as_str().context("a network has a device")?;
        let (mut loaded, mut sizes) = (HashMap::new(), Vec::new());
        for (name, info) in named()?.into_iter().filter(|(_, info)| !before.contains(&info.id())) {
            sizes.push((name, info.verified_instruction_count().unwrap_or(0), info.size_jitted()));
            // An XDP program, which has measurements of its own (`guard`).
            if name != "guard" {
                loaded.insert(name, SchedClassifier::from_program_info(info, name.into())?);
            }
        }
        ensure!(sizes.len() == Program::ALL.len(), "the daemon has loaded {sizes:?} only");
        sizes.sort_unstable();
        Ok(Self {
            client: port(host, &containers[0])?,
            server: port(host, &containers[1])?,
            near: port(host, &containers[2])?,
            far: port(host, &containers[3])?,
            gateway: Port { ifindex: host.namespace.ifindex(device)?, mac: host.namespace.mac(device)? },
            outside: Port { ifindex: host.namespace.ifindex(Host::UPLINK)?, mac: world.lan.machine.mac(Lan::TO_HOST)? },
            uplink: host.namespace.mac(Host::UPLINK)?,
            loopback: host.namespace.ifindex("lo")?,
            loaded,
            sizes,
            _containers: containers,
            world,
        })
    }

    /// Does something in the host's namespace, where frames can be shown to its programs.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.world.host.namespace.enter(work)
    }

    /// Every program: its name, the instructions that the verifier walked, and the bytes of machine code that it became.
    #[must_use]
    pub fn sizes(&self) -> &[(&'static str, u32, u32)] {
        &self.sizes
    }

    /// Shows the program the frame so many times, and returns the time it took for one in the mean. Only with one time is the
    /// frame the same each time: what a program wrote stays.
    pub fn show(&self, shown: &Shown, times: u32) -> Result<Duration> {
        let mut context = [0u8; CONTEXT];
        context[MARK..][..4].copy_from_slice(&shown.mark.to_ne_bytes());
        context[IFINDEX..][..4].copy_from_slice(&shown.ifindex.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(&shown.frame),
            ctx_in: Some(&context),
            repeat: times,
            ..TestRunOptions::new()
        };
        let result = self.program(shown.program)?.test_run(options)?;
        ensure!(
            result.return_value == shown.expected as u32,
            "{} says {:#x} of {:02x?}, and not {:?}",
            shown.program,
            result.return_value,
            shown.frame,
            shown.expected
        );
        Ok(result.duration)
    }

    /// Forgets all flows.
    pub fn forget_flows(&self) -> Result<()> {
        flows::flush(self.world.host.pins())
    }

    fn program(&self, name: &str) -> Result<&SchedClassifier> {
        self.loaded.get(name).with_context(|| format!("the daemon has not loaded {name}"))
    }

    /// From one endpoint to its sibling.
    pub fn switched(&self, family: Family) -> Shown {
        self.sent(self.client, self.server.mac, family, [CLIENT, SERVER], ACK)
    }

    /// From a station behind one port to a station behind another, of a network that has learnt both.
    pub fn learnt(&self, family: Family) -> Result<Shown> {
        let [here, there, unknown] = STATIONS;
        let frame = |from, to, addresses| ip([from, to], family, addresses).tcp(ACK, b"data");
        // Floods, and is consumed by that.
        let first = self.of_container(self.far, frame(there, unknown, [THERE, HERE]));
        self.show(&Shown { expected: Said::Drop, ..first }, 1)?;
        Ok(self.of_container(self.near, frame(here, there, [HERE, THERE])))
    }

    /// From an endpoint, with an address that is not its own.
    pub fn forged(&self, family: Family) -> Shown {
        let shown = self.sent(self.client, self.server.mac, family, [NOBODY, SERVER], ACK);
        Shown { expected: Said::Drop, ..shown }
    }

    /// From an endpoint to a server far away, and what that answers, once they know each other.
    pub fn masqueraded(&self, family: Family) -> Result<Conversation> {
        let forth = |segment| self.sent(self.client, self.gateway.mac, family, [CLIENT, Lan::INTERNET], segment);
        let back = |segment| self.received(family, [Lan::INTERNET, Lan::HOST], segment);
        self.converse(forth, back, [EPHEMERAL, SERVICE], [SERVICE, EPHEMERAL])
    }

    /// From the LAN to the published port, and what the server answers, once they know each other.
    pub fn published(&self, family: Family) -> Result<Conversation> {
        let forth = |segment| self.received(family, [Lan::MACHINE, Lan::HOST], segment);
        let back = |segment| self.sent(self.server, self.gateway.mac, family, [SERVER, Lan::MACHINE], segment);
        self.converse(forth, back, [EPHEMERAL, PUBLISHED], [SERVICE, EPHEMERAL])
    }

    /// A datagram from an endpoint to a server far away. Each pair of ports is a flow.
    pub fn datagram_out(&self, family: Family) -> Shown {
        let ip = ip([self.client.mac, self.gateway.mac], family, [CLIENT, Lan::INTERNET]);
        self.of_container(self.client, ip.udp(EPHEMERAL, SERVICE, b"new"))
    }

    /// A datagram from the LAN to the published port. Each source port is a flow.
    pub fn datagram_in(&self, family: Family) -> Shown {
        let ip = ip([self.outside.mac, self.uplink], family, [Lan::MACHINE, Lan::HOST]);
        self.of_outside(ip.udp(EPHEMERAL, PUBLISHED, b"new"), Said::Redirect)
    }

    /// A datagram from an endpoint to a server far away, in two fragments.
    pub fn fragments_out(&self, family: Family) -> [Shown; 2] {
        let ip = ip([self.client.mac, self.gateway.mac], family, [CLIENT, Lan::INTERNET]);
        let parts = fragments(&ip.udp(EPHEMERAL, SERVICE, &[7; 1_400]), 1_000, 0);
        let [first, last] = parts.try_into().expect("1,400 bytes are two times 1,000 or less");
        [first, last].map(|frame| self.of_container(self.client, frame))
    }

    /// What a router on the LAN tells of a masqueraded segment that had no hop left.
    pub fn error_in(&self, family: Family) -> Shown {
        let quoted = ports([EPHEMERAL, SERVICE], ACK);
        let quoted = ip([self.uplink, self.outside.mac], family, [Lan::HOST, Lan::INTERNET]).tcp(quoted, b"data");
        let kind = if family == Family::V4 { TIME_EXCEEDED } else { TIME_EXCEEDED_V6 };
        let body = [&[0; 4], &quoted[14..]].concat();
        let frame = ip([self.outside.mac, self.uplink], family, [Lan::MACHINE, Lan::HOST]).icmp(kind, 0, &body);
        self.of_outside(frame, Said::Redirect)
    }

    /// A segment from the LAN for the host itself.
    pub fn for_the_host(&self, family: Family) -> Shown {
        let shown = self.received(family, [Lan::MACHINE, Lan::HOST], ports([EPHEMERAL, SERVICE], ACK));
        Shown { expected: Said::Pass, ..shown }
    }

    /// The host's own segment to an endpoint.
    pub fn of_the_host(&self, family: Family) -> Shown {
        let addresses = [GATEWAY, SERVER];
        let frame = ip([self.gateway.mac, self.server.mac], family, addresses).tcp(ACK, b"data");
        let ifindex = self.gateway.ifindex;
        Shown { program: "from_host", frame, ifindex, mark: 0, expected: Said::Redirect }
    }

    /// The host's own segment to the outside.
    pub fn host_out(&self, family: Family) -> Shown {
        let frame = ip([self.uplink, self.outside.mac], family, [Lan::HOST, Lan::MACHINE]).tcp(ACK, b"data");
        let ifindex = self.outside.ifindex;
        Shown { program: "to_uplink", frame, ifindex, mark: 0, expected: Said::Pass }
    }

    /// The host's own segment to itself, which is for no published port.
    pub fn host_to_itself(&self, family: Family) -> Shown {
        let frame = ip([Mac([0; 6]); 2], family, [LOOPBACK; 2]).tcp(ACK, b"data");
        Shown { program: "from_loopback", frame, ifindex: self.loopback, mark: 0, expected: Said::Pass }
    }

    /// What was judged, at the endpoint it is for.
    pub fn judged(&self, family: Family) -> Shown {
        let frame = ip([self.gateway.mac, self.server.mac], family, [GATEWAY, SERVER]).tcp(ACK, b"data");
        let (ifindex, mark) = (self.server.ifindex, Settings::DEFAULT.mark);
        Shown { program: "to_container", frame, ifindex, mark, expected: Said::Pass }
    }

    /// What was judged, at the bridge of a network that was adopted. The program does not ask which.
    pub fn judged_for_host(&self, family: Family) -> Shown {
        Shown { program: "to_host", ..self.judged(family) }
    }

    /// Shakes hands, and returns what follows.
    fn converse(
        &self,
        forth: impl Fn(TcpSegment) -> Shown,
        back: impl Fn(TcpSegment) -> Shown,
        there: [u16; 2],
        here: [u16; 2],
    ) -> Result<Conversation> {
        let segment = |ports_of, flags, sequence, acknowledgement| {
            ports(ports_of, TcpSegment { flags, sequence, acknowledgement, ..TcpSegment::default() })
        };
        self.show(&forth(segment(there, tcp_flags::SYN, 100, 0)), 1)?;
        self.show(&back(segment(here, tcp_flags::SYN | tcp_flags::ACK, 500, 101)), 1)?;
        self.show(&forth(segment(there, tcp_flags::ACK, 101, 501)), 1)?;
        let forth = forth(segment(there, tcp_flags::ACK, 101, 501));
        let back = back(segment(here, tcp_flags::ACK, 501, 101));
        Ok(Conversation { forth, back })
    }

    /// A segment that an endpoint sends to this MAC address.
    fn sent(&self, from: Port, to: Mac, family: Family, addresses: [[&str; 2]; 2], segment: TcpSegment) -> Shown {
        self.of_container(from, ip([from.mac, to], family, addresses).tcp(segment, b"data"))
    }

    /// A segment that comes from outside.
    fn received(&self, family: Family, addresses: [[&str; 2]; 2], segment: TcpSegment) -> Shown {
        let frame = ip([self.outside.mac, self.uplink], family, addresses).tcp(segment, b"data");
        self.of_outside(frame, Said::Redirect)
    }

    fn of_container(&self, from: Port, frame: Vec<u8>) -> Shown {
        Shown { program: "from_container", frame, ifindex: from.ifindex, mark: 0, expected: Said::Redirect }
    }

    fn of_outside(&self, frame: Vec<u8>, expected: Said) -> Shown {
        Shown { program: "from_uplink", frame, ifindex: self.outside.ifindex, mark: 0, expected }
    }
}

/// Offsets in `struct __sk_buff` (linux/bpf.h), and its size.
const MARK: usize = 8;
const IFINDEX: usize = 40;
const CONTEXT: usize = 192;

/// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const TIME_EXCEEDED: u8 = 11;
const TIME_EXCEEDED_V6: u8 = 3;

const GATEWAY: [&str; 2] = ["10.20.1.1", "fd00:20:1::1"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
const ACK: TcpSegment =
    TcpSegment { source: EPHEMERAL, destination: SERVICE, sequence: 1, acknowledgement: 1, flags: tcp_flags::ACK };

fn ports([source, destination]: [u16; 2], segment: TcpSegment) -> TcpSegment {
    TcpSegment { source, destination, ..segment }
}

fn ip([source, destination]: [Mac; 2], family: Family, addresses: [[&str; 2]; 2]) -> IpBuilder {
    let [from, to] = addresses.map(|pair| family.of(pair));
    Ethernet::new(source, destination).ip(from, to)
}

/// An endpoint's host-side veth, and its own MAC address.
fn port(host: &Host, container: &Container) -> Result<Port> {
    let endpoints = host.json(["endpoint", "inspect", &container.name])?;
    let ifindex = endpoints[0]["ifindex"].as_u64().context("an endpoint has an ifindex")?;
    Ok(Port { ifindex: ifindex.try_into()?, mac: container.namespace.mac("eth0")? })
}

/// Every loaded program with a name of ours, of whichever daemon.
fn named() -> Result<Vec<(&'static str, ProgramInfo)>> {
    let mut found = Vec::new();
    for info in loaded_programs() {
        let info = info?;
        let Some(name) = info.name_as_str() else { bail!("a program has no name that can be read") };
        if let Some((_, name)) = Program::ALL.iter().find(|(_, known)| *known == name) {
            found.push((*name, info));
        }
    }
    Ok(found)
}
