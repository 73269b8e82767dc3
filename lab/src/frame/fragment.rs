//! Cutting a packet into fragments.

use super::checksum::internet_checksum;
use super::ethertype;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// The protocol number of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT: u8 = 44;

/// Cuts an untagged frame with an IPv4 or IPv6 packet into fragments with up to `size` bytes of payload each, a multiple
/// of 8 (RFC 791 section 3.2, RFC 8200 section 4.5). IPv4 options go into each of them; of IPv6, the fragment header
/// comes first.
///
/// # Panics
/// When `size` is no multiple of 8, or the frame carries no IP packet.
#[must_use]
pub fn fragments(frame: &[u8], size: usize, identification: u32) -> Vec<Vec<u8>> {
    assert!(size > 0 && size.is_multiple_of(8), "fragments have whole units of 8 bytes");
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethertype::IPV4 => {
            let header = ETHERNET + usize::from(frame[ETHERNET] & 0xf) * 4;
            pieces(&frame[header..], size)
                .map(|(offset, more, piece)| ipv4(&frame[..header], offset, more, piece))
                .collect()
        }
        ethertype::IPV6 => {
            let (header, next) = (&frame[..ETHERNET + IPV6], frame[ETHERNET + 6]);
            pieces(&frame[ETHERNET + IPV6..], size)
                .map(|(offset, more, piece)| ipv6(header, [next, 0], identification, (offset, more), piece))
                .collect()
        }
        other => panic!("{other:#06x} is not IP"),
    }
}

/// The offset of each piece, whether more follow, and its bytes.
fn pieces(payload: &[u8], size: usize) -> impl Iterator<Item = (u16, bool, &[u8])> {
    payload.chunks(size).enumerate().map(move |(position, piece)| {
        let offset = position * size;
        let more = offset + piece.len() < payload.len();
        (u16::try_from(offset).expect("a packet is short"), more, piece)
    })
}

fn ipv4(header: &[u8], offset: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let mut frame = [header, piece].concat();
    let total = u16::try_from(frame.len() - ETHERNET).expect("a packet is short");
    let flags_and_offset = (u16::from(more) << 13) | (offset / 8);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[20..22].copy_from_slice(&flags_and_offset.to_be_bytes());
    frame[24..26].fill(0);
    let checksum = internet_checksum(&frame[ETHERNET..header.len()]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn ipv6(header: &[u8], next: [u8; 2], identification: u32, (offset, more): (u16, bool), piece: &[u8]) -> Vec<u8> {
    let mut frame = header.to_vec();
    frame[ETHERNET + 6] = FRAGMENT;
    let length = u16::try_from(8 + piece.len()).expect("a packet is short");
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame.extend(next);
    frame.extend((offset | u16::from(more)).to_be_bytes());
    frame.extend(identification.to_be_bytes());
    frame.extend(piece);
    frame
}

#[cfg(test)]
mod tests {
    use super::super::{Ethernet, Mac};
    use super::*;

    #[test]
    fn fragments_add_up() {
        let payload: Vec<u8> = (0..100).collect();
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let ends = (source.parse().expect("a literal"), destination.parse().expect("a literal"));
            let whole = Ethernet::new(Mac([2; 6]), Mac([4; 6])).ip(ends.0, ends.1).udp(1, 2, &payload);
            let headers = whole.len() - 108;
            let parts = fragments(&whole, 48, 7);
            let fragment_headers = if source.contains(':') { 8 } else { 0 };
            let put_together: Vec<u8> =
                parts.iter().flat_map(|part| part[headers + fragment_headers..].to_vec()).collect();
            assert_eq!(put_together, whole[headers..]);
            assert_eq!(parts.len(), 3);
        }
    }

    #[test]
    fn only_the_last_says_that_none_follow() {
        let ends = ("10.0.0.1".parse().expect("a literal"), "10.0.0.2".parse().expect("a literal"));
        let whole = Ethernet::new(Mac([2; 6]), Mac([4; 6])).ip(ends.0, ends.1).udp(1, 2, &[0; 16]);
        let fields: Vec<_> = fragments(&whole, 8, 0).iter().map(|part| [part[20], part[21]]).collect();
        assert_eq!(fields, [[0x20, 0], [0x20, 1], [0, 2]]);
    }
}
