//! Addresses as the maps hold them.

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
///
/// One form for both families is what makes every table dual-stack. The words are the address's bytes in wire
/// order, loaded as native words: compare them, do not calculate with them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Address {
    /// Wire-order bytes 0–7 and 8–15, each loaded as a native word.
    pub words: [u64; 2],
}

/// Bytes 8–11 of every IPv4-mapped address, loaded as a native word.
const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// No address: `::`, which is also the wildcard of IPv6 publications.
    pub const NONE: Self = Self { words: [0, 0] };
    /// `0.0.0.0`, the wildcard of IPv4 publications.
    pub const ANY_V4: Self = Self::v4([0; 4]);

    /// The address of these four wire-order bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(bytes))
    }

    /// The address whose four wire-order bytes were loaded as this native word.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_word(word: u32) -> Self {
        let (prefix, word) = (MAPPED_PREFIX as u64, word as u64);
        Self { words: [0, if cfg!(target_endian = "little") { prefix | word << 32 } else { prefix << 32 | word }] }
    }

    /// The address of these sixteen wire-order bytes.
    #[inline(always)]
    #[must_use]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self { words: [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])] }
    }

    /// Whether this is an IPv4 address in mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.third_word() == MAPPED_PREFIX
    }

    /// Whether there is no address here.
    #[inline(always)]
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0
    }

    /// Whether this is `0.0.0.0` or `::`.
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        self.is_none() || (self.is_v4() && self.v4_word() == 0)
    }

    /// Whether this is in 127.0.0.0/8 or is `::1` (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        (self.is_v4() && self.v4_bytes()[0] == 127)
            || (self.words[0] == 0 && self.words[1] == u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]))
    }

    /// Whether this is in 224.0.0.0/4, is 255.255.255.255, or is in ff00::/8.
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(&self) -> bool {
        if self.is_v4() {
            let first = self.v4_bytes()[0];
            first & 0xf0 == 0xe0 || self.v4_word() == u32::MAX
        } else {
            self.words[0].to_ne_bytes()[0] == 0xff
        }
    }

    /// Whether this is an IPv6 link-local address, fe80::/10 (RFC 4291 section 2.5.6).
    #[inline(always)]
    #[must_use]
    pub const fn is_link_local_v6(&self) -> bool {
        let bytes = self.words[0].to_ne_bytes();
        bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
    }

    #[inline(always)]
    const fn third_word(&self) -> u32 {
        if cfg!(target_endian = "little") { self.words[1] as u32 } else { (self.words[1] >> 32) as u32 }
    }

    /// The four wire-order bytes of an IPv4 address as a native word; meaningless for IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn v4_word(&self) -> u32 {
        if cfg!(target_endian = "little") { (self.words[1] >> 32) as u32 } else { self.words[1] as u32 }
    }

    /// The four wire-order bytes of an IPv4 address; meaningless for IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        let b = self.words[1].to_ne_bytes();
        [b[4], b[5], b[6], b[7]]
    }

    /// All sixteen wire-order bytes.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.words[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.words[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The link-local address that SLAAC forms from this MAC (modified EUI-64, RFC 4291 appendix A).
    #[must_use]
    pub const fn link_local_of(mac: [u8; 6]) -> Self {
        Self::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]])
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() { Self::from(address.v4_bytes()) } else { Self::from(address.bytes()) }
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&core::net::IpAddr::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().expect("a literal").into()
    }

    #[test]
    fn forms_are_told_apart() {
        assert!(address("10.1.2.3").is_v4());
        assert!(!address("fd00::1").is_v4());
        assert!(!Address::NONE.is_v4());
        assert_eq!(Address::v4([10, 1, 2, 3]).bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
        assert_eq!(IpAddr::from(address("10.1.2.3")).to_string(), "10.1.2.3");
        assert_eq!(IpAddr::from(address("fd00::1")).to_string(), "fd00::1");
    }

    #[test]
    fn special_ranges() {
        for loopback in ["127.0.0.1", "127.255.0.9", "::1"] {
            assert!(address(loopback).is_loopback(), "{loopback}");
        }
        for multicast in ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"] {
            assert!(address(multicast).is_multicast(), "{multicast}");
        }
        for plain in ["10.0.0.1", "128.0.0.1", "::2", "fd00::1", "fe80::1"] {
            assert!(!address(plain).is_loopback(), "{plain}");
            assert!(!address(plain).is_multicast(), "{plain}");
        }
        assert!(address("fe80::1").is_link_local_v6() && !address("fd00::1").is_link_local_v6());
        assert!(address("0.0.0.0").is_unspecified() && address("::").is_unspecified());
    }

    #[test]
    fn link_local_follows_eui_64() {
        assert_eq!(Address::link_local_of([0x02, 0, 0, 0, 0, 1]), address("fe80::ff:fe00:1"));
    }
}
