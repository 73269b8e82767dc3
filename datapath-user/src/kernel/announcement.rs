//! Frames that tell neighbours of an address's new owner.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

const BROADCAST: [u8; 6] = [0xff; 6];
/// The MAC address of ff02::1 (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ARP announcement (RFC 5227 section 3) and an unsolicited neighbour advertisement (RFC 4861 section 7.2.6): a
/// neighbour that remembers an earlier owner of the address learns of the new MAC address at once, and not when its entry
/// expires.
pub fn frames(mac: [u8; 6], ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    frames.extend(ipv4.map(|address| arp_announcement(mac, address)));
    frames.extend(ipv6.map(|address| advertisement(mac, address)));
    frames
}

/// Sends frames out of devices of one network namespace.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// In the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        Ok(Self(socket(kind.0, kind.1, kind.2, None::<SockProtocol>)?))
    }

    /// Gives what is sent this mark.
    pub fn marked(self, mark: u32) -> Result<Self> {
        setsockopt(&self.0, sockopt::Mark, &mark)?;
        Ok(self)
    }

    /// Sends frames out of a device.
    pub fn send(&self, ifindex: u32, frames: &[Vec<u8>]) -> Result<()> {
        // SAFETY: all zeroes is a valid value of this plain C struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(ifindex)?;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        for frame in frames {
            // SAFETY: the buffer and the address are valid for the lengths given with them.
            let sent = unsafe {
                libc::sendto(
                    self.0.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    // A queue that is full is no reason to wait: neighbours ask by themselves in time.
                    MsgFlags::MSG_DONTWAIT.bits(),
                    (&raw const address).cast(),
                    length,
                )
            };
            nix::errno::Errno::result(sent)?;
        }
        Ok(())
    }
}

fn arp_announcement(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let own = address.octets();
    let fixed = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    [&BROADCAST[..], &mac, &fixed, &mac, &own, &[0; 6], &own].concat()
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let own = address.octets();
    let mut message = [&[136, 0, 0, 0, OVERRIDE, 0, 0, 0][..], &own, &[2, 1], &mac].concat();
    let length = (message.len() as u16).to_be_bytes();
    let pseudo = [&own[..], &ALL_NODES.octets(), &[0, 0], &length, &[0, 0, 0, 58]].concat();
    let sum = datapath_common::logic::checksum::of_bytes(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum.checksum().to_ne_bytes());
    let header = [&[0x86, 0xdd, 0x60, 0, 0, 0][..], &length, &[58, 255], &own, &ALL_NODES.octets()].concat();
    [&ALL_NODES_MAC[..], &mac, &header, &message].concat()
}

#[cfg(test)]
mod tests {
    use datapath_common::native::checksums_are_right;

    use super::*;

    #[test]
    fn frames_are_well_formed() {
        let mac = [2, 0, 0, 0, 0, 7];
        assert_eq!(arp_announcement(mac, Ipv4Addr::new(10, 1, 0, 2)).len(), 42);
        let advertisement = advertisement(mac, "fd00::7".parse().expect("an address"));
        assert_eq!(advertisement.len(), 86);
        assert!(checksums_are_right(&advertisement));
    }
}
