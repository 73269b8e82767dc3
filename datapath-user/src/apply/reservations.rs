//! Host ports held for publications, so that no program of the host takes one and is then never reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Error, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};

use crate::kernel::reservation::{Reservation, ReserveError, Transport, reserve, reserve_ahead};
use crate::kernel::sysctl::PortSet;
use crate::model::{Model, Protocol, Publication};

/// A port of one host address, or of all of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    port: u16,
    protocol: Protocol,
    address: IpAddr,
}

impl Key {
    fn wildcard(self) -> Self {
        Self { address: wildcard(self.address), ..self }
    }

    /// The same port on all addresses of the other IP version, if this is on all of one.
    fn other_version(self) -> Option<Self> {
        let address = match self.address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => return None,
        };
        Some(Self { address, ..self })
    }

    fn transport(self) -> Option<Transport> {
        match self.protocol {
            Protocol::Tcp => Some(Transport::Tcp),
            Protocol::Udp => Some(Transport::Udp),
            // Not every kernel has SCTP sockets; where nobody can bind, nothing is to be held.
            Protocol::Sctp => None,
        }
    }
}

/// What holds a port.
#[derive(Debug)]
enum Held {
    /// A socket of its own.
    Alone { _socket: Reservation },
    /// One socket for all addresses of both IP versions: open files are the scarce thing with thousands of ports.
    Both { _socket: Arc<OwnedFd> },
}

/// The ports held now.
#[derive(Debug, Default)]
pub struct Reservations {
    held: BTreeMap<Key, Held>,
    /// What the state before needs. Some of it may not be held: a program took it while no daemon was there.
    needed: Wanted,
}

/// What a change has claimed, and let go of to claim it.
#[derive(Debug, Default)]
pub struct Claimed {
    new: Vec<Key>,
    superseded: Vec<Key>,
}

/// The ports to hold, by what they are of: an address, or all of one IP version.
#[derive(Clone, Debug, Default)]
pub struct Wanted(BTreeMap<(Protocol, IpAddr), PortSet>);

impl Wanted {
    /// Those that a model needs.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let mut wanted = Self::default();
        model.publications.values().for_each(|publication| wanted.add(publication));
        wanted
    }

    /// The same, where these are those of the model `before`: publications that do not differ are not looked at, unless one
    /// goes. What it leaves may be another's too, that waits.
    #[must_use]
    pub fn after(&self, before: &Model, model: &Model) -> Self {
        let mut wanted = self.clone();
        for (_, gone, publication) in before.publications.differences(&model.publications) {
            match (gone, publication) {
                (None, Some(publication)) => wanted.add(publication),
                _ => return Self::of(model),
            }
        }
        wanted
    }

    /// dockerd binds its ports itself, and what is routed takes none.
    fn add(&mut self, publication: &Publication) {
        let routed = publication.target.as_ref().is_some_and(|target| target.routed);
        if routed || publication.docker.is_some() || publication.protocol == Protocol::Sctp {
            return;
        }
        for address in publication.claimed() {
            let ports = self.0.entry((publication.protocol, address)).or_default();
            ports.insert(publication.host.first..=publication.host.last);
        }
    }

    /// All of them, for `ip_local_reserved_ports`.
    #[must_use]
    pub fn ports(&self) -> PortSet {
        self.0.values().fold(PortSet::default(), PortSet::union)
    }

    /// Where a port is wanted on all addresses, that holds it on each.
    fn held_by(&self, protocol: Protocol, address: IpAddr, ports: &PortSet) -> PortSet {
        match self.0.get(&(protocol, wildcard(address))) {
            Some(covered) if !address.is_unspecified() => ports.clone().without(covered),
            _ => ports.clone(),
        }
    }

    /// Those to hold that the other has not.
    fn without(&self, other: &Self) -> BTreeSet<Key> {
        let keys = |(&(protocol, address), ports): (&(Protocol, IpAddr), &PortSet)| {
            let ports = self.held_by(protocol, address, ports);
            let ports = match other.0.get(&(protocol, address)) {
                Some(known) => ports.without(&other.held_by(protocol, address, known)),
                None => ports,
            };
            ports.iter().map(|port| Key { port, protocol, address }).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(keys).collect()
    }
}

/// All addresses of an address's IP version.
const fn wildcard(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Reservations {
    /// What the state needs that was applied last.
    #[must_use]
    pub fn needed(&self) -> &Wanted {
        &self.needed
    }

    /// Holds what is wanted and the state before did not need. All or nothing.
    ///
    /// # Errors
    /// When a port is taken; says by whom.
    pub fn claim(&mut self, wanted: &Wanted) -> Result<Claimed, ReserveError> {
        let missing = wanted.without(&self.needed);
        let mut claimed = Claimed::default();
        for key in &missing {
            let Some(transport) = key.transport() else { continue };
            // Our own socket on all addresses holds it until that is let go of, and then this one's turn comes.
            if self.held.contains_key(key) || self.held.contains_key(&key.wildcard()) {
                continue;
            }
            if key.address.is_unspecified() {
                claimed.superseded.extend(self.let_go_of_single(*key));
            }
            if let Some(other) = key.other_version().filter(|other| missing.contains(other)) {
                claimed.superseded.extend(self.let_go_of_single(other));
                if self.hold_both(*key, other) {
                    claimed.new.extend([*key, other]);
                    continue;
                }
            }
            match reserve(key.address, key.port, transport) {
                Ok(socket) => {
                    self.held.insert(*key, Held::Alone { _socket: socket });
                    claimed.new.push(*key);
                }
                Err(error) => {
                    for left in self.give_back(claimed) {
                        tracing::warn!("{left:#}");
                    }
                    return Err(error);
                }
            }
        }
        Ok(claimed)
    }

    /// Tries to hold all addresses of both IP versions by one socket. Where that fails, each by itself says why.
    fn hold_both(&mut self, one: Key, other: Key) -> bool {
        let Some(transport) = one.transport() else { return false };
        let Ok(socket) = dual_socket(one.port, transport) else { return false };
        let socket = Arc::new(socket);
        for key in [one, other] {
            self.held.insert(key, Held::Both { _socket: Arc::clone(&socket) });
        }
        true
    }

    /// Our own socket on a single address would be in the way of the one on all of them.
    fn let_go_of_single(&mut self, wildcard: Key) -> Vec<Key> {
        let [first, last] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))];
        let same_port = self.held.range(Key { address: first, ..wildcard }..=Key { address: last, ..wildcard });
        let single: Vec<_> =
            same_port.map(|(key, _)| *key).filter(|key| *key != wildcard && key.wildcard() == wildcard).collect();
        for key in &single {
            self.held.remove(key);
        }
        single
    }

    /// Undoes a claim. Returns what could not be held again.
    pub fn give_back(&mut self, claimed: Claimed) -> Vec<Error> {
        for key in &claimed.new {
            self.held.remove(key);
        }
        claimed.superseded.into_iter().filter_map(|key| self.hold_ahead(key).err()).map(Error::from).collect()
    }

    /// Lets go of what is no longer needed: `wanted` is what the state now needs.
    pub fn release(&mut self, wanted: Wanted) {
        for key in self.needed.without(&wanted) {
            self.held.remove(&key);
        }
        for key in wanted.without(&self.needed) {
            if !self.held.contains_key(&key)
                && let Err(taken) = self.hold_ahead(key)
            {
                tracing::warn!("a published port is not held: {taken}");
            }
        }
        self.needed = wanted;
    }

    /// Holds what it can of what `model` needs; returns why not the rest. For ports that were published before: their
    /// publications stay, for translation comes before any socket.
    pub fn hold_what_is_free(&mut self, model: &Model) -> Vec<ReserveError> {
        self.needed = Wanted::of(model);
        let missing: BTreeSet<_> =
            self.needed.without(&Wanted::default()).into_iter().filter(|key| !self.held.contains_key(key)).collect();
        let mut taken = Vec::new();
        for key in &missing {
            let other = key.other_version().filter(|other| missing.contains(other));
            let held = self.held.contains_key(key) || other.is_some_and(|other| self.hold_both(*key, other));
            if !held {
                taken.extend(self.hold_ahead(*key).err());
            }
        }
        taken
    }

    fn hold_ahead(&mut self, key: Key) -> Result<(), ReserveError> {
        let Some(transport) = key.transport() else { return Ok(()) };
        let socket = reserve_ahead(key.address, key.port, transport)?;
        self.held.insert(key, Held::Alone { _socket: socket });
        Ok(())
    }
}

/// A socket that holds a port on all addresses of both IP versions. It never listens and never reads.
fn dual_socket(port: u16, transport: Transport) -> nix::Result<OwnedFd> {
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    setsockopt(&socket, sockopt::RcvBuf, &0)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::time::{Duration, Instant};

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::kernel::scratch;
    use crate::model::{AttachRequest, Host, NetworkRequest, random_ula};

    /// Until it succeeds: a child that a test beside this one starts has a copy of our sockets until it runs its program.
    fn soon<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
        let end = Instant::now() + lab::PATIENCE;
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) => assert!(Instant::now() < end, "{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A network with the endpoint `web`, which publishes nothing.
    fn one_endpoint() -> Model {
        let mut model = Model::default();
        let network = NetworkRequest { name: "app".to_owned(), ..NetworkRequest::default() };
        model.create_network(&network, random_ula([1; 7]), &Host::default()).expect("a network");
        let web = AttachRequest { netns: "web".to_owned(), network: "app".to_owned(), ..AttachRequest::default() };
        model.attach(&web, (4, 1), &[], String::new()).expect("an endpoint");
        model
    }

    /// Publishes a port for `web`; with a dash before it, withdraws it.
    fn change(model: &mut Model, port: &str) {
        match port.strip_prefix('-') {
            Some(port) => drop(model.unpublish(&port.parse().expect("a port")).expect("unpublished")),
            None => drop(model.publish(&port.parse().expect("a port"), "web", None, &[]).expect("published")),
        }
    }

    #[test]
    fn all_addresses_hold_each() {
        let mut model = one_endpoint();
        for port in ["192.0.2.1:80:80", "192.0.2.2:80:81", "192.0.2.1:81:81", "80:82", "5:5/sctp"] {
            change(&mut model, port);
        }
        let keys = Wanted::of(&model).without(&Wanted::default());
        let shown: Vec<_> = keys.iter().map(|key| format!("{}:{}", key.address, key.port)).collect();
        assert_eq!(shown, ["0.0.0.0:80", ":::80", "192.0.2.1:81"]);
        assert_eq!(Wanted::of(&model).ports().to_string(), "80-81");
    }

    #[test]
    fn what_comes_is_added_and_what_goes_has_all_counted_anew() {
        let mut model = one_endpoint();
        let mut wanted = Wanted::of(&model);
        for step in ["192.0.2.1:80:80", "80:82", "-192.0.2.1:80", "5:5/sctp", "90:90/udp", "-80", "-90/udp"] {
            let before = model.clone();
            change(&mut model, step);
            let (after, anew) = (wanted.after(&before, &model), Wanted::of(&model));
            assert_eq!(after.without(&Wanted::default()), anew.without(&Wanted::default()), "after {step}");
            assert_eq!(after.ports(), anew.ports(), "after {step}");
            wanted = after;
        }
        assert!(wanted.without(&Wanted::default()).is_empty());
    }

    #[test]
    fn one_socket_holds_both_versions() {
        let test = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root: a network namespace of its own");
            let mut model = one_endpoint();
            change(&mut model, "8080:80");
            let mut reservations = Reservations::default();
            reservations.claim(&Wanted::of(&model)).expect("free");
            assert!(reservations.held.values().all(|held| matches!(held, Held::Both { .. })));
            reservations.release(Wanted::of(&model));
            assert!(TcpListener::bind("0.0.0.0:8080").is_err() && TcpListener::bind("[::]:8080").is_err());
            assert!(UdpSocket::bind("0.0.0.0:8080").is_ok());
            reservations.release(Wanted::default());
            let listener = soon(|| TcpListener::bind("0.0.0.0:8080"));
            let refused = reservations.claim(&Wanted::of(&model)).expect_err("somebody has it");
            assert!(matches!(refused, ReserveError::Taken { port: 8080, .. }), "{refused}");
            assert!(reservations.held.is_empty());
            drop(listener);
            soon(|| reservations.claim(&Wanted::of(&model)));
        });
        test.join().expect("the test");
    }

    #[test]
    fn one_address_is_held_when_all_are_let_go_of() {
        scratch::in_namespace(|| {
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2");
            assert!(up.success());
            let mut model = one_endpoint();
            let mut reservations = Reservations::default();
            for step in ["127.0.0.1:80:80", "80:81", "-80", "80:81", "-127.0.0.1:80", "127.0.0.1:80:80", "-80"] {
                change(&mut model, step);
                soon(|| reservations.claim(&Wanted::of(&model)).map_err(|error| format!("{step}: {error}")));
                reservations.release(Wanted::of(&model));
                let all = model.publications.values().any(|publication| publication.host_ip.is_none());
                assert!(TcpListener::bind("127.0.0.1:80").is_err(), "after {step}");
                if all {
                    assert!(TcpListener::bind("127.0.0.2:80").is_err(), "after {step}");
                } else {
                    soon(|| TcpListener::bind("127.0.0.2:80").map_err(|error| format!("after {step}: {error}")));
                }
            }
        });
    }
}
