//! Veth pairs between namespaces, and their offloads.

use anyhow::Result;

use crate::namespace::Namespace;

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub name: &'a str,
    /// Its addresses, each with prefix length.
    pub addresses: &'a [&'a str],
}

impl Link<'_> {
    /// Joins the two ends by a veth pair, addresses them and sets both up.
    pub fn join(&self, other: &Link<'_>) -> Result<()> {
        self.namespace.ip(&format!(
            "link add {} type veth peer name {} netns {}",
            self.name,
            other.name,
            other.namespace.name()
        ))?;
        for end in [self, other] {
            end.configure()?;
        }
        Ok(())
    }

    pub(crate) fn configure(&self) -> Result<()> {
        let mut batch = String::new();
        for address in self.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            batch += &format!("addr add {address} dev {}{nodad}\n", self.name);
        }
        batch += &format!("link set {} up\n", self.name);
        self.namespace.ip(&batch)
    }
}

/// Offloads of an interface, as `ethtool -K` names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// All of them on, as veth comes.
    On,
    /// No TSO, GSO or GRO, and checksums calculated by the sender.
    Off,
}

impl Namespace {
    /// Sets the offloads of an interface.
    pub fn set_offload(&self, interface: &str, offload: Offload) -> Result<()> {
        let state = if offload == Offload::On { "on" } else { "off" };
        let mut arguments = vec!["-K", interface];
        for feature in ["tx", "tso", "gso", "gro"] {
            arguments.extend([feature, state]);
        }
        self.run("ethtool", arguments).map(drop)
    }
}
