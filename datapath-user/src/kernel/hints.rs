//! Where the programs look first for an endpoint ([`datapath_common::abi::hint`]).

use std::path::Path;

use anyhow::Result;
use datapath_common::abi::{AddressKey, HOST, hint, map};

use super::map::Map;

/// The hints that stand beside two of the tables. Written after the key, and taken away before it.
#[derive(Debug)]
pub struct Hints {
    by_ifindex: Map<u32, u32>,
    by_address: Map<u32, u32>,
}

impl Hints {
    /// Opens them in the pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Ok(Self {
            by_ifindex: Map::open(pin_dir, map::ENDPOINT_HINT_BY_IFINDEX)?,
            by_address: Map::open(pin_dir, map::ENDPOINT_HINT_BY_ADDRESS)?,
        })
    }

    /// An endpoint is behind this device.
    pub fn note_ifindex(&self, ifindex: u32, index: u32) -> Result<()> {
        self.by_ifindex.set(&hint::of_ifindex(ifindex), &index)
    }

    /// An endpoint is behind this device no more.
    pub fn forget_ifindex(&self, ifindex: u32, index: Option<u32>) -> Result<()> {
        forget(&self.by_ifindex, hint::of_ifindex(ifindex), index)
    }

    /// An endpoint has this address. The host's are not looked for in this way.
    pub fn note_address(&self, key: &AddressKey, index: u32) -> Result<()> {
        if index == HOST { Ok(()) } else { self.by_address.set(&hint::of_address(key), &index) }
    }

    /// An endpoint has this address no more.
    pub fn forget_address(&self, key: &AddressKey, index: Option<u32>) -> Result<()> {
        forget(&self.by_address, hint::of_address(key), index)
    }
}

/// Takes the hint at a place away, if it is that of this endpoint.
fn forget(hints: &Map<u32, u32>, place: u32, index: Option<u32>) -> Result<()> {
    if index.is_some() && hints.get(&place)? == index { hints.set(&place, &0) } else { Ok(()) }
}
