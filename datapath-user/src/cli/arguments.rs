//! What can be said on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCompleter;
use ipnet::IpNet;

use super::bench::BenchArguments;
use super::complete;
use super::docker::DockerCommand;
use super::guard::GuardCommand;
use crate::config::{DOCKER_SOCKET, Overrides, Xdp};
use crate::kernel::{Attach, ProgramLog};
use crate::model::{GatewayMode, Mac};

/// Container networks in eBPF: switched, isolated, translated and published without bridge, iptables or proxies
#[derive(Debug, Parser)]
#[command(name = "datapath", version, propagate_version = true)]
pub struct Cli {
    /// The daemon's socket [default: /run/datapath/datapath.sock]
    #[arg(long, global = true, env = "DATAPATH_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the network namespace this is started in
    Daemon(DaemonArguments),
    /// Daemon, kernel features in use, networks, endpoints, ports, table fill
    Status,
    /// What on this host is missing, conflicting or risky, and the remedy
    Doctor,
    /// What would be gained on this host: speed beside iptables, measured in namespaces of its own in two minutes
    Bench(BenchArguments),
    /// Networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Connect a network namespace to a network
    Attach(AttachArguments),
    /// Disconnect an endpoint from one network, or from all
    Detach {
        /// The endpoint
        #[arg(add = ArgValueCompleter::new(complete::endpoints))]
        name: String,
        /// Only from this network
        #[arg(long, value_name = "NET", add = ArgValueCompleter::new(complete::networks))]
        network: Option<String>,
    },
    /// Endpoints
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Make a port of an endpoint reachable at the host's addresses
    Publish {
        /// [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|/udp|/sctp], as `docker -p` has it; HOSTPORT 0 chooses a free one
        port: String,
        /// The endpoint
        #[arg(add = ArgValueCompleter::new(complete::endpoints))]
        name: String,
        /// The network to reach it on, if it is on several [default: the first that is not internal]
        #[arg(long, value_name = "NET", add = ArgValueCompleter::new(complete::networks))]
        network: Option<String>,
    },
    /// Take a publication back
    Unpublish {
        /// [HOSTIP:]HOSTPORT[-END][/tcp|/udp|/sctp], as `port ls` shows it
        #[arg(add = ArgValueCompleter::new(complete::ports))]
        port: String,
    },
    /// Published ports
    #[command(subcommand)]
    Port(PortCommand),
    /// Who is kept out at the uplinks, and how much is let in
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Let the datapath do what dockerd's own packet filter rules and proxies do, and back
    #[command(subcommand)]
    Docker(DockerCommand),
    /// Which MAC addresses are behind which ports
    #[command(subcommand)]
    Fdb(FdbCommand),
    /// Live flows
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Events as they happen; drops with reason and remedy
    Monitor {
        /// Only dropped packets
        #[arg(long)]
        drops: bool,
        /// Only of this endpoint
        #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::endpoints))]
        endpoint: Option<String>,
    },
    /// Print a completion script; for names too: `source <(COMPLETE=bash datapath)`
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `datapath daemon`
#[derive(Debug, Args)]
pub struct DaemonArguments {
    /// The configuration file [default: /etc/datapath/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where state is kept [default: /var/lib/datapath]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where maps and links are pinned [default: /sys/fs/bpf/datapath]
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Use only this interface as an uplink; may be given more than once [default: all with an address]
    #[arg(long = "uplink", value_name = "IFACE")]
    pub uplinks: Vec<String>,
    /// How to attach programs: auto, tcx or clsact
    #[arg(long)]
    pub attach: Option<Attach>,
    /// Log what the programs do on their slow path: debug (of dropped packets) or trace (of all) [default: off]
    #[arg(long, value_name = "LEVEL")]
    pub program_log: Option<ProgramLog>,
    /// Guard uplinks with XDP too, in their drivers: denied sources and floods cost next to nothing there [default: off]
    #[arg(long, value_enum)]
    pub xdp: Option<Xdp>,
    /// With --xdp native: on veths too, although it takes segmentation offload from their peers
    #[arg(long)]
    pub xdp_on_veth: bool,
    /// Follow dockerd: carry its networks, containers and published ports too
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = DOCKER_SOCKET)]
    pub docker: Option<PathBuf>,
    /// Remove programs, maps, devices and state, put sysctls back, and end
    #[arg(long)]
    pub cleanup: bool,
}

impl DaemonArguments {
    /// What wins over the configuration file.
    pub fn overrides(&self, socket: Option<PathBuf>) -> Overrides {
        Overrides {
            config: self.config.clone(),
            socket,
            state_dir: self.state_dir.clone(),
            pin_dir: self.pin_dir.clone(),
            uplinks: self.uplinks.clone(),
            attach: self.attach,
            xdp: self.xdp,
            xdp_on_veth: self.xdp_on_veth,
            docker: self.docker.clone(),
            program_log: self.program_log,
        }
    }
}

/// `datapath network`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    Create(CreateArguments),
    /// List networks
    Ls,
    /// Show a network
    Inspect {
        /// The network
        #[arg(add = ArgValueCompleter::new(complete::networks))]
        name: String,
    },
    /// Remove a network
    Rm {
        /// The network
        #[arg(add = ArgValueCompleter::new(complete::networks))]
        name: String,
    },
}

/// `datapath network create`
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name
    pub name: String,
    /// A subnet; one of each IP version may be given [default: a free IPv4 /24]
    #[arg(long = "subnet", value_name = "CIDR")]
    pub subnets: Vec<IpNet>,
    /// Add a random IPv6 subnet (a unique local /64)
    #[arg(long)]
    pub ipv6: bool,
    /// The host's address in a subnet [default: the first]
    #[arg(long = "gateway", value_name = "IP")]
    pub gateways: Vec<IpAddr>,
    /// Whether containers are reached by published ports of the host, or at their own addresses
    #[arg(long, value_enum, default_value_t = Mode::Nat)]
    pub gateway_mode: Mode,
    /// Nothing in or out
    #[arg(long)]
    pub internal: bool,
    /// Endpoints may not talk to each other
    #[arg(long)]
    pub no_icc: bool,
    /// Keep container addresses on the way out
    #[arg(long)]
    pub no_masquerade: bool,
    /// Lower the segment size of TCP connections with the outside to what fits the path
    #[arg(long)]
    pub mss_clamp: bool,
    /// Learn which MAC addresses are behind the ports, for virtual machines and bridges in the containers
    #[arg(long)]
    pub learning: bool,
    /// Largest IP packet [default: 1500]
    #[arg(long, value_name = "N")]
    pub mtu: Option<u32>,
    /// Hand TCP packets of up to 192 KiB between endpoints: faster streams within the host
    #[arg(long)]
    pub big_tcp: bool,
    /// With --learning: forget MAC addresses that were not heard for so long [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub ageing: Option<u32>,
}

/// `--gateway-mode`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// Translated.
    Nat,
    /// Routed.
    Routed,
}

impl From<Mode> for GatewayMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Nat => Self::Nat,
            Mode::Routed => Self::Routed,
        }
    }
}

/// `datapath attach`
#[derive(Debug, Args)]
pub struct AttachArguments {
    /// The network namespace: a path, a name under /run/netns, or pid:1234
    pub netns: String,
    /// The network
    #[arg(long, value_name = "NET", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Name of the endpoint [default: from NETNS]
    #[arg(long)]
    pub name: Option<String>,
    /// A further name
    #[arg(long = "alias", value_name = "NAME")]
    pub aliases: Vec<String>,
    /// An address [default: the next free ones]
    #[arg(long = "ip", value_name = "IP")]
    pub ips: Vec<IpAddr>,
    /// MAC address [default: a new one]
    #[arg(long)]
    pub mac: Option<Mac>,
    /// Name of the interface in the container [default: the first free of eth0, eth1, …]
    #[arg(long)]
    pub ifname: Option<String>,
}

/// `datapath endpoint`
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List endpoints
    Ls,
    /// Show an endpoint
    Inspect {
        /// The endpoint
        #[arg(add = ArgValueCompleter::new(complete::endpoints))]
        name: String,
    },
}

/// `datapath port`
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// List published ports
    Ls,
}

/// `datapath fdb`
#[derive(Debug, Subcommand)]
pub enum FdbCommand {
    /// List MAC addresses: those given out, and those learnt on networks created with --learning
    Ls {
        /// Only of this network
        #[arg(add = ArgValueCompleter::new(complete::networks))]
        network: Option<String>,
    },
}

/// `datapath flow`
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List live flows: tuple, translation, state, age, packets and bytes
    Ls {
        /// Only of this endpoint
        #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::endpoints))]
        endpoint: Option<String>,
    },
}
