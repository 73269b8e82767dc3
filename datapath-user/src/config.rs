//! The configuration file and what it and the command line make together.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use datapath_common::abi::Settings;
use serde::{Deserialize, Serialize};

use crate::kernel::{Attach, ProgramLog};

/// Where the configuration is looked for; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/datapath/config.toml";
/// The default socket.
pub const DEFAULT_SOCKET: &str = "/run/datapath/datapath.sock";
/// Where dockerd is met unless told otherwise.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const DEFAULT_STATE_DIR: &str = "/var/lib/datapath";
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/datapath";

/// What the command line of `datapath daemon` says; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The configuration file; then it must exist.
    pub config: Option<PathBuf>,
    /// The socket.
    pub socket: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
    /// The pin directory.
    pub pin_dir: Option<PathBuf>,
    /// Names of the uplinks.
    pub uplinks: Vec<String>,
    /// How to attach.
    pub attach: Option<Attach>,
    /// Where to use XDP.
    pub xdp: Option<Xdp>,
    /// Use it on veths too.
    pub xdp_on_veth: bool,
    /// dockerd's socket, to follow it.
    pub docker: Option<PathBuf>,
    /// What the programs log.
    pub program_log: Option<ProgramLog>,
}

/// The configuration of a daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// The unix socket.
    pub socket: PathBuf,
    /// Group whose members may use the socket.
    pub socket_group: Option<String>,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Names of the uplinks; empty: all that qualify.
    pub uplinks: Vec<String>,
    /// How to attach.
    pub attach: Attach,
    /// Where to use XDP.
    pub xdp: Xdp,
    /// Use it on veths too.
    pub xdp_on_veth: bool,
    /// dockerd's socket; none: Docker's networks are not touched.
    pub docker: Option<PathBuf>,
    /// Load-time settings of the programs.
    pub settings: Settings,
}

/// Whether to guard uplinks before the kernel makes packets of what they receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Xdp {
    /// No XDP.
    #[default]
    Off,
    /// On every uplink whose driver can; elsewhere from_uplink makes the same checks.
    Native,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    socket: Option<PathBuf>,
    socket_group: Option<String>,
    state_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    #[serde(default)]
    uplinks: Vec<String>,
    attach: Option<Attach>,
    xdp: Option<Xdp>,
    #[serde(default)]
    xdp_on_veth: bool,
    docker: Option<FollowDocker>,
    program_log: Option<ProgramLog>,
    mark: Option<u32>,
    flow_capacity: Option<u32>,
    flow_quota: Option<u32>,
    flood_rate: Option<u32>,
    icmp_error_rate: Option<u32>,
    profile: Option<Profile>,
    #[serde(default)]
    timeouts: Timeouts,
}

/// Whether to follow dockerd, and where its socket is.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum FollowDocker {
    /// At its default socket, or not.
    Default(bool),
    /// At this socket.
    At(PathBuf),
}

impl FollowDocker {
    fn socket(self) -> Option<PathBuf> {
        match self {
            Self::Default(follow) => follow.then(|| PathBuf::from(DOCKER_SOCKET)),
            Self::At(socket) => Some(socket),
        }
    }
}

/// A set of timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Profile {
    /// What the RFCs ask for (RFC 4787, 5382, 5508, 7857).
    #[default]
    Rfc,
    /// The shorter ones of netfilter for half-open and closing TCP, and for UDP.
    Netfilter,
}

/// Single timeouts in seconds; they win over the profile.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timeouts {
    udp: Option<u64>,
    tcp_established: Option<u64>,
    tcp_transitory: Option<u64>,
    icmp: Option<u64>,
    other: Option<u64>,
}

const SECOND: u64 = 1_000_000_000;

/// Capacities of the flow table: from one of a test to what fits 32-bit indices and a few GiB.
const FLOW_CAPACITIES: std::ops::RangeInclusive<u32> = 16..=1 << 24;

impl Config {
    /// Reads the file and applies what the command line says.
    ///
    /// # Errors
    /// When the file cannot be read or says something impossible.
    pub fn load(overrides: &Overrides) -> Result<Self> {
        let (path, required) = match &overrides.config {
            Some(path) => (path.as_path(), true),
            None => (Path::new(DEFAULT_FILE), false),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => bail!("the configuration {} cannot be read ({error}); correct --config", path.display()),
        };
        let file: File = toml::from_str(&text)
            .with_context(|| format!("the configuration {} is wrong; correct it and start again", path.display()))?;
        Self::combine(file, overrides).with_context(|| format!("the configuration {} is wrong", path.display()))
    }

    fn combine(file: File, overrides: &Overrides) -> Result<Self> {
        let program_log = overrides.program_log.or(file.program_log).unwrap_or_default();
        let settings = Settings { program_log: program_log.setting(), ..settings(&file)? };
        let choose = |chosen: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            chosen.clone().or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let config = Self {
            socket: choose(&overrides.socket, file.socket, DEFAULT_SOCKET),
            socket_group: file.socket_group,
            state_dir: choose(&overrides.state_dir, file.state_dir, DEFAULT_STATE_DIR),
            pin_dir: choose(&overrides.pin_dir, file.pin_dir, DEFAULT_PIN_DIR),
            uplinks: if overrides.uplinks.is_empty() { file.uplinks } else { overrides.uplinks.clone() },
            attach: overrides.attach.or(file.attach).unwrap_or(Attach::Auto),
            xdp: overrides.xdp.or(file.xdp).unwrap_or_default(),
            xdp_on_veth: overrides.xdp_on_veth || file.xdp_on_veth,
            docker: overrides.docker.clone().or(file.docker.and_then(FollowDocker::socket)),
            settings,
        };
        for (what, path) in [("socket", &config.socket), ("state_dir", &config.state_dir), ("pin_dir", &config.pin_dir)]
        {
            if path.as_os_str().is_empty() {
                bail!("{what} is empty; name a path or leave it out");
            }
        }
        Ok(config)
    }
}

fn settings(file: &File) -> Result<Settings> {
    let mut settings = Settings::DEFAULT;
    if file.profile == Some(Profile::Netfilter) {
        settings.tcp_transitory_timeout = 120 * SECOND;
        settings.udp_timeout = 120 * SECOND;
    }
    let timeouts = [
        ("udp", file.timeouts.udp, &mut settings.udp_timeout),
        ("tcp_established", file.timeouts.tcp_established, &mut settings.tcp_established_timeout),
        ("tcp_transitory", file.timeouts.tcp_transitory, &mut settings.tcp_transitory_timeout),
        ("icmp", file.timeouts.icmp, &mut settings.icmp_timeout),
        ("other", file.timeouts.other, &mut settings.other_timeout),
    ];
    for (name, seconds, setting) in timeouts {
        let Some(seconds) = seconds else { continue };
        if !(1..=31_536_000).contains(&seconds) {
            bail!("timeouts.{name} is {seconds} seconds; choose between 1 and 31536000");
        }
        *setting = seconds * SECOND;
    }
    if let Some(mark) = file.mark {
        if mark.count_ones() != 1 {
            bail!("mark is {mark:#x}; choose one bit that nothing else on the host uses, such as 0x400000");
        }
        settings.mark = mark;
    }
    if let Some(capacity) = file.flow_capacity {
        // The programs find a slot by masking.
        if !FLOW_CAPACITIES.contains(&capacity) || !capacity.is_power_of_two() {
            bail!(
                "flow_capacity is {capacity}; choose a power of two between {} and {}",
                FLOW_CAPACITIES.start(),
                FLOW_CAPACITIES.end()
            );
        }
        settings.flow_capacity = capacity;
    }
    for (name, value, setting) in [
        ("flow_quota", file.flow_quota, &mut settings.flow_quota),
        ("flood_rate", file.flood_rate, &mut settings.flood_rate),
        ("icmp_error_rate", file.icmp_error_rate, &mut settings.icmp_error_rate),
    ] {
        let Some(value) = value else { continue };
        if value == 0 {
            bail!("{name} is 0, which would stop all of it; choose 1 or more");
        }
        *setting = value;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        let file: File = toml::from_str(text)?;
        Config::combine(file, &Overrides { pin_dir: Some("/pins".into()), ..Overrides::default() })
    }

    #[test]
    fn file_and_command_line() {
        let config = config(
            "pin_dir = \"/other\"\nuplinks = [\"eth0\"]\nattach = \"clsact\"\nflow_quota = 7\nprogram_log = \"debug\"",
        )
        .expect("valid");
        assert_eq!(config.pin_dir, Path::new("/pins"));
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(config.settings.program_log, ProgramLog::Debug.setting());
        assert_eq!((config.uplinks, config.settings.flow_quota), (vec!["eth0".to_owned()], 7));
    }

    #[test]
    fn xdp_is_off_unless_asked_for() {
        assert_eq!(config("").expect("valid").xdp, Xdp::Off);
        let native = config("xdp = \"native\"\nxdp_on_veth = true").expect("valid");
        assert_eq!((native.xdp, native.xdp_on_veth), (Xdp::Native, true));
    }

    #[test]
    fn profiles_and_timeouts() {
        let shorter = config("profile = \"netfilter\"\n[timeouts]\nudp = 30").expect("valid").settings;
        assert_eq!(shorter.tcp_transitory_timeout, 120 * SECOND);
        assert_eq!(shorter.udp_timeout, 30 * SECOND);
        assert_eq!(shorter.icmp_timeout, Settings::DEFAULT.icmp_timeout);
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "unknown = 1",
            "mark = 3",
            "mark = 0",
            "flow_capacity = 0",
            "flow_capacity = 1000",
            "flow_quota = 0",
            "flood_rate = 0",
            "icmp_error_rate = 0",
            "profile = \"x\"",
            "attach = \"x\"",
            "xdp = \"generic\"",
            "program_log = \"info\"",
            "socket = \"\"",
            "[timeouts]\nudp = 0",
            "[timeouts]\nx = 1",
        ] {
            assert!(config(text).is_err(), "{text}");
        }
    }
}
