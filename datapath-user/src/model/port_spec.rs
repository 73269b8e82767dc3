//! The syntax of published ports, as `docker -p` has it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Refusal;

/// Transport protocols that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, where the port does not change.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some ports in a row, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first, above 0.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// How many ports.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The ports.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Whether a port is in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Host ports asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPorts {
    /// These.
    Given(PortRange),
    /// Any free ones.
    Any,
}

/// What `publish` asks for: `[HOSTIP:]HOSTPORT[-END]:PORT[-END][/PROTOCOL]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The host address; none: all of them.
    pub host_ip: Option<IpAddr>,
    /// The host ports.
    pub host: HostPorts,
    /// The container's ports.
    pub container: PortRange,
    /// The protocol.
    pub protocol: Protocol,
}

/// What `unpublish` names: `[HOSTIP:]HOSTPORT[-END][/PROTOCOL]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpublishSpec {
    /// The host address, as it was published.
    pub host_ip: Option<IpAddr>,
    /// The host ports, as they were published.
    pub host: PortRange,
    /// The protocol.
    pub protocol: Protocol,
}

impl FromStr for PortSpec {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: String| {
            Refusal::invalid(
                format!("{text:?} cannot be published: {why}"),
                "write [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|/udp|/sctp], such as 8080:80 or [::1]:8000-8010:80-90/udp",
            )
        };
        let (rest, protocol) = split_protocol(text).map_err(refuse)?;
        let (rest, container) = rest.rsplit_once(':').unwrap_or(("", rest));
        let container = parse_ports(container).map_err(refuse)?;
        let (host_ip, host) = split_address(rest).map_err(refuse)?;
        let host = match host {
            "" | "0" => HostPorts::Any,
            ports => HostPorts::Given(parse_ports(ports).map_err(refuse)?),
        };
        if let HostPorts::Given(ports) = host {
            if ports.count() != container.count() {
                return Err(refuse(format!(
                    "{ports} has {} and {container} has {} ports, which must be as many",
                    ports.count(),
                    container.count()
                )));
            }
            if protocol == Protocol::Sctp && ports != container {
                return Err(refuse("the port of SCTP cannot be translated".to_owned()));
            }
        }
        let host = if protocol == Protocol::Sctp { HostPorts::Given(container) } else { host };
        Ok(Self { host_ip, host, container, protocol })
    }
}

impl FromStr for UnpublishSpec {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: String| {
            Refusal::invalid(
                format!("{text:?} names no published port: {why}"),
                "write [HOSTIP:]HOSTPORT[-END][/tcp|/udp|/sctp] as `datapath port ls` shows it",
            )
        };
        let (rest, protocol) = split_protocol(text).map_err(refuse)?;
        let (host_ip, host) = split_address(rest).map_err(refuse)?;
        Ok(Self { host_ip, host: parse_ports(host).map_err(refuse)?, protocol })
    }
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    let Some((rest, name)) = text.rsplit_once('/') else { return Ok((text, Protocol::Tcp)) };
    let protocol =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| name.eq_ignore_ascii_case(p.name()));
    protocol.map(|protocol| (rest, protocol)).ok_or_else(|| format!("{name:?} is not tcp, udp or sctp"))
}

/// The address and the ports of `ADDRESS:PORTS`, `[ADDRESS]:PORTS` or `PORTS`.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("a `]` is missing")?;
        let ports = rest.strip_prefix(':').ok_or("a `:` is missing after `]`")?;
        let address = address.parse().map_err(|_| format!("{address:?} is not an IPv6 address"))?;
        return Ok((Some(check_host_ip(IpAddr::V6(address))?), ports));
    }
    let Some((address, ports)) = text.rsplit_once(':') else { return Ok((None, text)) };
    if address.contains(':') {
        return Err("an IPv6 address belongs in brackets, as in [::1]:80:80".to_owned());
    }
    let address = address.parse().map_err(|_| format!("{address:?} is not an IPv4 address"))?;
    Ok((Some(check_host_ip(IpAddr::V4(address))?), ports))
}

fn check_host_ip(address: IpAddr) -> Result<IpAddr, String> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.is_multicast() || broadcast {
        return Err(format!("{address} is not a unicast address"));
    }
    if mapped {
        return Err(format!("{address} is an IPv4 address in IPv6 form; write it as IPv4"));
    }
    if link_local {
        return Err(format!("{address} is a link-local address, which says nothing without its interface"));
    }
    Ok(address)
}

fn parse_ports(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse::<u16>().ok() } else { None };
        number.filter(|port| *port > 0).ok_or_else(|| format!("{text:?} is not a port between 1 and 65535"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = PortRange { first: port(first)?, last: port(last)? };
    if range.first > range.last { Err(format!("{text} ends before it begins")) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(text: &str) -> String {
        match text.parse::<PortSpec>() {
            Ok(PortSpec { host_ip, host, container, protocol }) => {
                let ip = host_ip.map_or("*".to_owned(), |ip| ip.to_string());
                let host = match host {
                    HostPorts::Given(ports) => ports.to_string(),
                    HostPorts::Any => "any".to_owned(),
                };
                format!("{ip} {host} {container} {protocol}")
            }
            Err(refusal) => panic!("{refusal}"),
        }
    }

    #[test]
    fn forms_of_docker() {
        for (text, meaning) in [
            ("8080:80", "* 8080 80 tcp"),
            ("80:80/udp", "* 80 80 udp"),
            ("80:80/UDP", "* 80 80 udp"),
            ("127.0.0.1:80:80", "127.0.0.1 80 80 tcp"),
            ("0.0.0.0:80:80", "0.0.0.0 80 80 tcp"),
            ("[::1]:80:80", "::1 80 80 tcp"),
            ("[::]:80:80/tcp", ":: 80 80 tcp"),
            ("192.0.2.9::80", "192.0.2.9 any 80 tcp"),
            ("[2001:db8::1]::80", "2001:db8::1 any 80 tcp"),
            ("8000-8010:80-90", "* 8000-8010 80-90 tcp"),
            ("0:80", "* any 80 tcp"),
            (":80", "* any 80 tcp"),
            ("80", "* any 80 tcp"),
            ("80-90", "* any 80-90 tcp"),
            ("132:132/sctp", "* 132 132 sctp"),
            ("132/sctp", "* 132 132 sctp"),
            ("1-65535:1-65535", "* 1-65535 1-65535 tcp"),
        ] {
            assert_eq!(spec(text), meaning, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            ":",
            "80:",
            "80:0",
            "65536:80",
            "80:65536",
            "-1:80",
            "80-:80",
            "90-80:90-80",
            "8000-8010:80",
            "8000-8010:80-89",
            "80:80/",
            "80:80/icmp",
            "::1:80:80",
            "[::1:80:80",
            "[::1]80:80",
            "[127.0.0.1]:80:80",
            "example.org:80:80",
            "1.2.3:80:80",
            "224.0.0.1:80:80",
            "255.255.255.255:80:80",
            "[ff02::1]:80:80",
            "[fe80::1]:80:80",
            "[::ffff:10.0.0.1]:80:80",
            "80:81/sctp",
            "+80:80",
            " 80:80",
            "80:80 ",
            "8O:80",
            "1:2:3:4",
        ] {
            assert!(text.parse::<PortSpec>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn unpublish_forms() {
        let spec: UnpublishSpec = "[::1]:8000-8010/udp".parse().expect("a form");
        assert_eq!(spec.host_ip, Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)));
        assert_eq!((spec.host, spec.protocol), (PortRange { first: 8000, last: 8010 }, Protocol::Udp));
        assert_eq!("80".parse::<UnpublishSpec>().expect("a form").host, PortRange::one(80));
        for bad in ["", "0", "80:80", "tcp", "127.0.0.1:", "80/x"] {
            assert!(bad.parse::<UnpublishSpec>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-f:\\[\\]./-]{0,30}") {
            let _ = text.parse::<PortSpec>();
            let _ = text.parse::<UnpublishSpec>();
        }

        #[test]
        fn means_what_it_says(ip: Option<IpAddr>, host in 1u16.., container in 1u16.., length in 0u16..100, udp: bool) {
            prop_assume!(ip.is_none_or(|ip| check_host_ip(ip).is_ok()));
            prop_assume!(host.checked_add(length).is_some() && container.checked_add(length).is_some());
            let ports = PortRange { first: host, last: host + length };
            let inside = PortRange { first: container, last: container + length };
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let address = match ip {
                None => String::new(),
                Some(IpAddr::V4(v4)) => format!("{v4}:"),
                Some(IpAddr::V6(v6)) => format!("[{v6}]:"),
            };
            let parsed = format!("{address}{ports}:{inside}/{protocol}").parse::<PortSpec>();
            prop_assert_eq!(parsed, Ok(PortSpec { host_ip: ip, host: HostPorts::Given(ports), container: inside, protocol }));
            let named = format!("{address}{ports}/{protocol}").parse::<UnpublishSpec>();
            prop_assert_eq!(named, Ok(UnpublishSpec { host_ip: ip, host: ports, protocol }));
        }
    }
}
