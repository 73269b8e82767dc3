//! The last step to an endpoint or to the host: MAC addresses, size, device.

use core::mem::offset_of;

use super::{Packet, Tables, Verdict};
use crate::{
    abi::{DropReason, Endpoint, Mutant, Network, Settings, network_flags, scope},
    logic::{
        headers::{ETHERNET, Headers},
        parse::{Parsed, TRANSPORT_V4, TRANSPORT_V6, Transport},
    },
};

/// Refuses what is larger than the MTU (B6), which it leaves in `headers` for the answer. A packet that will be segmented is
/// as large as its segments.
///
/// # Errors
/// [`DropReason::TooBig`].
#[inline(always)]
pub(super) fn check_size<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    mtu: u32,
) -> Result<(), DropReason> {
    if headers.packet_length <= mtu + ETHERNET || segment_length(packet, headers, parsed) <= mtu {
        return Ok(());
    }
    let segmented = packet.segment_size() != 0 && tables.mutant(Mutant::SegmentsIgnored);
    if segmented || tables.mutant(Mutant::SizeIgnored) {
        return Ok(());
    }
    headers.exceeds = mtu;
    Err(DropReason::TooBig)
}

/// What the kernel has for bytes per segment where the segments are as the sender made them (SCTP, `GSO_BY_FRAGS`).
const AS_SENT: u32 = 0xffff;

/// Bytes of the largest IP packet that this one becomes on the wire (as the kernel's skb_gso_network_seglen).
#[inline(never)]
fn segment_length<P: Packet>(packet: &P, headers: &Headers, parsed: &Parsed) -> u32 {
    let payload = packet.segment_size();
    if payload == 0 {
        return headers.packet_length - ETHERNET;
    }
    let header = match parsed.transport {
        Transport::Tcp => {
            let at = parsed.transport_offset;
            let offset = match at {
                TRANSPORT_V4 => headers.bytes[TRANSPORT_V4 as usize + 12],
                TRANSPORT_V6 => headers.bytes[TRANSPORT_V6 as usize + 12],
                _ => packet.load::<1>(at as u32 + 12).map_or(0xf0, |[offset]| offset),
            };
            (offset >> 4) as u32 * 4
        }
        Transport::Udp => 8,
        _ if payload == AS_SENT => return 0,
        _ => 0,
    };
    parsed.transport_offset as u32 - ETHERNET - headers.jumbo_header() + header + payload
}

/// Refuses a packet whose last hop this host is, if its way to `to` is a hop (RFC 1812 section 5.3.1).
///
/// # Errors
/// [`DropReason::TtlExceeded`].
#[inline(always)]
pub(super) fn check_hops(parsed: &Parsed, to: u16) -> Result<(), DropReason> {
    if is_routed(parsed.key.scope, to) && parsed.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    Ok(())
}

/// Addresses the frame to an endpoint, from its gateway.
#[inline(always)]
pub(super) fn address_frame(headers: &mut Headers, endpoint: &Endpoint, network: &Network) {
    headers.set_macs(endpoint.mac, network.gateway_mac);
}

/// To the endpoint at this index, from another network or from outside. Refused, the packet is as it was.
#[inline(always)]
pub(super) fn to_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    index: u32,
) -> Result<Verdict, DropReason> {
    let endpoint = tables.endpoint(index).ok_or(DropReason::EndpointGone)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::EndpointGone)?;
    check_size(packet, tables, headers, parsed, network.mtu)?;
    address_frame(headers, endpoint, network);
    packet.add_link_header()?;
    Ok(Verdict::ToEndpoint(endpoint.ifindex))
}

/// To a process of the host that uses a loopback connection.
#[inline(always)]
pub(super) fn to_loopback<T: Tables>(tables: &T, headers: &mut Headers) -> Verdict {
    headers.set_macs([0; 6], [0; 6]);
    Verdict::ToLoopback(tables.setting32(offset_of!(Settings, loopback_ifindex)))
}

/// Whether the way between these scopes is a hop. That of the host's own connections is none.
#[inline(always)]
pub(super) const fn is_routed(from: u16, to: u16) -> bool {
    from != scope::LOOPBACK && to != scope::LOOPBACK
}

/// Up into the host, as received by the network's gateway device.
#[inline(always)]
pub(super) fn to_host(network: &Network) -> Verdict {
    if network.has(network_flags::ADOPTED) {
        Verdict::ToBridge(network.gateway_ifindex)
    } else {
        Verdict::ToHost(network.gateway_ifindex)
    }
}
