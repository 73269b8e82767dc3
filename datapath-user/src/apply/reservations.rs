//! Host ports held for publications, so that no program of the host takes one and is then never reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Error, Result};

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
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { address, ..self }
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

/// The ports held now.
#[derive(Debug, Default)]
pub struct Reservations {
    held: BTreeMap<Key, Reservation>,
    /// What the state before needs. Some of it may not be held: a program took it while no daemon was there.
    needed: BTreeSet<Key>,
}

/// What a change has claimed, and let go of to claim it.
#[derive(Debug, Default)]
pub struct Claimed {
    new: Vec<Key>,
    superseded: Vec<Key>,
}

/// The ports to hold: where one is published on all addresses, that holds it on each.
#[must_use]
pub fn wanted(model: &Model) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    let routed = |publication: &&Publication| publication.target.as_ref().is_some_and(|target| target.routed);
    for publication in model.publications.values().filter(|publication| !routed(publication)) {
        for address in publication.claimed() {
            keys.extend(publication.host.ports().map(|port| Key { port, protocol: publication.protocol, address }));
        }
    }
    let covered = |key: &Key| key.address.is_unspecified() || !keys.contains(&key.wildcard());
    keys.iter().filter(|key| key.transport().is_some() && covered(key)).copied().collect()
}

impl Reservations {
    /// Holds what `model` needs and the state before did not. All or nothing.
    ///
    /// # Errors
    /// When a port is taken; says by whom.
    pub fn claim(&mut self, model: &Model) -> Result<Claimed, ReserveError> {
        let missing: Vec<_> = wanted(model).into_iter().filter(|key| !self.needed.contains(key)).collect();
        let mut claimed = Claimed::default();
        for key in missing {
            let Some(transport) = key.transport() else { continue };
            if key.address.is_unspecified() {
                claimed.superseded.extend(self.let_go_of_single(key));
            }
            match reserve(key.address, key.port, transport) {
                Ok(reservation) => {
                    self.held.insert(key, reservation);
                    claimed.new.push(key);
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

    /// Our own socket on a single address would be in the way of the one on all of them.
    fn let_go_of_single(&mut self, wildcard: Key) -> Vec<Key> {
        let single: Vec<_> =
            self.held.keys().filter(|key| **key != wildcard && key.wildcard() == wildcard).copied().collect();
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

    /// Lets go of what is no longer needed: `model` is the state now.
    pub fn release(&mut self, model: &Model) {
        let wanted = wanted(model);
        self.held.retain(|key, _| wanted.contains(key));
        self.needed = wanted;
    }

    /// Holds what it can of what `model` needs; returns why not the rest. For ports that were published before: their
    /// publications stay, for translation comes before any socket.
    pub fn hold_what_is_free(&mut self, model: &Model) -> Vec<ReserveError> {
        self.needed = wanted(model);
        let missing: Vec<_> = self.needed.iter().filter(|key| !self.held.contains_key(key)).copied().collect();
        missing.into_iter().filter_map(|key| self.hold_ahead(key).err()).collect()
    }

    fn hold_ahead(&mut self, key: Key) -> Result<(), ReserveError> {
        let Some(transport) = key.transport() else { return Ok(()) };
        self.held.insert(key, reserve_ahead(key.address, key.port, transport)?);
        Ok(())
    }
}

/// The host ports to hold, for `ip_local_reserved_ports`.
#[must_use]
pub fn port_set(model: &Model) -> PortSet {
    wanted(model).into_iter().map(|key| key.port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttachRequest, Host, NetworkRequest, random_ula};

    #[test]
    fn all_addresses_hold_each() {
        let mut model = Model::default();
        let network = NetworkRequest { name: "app".to_owned(), ..NetworkRequest::default() };
        model.create_network(&network, random_ula([1; 7]), &Host::default()).expect("a network");
        let web = AttachRequest { netns: "web".to_owned(), network: "app".to_owned(), ..AttachRequest::default() };
        model.attach(&web, (4, 1), &[], String::new()).expect("an endpoint");
        for port in ["192.0.2.1:80:80", "192.0.2.2:80:81", "192.0.2.1:81:81", "80:82", "5:5/sctp"] {
            model.publish(&port.parse().expect("a port"), "web", None, &[]).expect("published");
        }
        let shown: Vec<_> = wanted(&model).into_iter().map(|key| format!("{}:{}", key.address, key.port)).collect();
        assert_eq!(shown, ["0.0.0.0:80", ":::80", "192.0.2.1:81"]);
        assert_eq!(port_set(&model).to_string(), "80-81");
    }
}
