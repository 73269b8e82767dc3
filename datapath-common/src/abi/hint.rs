//! Where to look first for an endpoint: an array's place costs a packet a tenth of what a hash table does.
//!
//! The hash tables say whose a port or an address is; a hint only says where the answer is likely to be. Whoever follows it
//! asks the endpoint there, so a hint that is missing, stale, or overwritten by another endpoint's costs time and nothing else.

use super::AddressKey;

/// Places of each table of hints.
pub const HINTS: u32 = 1 << 16;

/// An odd number near 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The place for a port, by its ifindex.
#[inline(always)]
#[must_use]
pub const fn of_ifindex(ifindex: u32) -> u32 {
    ifindex & (HINTS - 1)
}

/// The place for an address of a network. Addresses of one /24, or one /112, have places of their own.
#[inline(always)]
#[must_use]
pub const fn of_address(key: &AddressKey) -> u32 {
    let [high, low] = key.address.words;
    let mixed = (high ^ key.network as u64).wrapping_mul(MULTIPLIER) ^ low;
    (mixed.wrapping_mul(MULTIPLIER) >> 48) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::abi::Address;

    #[test]
    fn neighbours_have_places_of_their_own() {
        let v4 = (0..=255).map(|host| Address::v4([10, 20, 1, host]));
        let v6 = (0..=255).map(|host| Address::v6([0xfd, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]));
        let families: [Vec<Address>; 2] = [v4.collect(), v6.collect()];
        for addresses in families {
            let places: HashSet<u32> = addresses.iter().map(|&own| of_address(&AddressKey::new(7, own))).collect();
            assert_eq!(places.len(), addresses.len());
            assert!(places.iter().all(|place| *place < HINTS));
        }
    }

    #[test]
    fn the_same_address_of_many_networks_is_spread() {
        let places: HashSet<u32> =
            (1..=1_000).map(|network| of_address(&AddressKey::new(network, Address::v4([172, 17, 0, 2])))).collect();
        assert!(places.len() > 950, "{}", places.len());
    }
}
