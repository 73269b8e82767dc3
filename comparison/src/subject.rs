//! What is compared, by name.

use std::fmt;

use lab::reference::Backend;

/// One way from a client to a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// L: two namespaces on one wire.
    Wire,
    /// R: a host that routes, without netfilter.
    Routed,
    /// The same host, the other way.
    RoutedOut,
    /// B0, B1n, B1l: two containers on a bridge, without rules or with Docker's.
    Bridge(Option<Backend>),
    /// B2n, B2l: a port published by those rules, the last of so many.
    BridgePublished(Backend, u32),
    /// Out of a container of B2n or B2l, masqueraded.
    BridgeOut(Backend),
    /// E-W: two endpoints of one of our networks.
    Switched,
    /// The same among so many endpoints.
    SwitchedAmong(u32),
    /// The same on a network with `--big-tcp`.
    SwitchedBig,
    /// N-S: a port that we publish, the last of so many, from a machine on the LAN.
    Published(u32),
    /// From one of our endpoints to a machine on the LAN, masqueraded.
    Out,
    /// The same from a network with `--big-tcp`.
    OutBig,
    /// Two containers of a dockerd on its own bridge, which we have adopted.
    Adopted,
    /// A port that this dockerd publishes, from a machine on the LAN.
    AdoptedPublished,
    /// Out of one of its containers, masqueraded.
    AdoptedOut,
}

/// What stands for one subject or more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Site {
    /// L.
    Wire,
    /// R.
    Router,
    /// B0 and B1.
    Bridge(Option<Backend>),
    /// B2 with so many ports.
    BridgePublished(Backend, u32),
    /// A host of ours with so many published ports.
    Own(u32),
    /// A host of ours with so many endpoints.
    OwnCrowded(u32),
    /// A host of ours whose network has `--big-tcp`.
    OwnBig,
    /// A host of ours with a dockerd.
    Adopted,
}

impl Subject {
    /// Where it is measured.
    #[must_use]
    pub const fn site(self) -> Site {
        match self {
            Self::Wire => Site::Wire,
            Self::Routed | Self::RoutedOut => Site::Router,
            Self::Bridge(rules) => Site::Bridge(rules),
            Self::BridgePublished(backend, ports) => Site::BridgePublished(backend, ports),
            Self::BridgeOut(backend) => Site::BridgePublished(backend, 1),
            Self::Switched | Self::Out => Site::Own(1),
            Self::SwitchedAmong(endpoints) => Site::OwnCrowded(endpoints),
            Self::SwitchedBig | Self::OutBig => Site::OwnBig,
            Self::Published(ports) => Site::Own(ports),
            Self::Adopted | Self::AdoptedPublished | Self::AdoptedOut => Site::Adopted,
        }
    }

    /// Whether it is ours, and not a reference.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self.site(), Site::Own(_) | Site::OwnCrowded(_) | Site::OwnBig | Site::Adopted)
    }
}

/// As tables have it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wire => f.write_str("L"),
            Self::Routed => f.write_str("R"),
            Self::RoutedOut => f.write_str("R out"),
            Self::Bridge(None) => f.write_str("B0"),
            Self::Bridge(Some(backend)) => write!(f, "B1{}", letter(backend)),
            Self::BridgePublished(backend, 1) => write!(f, "B2{}", letter(backend)),
            Self::BridgePublished(backend, ports) => write!(f, "B2{}, {} ports", letter(backend), grouped(ports)),
            Self::BridgeOut(backend) => write!(f, "B2{} out", letter(backend)),
            Self::Switched => f.write_str("E-W"),
            Self::SwitchedAmong(endpoints) => write!(f, "E-W, {} endpoints", grouped(endpoints)),
            Self::SwitchedBig => f.write_str("BIG TCP E-W"),
            Self::Published(1) => f.write_str("N-S"),
            Self::Published(ports) => write!(f, "N-S, {} ports", grouped(ports)),
            Self::Out => f.write_str("out"),
            Self::OutBig => f.write_str("BIG TCP out"),
            Self::Adopted => f.write_str("adopted E-W"),
            Self::AdoptedPublished => f.write_str("adopted N-S"),
            Self::AdoptedOut => f.write_str("adopted out"),
        }
    }
}

/// As progress and reports have it.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wire => Subject::Wire.fmt(f),
            Self::Router => Subject::Routed.fmt(f),
            Self::Bridge(rules) => Subject::Bridge(rules).fmt(f),
            Self::BridgePublished(backend, ports) => Subject::BridgePublished(backend, ports).fmt(f),
            Self::Own(1) => f.write_str("our host"),
            Self::Own(ports) => write!(f, "our host with {} published ports", grouped(ports)),
            Self::OwnCrowded(endpoints) => write!(f, "our host with {} endpoints", grouped(endpoints)),
            Self::OwnBig => f.write_str("our host with BIG TCP"),
            Self::Adopted => f.write_str("our host with a dockerd"),
        }
    }
}

const fn letter(backend: Backend) -> char {
    match backend {
        Backend::Nft => 'n',
        Backend::Legacy => 'l',
    }
}

/// With a comma behind the thousands.
#[must_use]
pub fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_documents() {
        let names = [
            (Subject::Bridge(Some(Backend::Nft)), "B1n"),
            (Subject::BridgePublished(Backend::Legacy, 10_000), "B2l, 10,000 ports"),
            (Subject::BridgePublished(Backend::Nft, 1), "B2n"),
            (Subject::Published(100_000), "N-S, 100,000 ports"),
            (Subject::Published(100), "N-S, 100 ports"),
        ];
        for (subject, name) in names {
            assert_eq!(subject.to_string(), name);
        }
        assert_eq!(Site::Own(10_000).to_string(), "our host with 10,000 published ports");
    }
}
