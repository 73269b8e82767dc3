//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Refusal;

/// A MAC address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// First bytes of the addresses we make: locally administered, unicast (IEEE 802 section 8.4). The other four count.
const OURS: [u8; 2] = [0x06, 0xd9];

impl Mac {
    /// The address made from this count; no count makes the same one.
    #[must_use]
    pub const fn counted(count: u32) -> Self {
        let [a, b, c, d] = count.to_be_bytes();
        Self([OURS[0], OURS[1], a, b, c, d])
    }

    /// Checks an address that the user chose.
    ///
    /// # Errors
    /// When it is no unicast address, or in the range from which addresses are made, where it would be made again.
    pub fn check_chosen(self) -> Result<(), Refusal> {
        let remedy = "choose a unicast address such as 02:00:00:00:00:01, or leave out --mac";
        if self.0 == [0; 6] || self.0[0] & 1 == 1 {
            return Err(Refusal::invalid(format!("{self} is not a unicast MAC address"), remedy));
        }
        if self.0.starts_with(&OURS) {
            return Err(Refusal::invalid(
                format!("{self} is in the range 06:d9:… that addresses are made from"),
                remedy,
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refusal = || {
            Refusal::invalid(
                format!("{text:?} is not a MAC address"),
                "write six hexadecimal bytes, as in 02:00:00:00:00:01",
            )
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(refusal)?, 16).map_err(|_| refusal())?;
        }
        if parts.next().is_some() { Err(refusal()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for count in [0, 1, 255, 65_536, u32::MAX] {
            let mac = Mac::counted(count);
            assert_eq!(mac.to_string().parse(), Ok(mac));
            assert_eq!(mac.0[0] & 3, 2, "locally administered and unicast");
        }
        for bad in
            ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02-00-00-00-00-01", "+2:00:00:00:00:01"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn chosen_addresses() {
        for bad in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "06:d9:00:00:00:01"] {
            assert!(bad.parse::<Mac>().expect("a MAC").check_chosen().is_err(), "{bad}");
        }
        assert!("02:00:00:00:00:01".parse::<Mac>().expect("a MAC").check_chosen().is_ok());
    }
}
