//! A container: a namespace that a host attaches to its networks.

use std::net::IpAddr;

use crate::namespace::Namespace;

/// A container's namespace, with the name and addresses it has on its (first) network.
#[derive(Debug)]
pub struct Container {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name as an endpoint.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Container {
    /// Its address of the family of `like`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn address_like(&self, like: IpAddr) -> IpAddr {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        *found.unwrap_or_else(|| panic!("{} has no address like {like}", self.name))
    }
}
