//! One line of a scenario: who tries to reach what, and how that must end.

use lab::docker::{Release, Rules};
use lab::{Family, Protocol};

/// Where a client runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Another machine on the host's LAN.
    Lan,
    /// A machine far away.
    Internet,
    /// The host itself.
    Host,
    /// This container.
    In(&'static str),
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// 127.0.0.1 and ::1.
    Loopback,
    /// The host's addresses on the LAN.
    Host,
    /// Its second addresses there.
    Second,
    /// The gateway addresses of this network.
    Gateway(&'static str),
    /// The addresses of a container on a network; the last known ones, if it has left.
    Container(&'static str, &'static str),
    /// The server far away.
    Internet,
}

/// Which port of the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// This one.
    Number(u16),
    /// That at which Docker says it has published this port of this container.
    Published(&'static str, u16),
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self::Number(number)
    }
}

/// Whom the server sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The client, by the address that it uses for this target.
    Client,
    /// The gateway of this network.
    Gateway(&'static str),
    /// The IPv4 gateway of this network, though the client used IPv6.
    GatewayV4(&'static str),
    /// The host, by its address on the LAN: masquerade.
    Uplink,
}

/// How an attempt ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// This server answers, from the address that was asked, and sees this client.
    Reached(&'static str, Seen),
    /// docker-proxy answers in the name of this server, which sees this client. Before 28 it answers datagrams from the
    /// address that is nearest to the client, so the client hears nothing unless that is the one it asked.
    Proxied(&'static str, Seen),
    /// It is delivered, and nobody answers.
    Unanswered,
    /// It is not delivered.
    Refused,
}

/// An attempt by each of its families and protocols.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub from: Place,
    pub to: Target,
    pub port: Port,
    pub families: &'static [Family],
    pub protocols: &'static [Protocol],
    /// With the datapath.
    pub outcome: Outcome,
    /// The container's own address is where its port is published: gateway mode routed.
    pub routed: bool,
    /// With stock dockerd, where that differs.
    stock: Vec<Stock>,
}

/// What stock dockerd does otherwise.
#[derive(Clone, Copy, Debug)]
struct Stock {
    outcome: Outcome,
    releases: &'static [Release],
    /// For the reader of the scenario.
    _why: &'static str,
}

pub const V4: &[Family] = &[Family::V4];
pub const V6: &[Family] = &[Family::V6];
pub const TCP: &[Protocol] = &[Protocol::Tcp];
pub const UDP: &[Protocol] = &[Protocol::Udp, Protocol::ConnectedUdp];

/// Who asks whom; followed by what must come of it.
pub struct Question {
    from: Place,
    to: Target,
    port: Port,
}

pub fn ask(from: Place, to: Target, port: impl Into<Port>) -> Question {
    Question { from, to, port: port.into() }
}

impl Question {
    pub fn reaches(self, server: &'static str, seen: Seen) -> Attempt {
        self.ends(Outcome::Reached(server, seen))
    }

    pub fn hangs(self) -> Attempt {
        self.ends(Outcome::Unanswered)
    }

    pub fn fails(self) -> Attempt {
        self.ends(Outcome::Refused)
    }

    fn ends(self, outcome: Outcome) -> Attempt {
        let Self { from, to, port } = self;
        Attempt {
            from,
            to,
            port,
            families: &Family::ALL,
            protocols: &Protocol::ALL,
            outcome,
            routed: false,
            stock: Vec::new(),
        }
    }
}

impl Attempt {
    pub fn families(mut self, families: &'static [Family]) -> Self {
        self.families = families;
        self
    }

    pub fn protocols(mut self, protocols: &'static [Protocol]) -> Self {
        self.protocols = protocols;
        self
    }

    /// It counts as a flow to a published port, though no address of the host is asked.
    pub fn routed(mut self) -> Self {
        self.routed = true;
        self
    }

    /// Stock dockerd reaches it all the same, or shows the server somebody else.
    pub fn stock_reaches(self, server: &'static str, seen: Seen, why: &'static str) -> Self {
        self.stock_ends(Outcome::Reached(server, seen), why)
    }

    /// Stock dockerd does not reach it.
    pub fn stock_fails(self, why: &'static str) -> Self {
        self.stock_ends(Outcome::Refused, why)
    }

    /// Stock dockerd leads containers, and IPv6 clients of IPv4 containers, to docker-proxy.
    pub fn stock_proxies(self, server: &'static str, seen: Seen) -> Self {
        self.stock_ends(Outcome::Proxied(server, seen), "docker-proxy hides the client")
    }

    fn stock_ends(mut self, outcome: Outcome, why: &'static str) -> Self {
        self.stock.push(Stock { outcome, releases: &Release::ALL, _why: why });
        self
    }

    /// What was said last of stock dockerd holds for 20.10; 28 does as the datapath.
    pub fn before_28(self) -> Self {
        self.stock_only(&[Release::V20])
    }

    /// What was said last of stock dockerd holds since 28; 20.10 does as the datapath.
    pub fn since_28(self) -> Self {
        self.stock_only(&[Release::V28])
    }

    fn stock_only(mut self, releases: &'static [Release]) -> Self {
        self.stock.iter_mut().last().expect("something was said of stock dockerd").releases = releases;
        self
    }

    /// How it ends with these rules, in the release that runs.
    pub fn expected(&self, rules: Rules) -> Outcome {
        let stock = self.stock.iter().find(|stock| stock.releases.contains(&Release::current()));
        stock.filter(|_| rules == Rules::Stock).map_or(self.outcome, |stock| stock.outcome)
    }
}

/// A container with a published port, and who else is there.
pub struct Published {
    pub server: &'static str,
    /// The network that its port is published through.
    pub network: &'static str,
    pub port: u16,
    /// A container of the same network.
    pub sibling: &'static str,
    /// A container of another network.
    pub other: &'static str,
}

impl Published {
    /// A port published on all addresses of the host, from every vantage point (P2, P3).
    pub fn everywhere(&self) -> Vec<Attempt> {
        use Place::{Host, In, Internet, Lan};
        let &Self { server, network, port, sibling, other } = self;
        let gateway = Seen::Gateway(network);
        vec![
            ask(Lan, Target::Host, port).reaches(server, Seen::Client),
            ask(Lan, Target::Second, port).reaches(server, Seen::Client),
            ask(Internet, Target::Host, port).reaches(server, Seen::Client),
            ask(Host, Target::Loopback, port).reaches(server, gateway),
            ask(Host, Target::Host, port).reaches(server, Seen::Client),
            ask(Host, Target::Second, port).reaches(server, Seen::Client),
            ask(Host, Target::Gateway(network), port).reaches(server, Seen::Client),
            ask(In(sibling), Target::Host, port).reaches(server, Seen::Client).stock_proxies(server, gateway),
            ask(In(sibling), Target::Gateway(network), port)
                .reaches(server, Seen::Client)
                .stock_proxies(server, gateway),
            ask(In(other), Target::Host, port).reaches(server, Seen::Client).stock_proxies(server, gateway),
            ask(In(server), Target::Host, port).reaches(server, gateway).stock_proxies(server, gateway),
        ]
    }
}
