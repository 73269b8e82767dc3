//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are of native words: one's complement addition does not care for byte order, as long as the result is stored
//! the way the words were loaded.

use crate::abi::Address;

/// A one's complement sum of 64 bits, which folds to the sum of 16-bit words (RFC 1071 section 2 (C)).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds a word, with the carry coming in at the other end.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + carry as u64)
    }

    /// Adds a 16-bit word.
    #[inline(always)]
    #[must_use]
    pub const fn add16(self, word: u16) -> Self {
        self.add(word as u64)
    }

    /// Takes a 16-bit word away.
    #[inline(always)]
    #[must_use]
    pub const fn subtract16(self, word: u16) -> Self {
        self.add(!(word as u64))
    }

    /// Adds another sum.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        self.add(other.0)
    }

    /// Adds an address. The prefix of an IPv4-mapped one adds 0xffff, which is zero in one's complement: the sum is that
    /// of the four bytes on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn add_address(self, address: &Address) -> Self {
        self.add(address.words[0]).add(address.words[1])
    }

    /// Takes an address away.
    #[inline(always)]
    #[must_use]
    pub const fn subtract_address(self, address: &Address) -> Self {
        self.add(!address.words[0]).add(!address.words[1])
    }

    /// Whether it is either zero of one's complement.
    #[inline(always)]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0 || self.0 == u64::MAX
    }

    /// The sum as 32 bits, as the kernel's checksum helpers take differences.
    #[inline(always)]
    #[must_use]
    pub const fn folded32(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        (once + (once >> 32)) as u32
    }

    /// The sum as 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn folded(self) -> u16 {
        let once = self.folded32();
        let twice = (once & 0xffff) + (once >> 16);
        (twice + (twice >> 16)) as u16
    }

    /// What goes into a checksum field.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// A checksum field after the data it covers changed by `difference` (RFC 1624 equation 3).
#[inline(always)]
#[must_use]
pub const fn updated(checksum: u16, difference: Sum) -> u16 {
    difference.add16(!checksum).checksum()
}

/// The sum of a byte string that begins at an even offset.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> Sum {
    let mut sum = Sum::ZERO;
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        sum = sum.add16(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum = sum.add16(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_1071_example() {
        // Section 3: 0001 f203 f4f5 f6f7 sums to ddf2.
        let sum = of_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded().to_ne_bytes(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(before: [u8; 20], addresses: ([u8; 4], [u8; 4]), port: u16) {
            let mut after = before;
            after[4..8].copy_from_slice(&addresses.0);
            after[8..12].copy_from_slice(&addresses.1);
            after[12..14].copy_from_slice(&port.to_ne_bytes());
            let old = |from: usize| Address::v4(before[from..from + 4].try_into().expect("four bytes"));
            let difference = Sum::ZERO
                .subtract_address(&old(4)).add_address(&Address::v4(addresses.0))
                .subtract_address(&old(8)).add_address(&Address::v4(addresses.1))
                .subtract16(u16::from_ne_bytes([before[12], before[13]])).add16(port);
            let updated = updated(of_bytes(&before).checksum(), difference);
            let fresh = of_bytes(&after).checksum();
            // The two zeroes of one's complement are one value.
            prop_assert!(updated == fresh || (updated ^ fresh) == 0xffff && (fresh == 0 || fresh == 0xffff));
        }

        #[test]
        fn ipv6_addresses_are_summed_whole(bytes: [u8; 16]) {
            prop_assume!(!Address::v6(bytes).is_v4());
            prop_assert_eq!(Sum::ZERO.add_address(&Address::v6(bytes)).folded(), of_bytes(&bytes).folded());
        }
    }
}
