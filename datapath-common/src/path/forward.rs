//! The last step to an endpoint or to the host: MAC addresses, size, device.

use core::mem::offset_of;

use super::{Packet, Tables, Verdict};
use crate::{
    abi::{DropReason, Endpoint, Network, Settings, network_flags, scope},
    logic::headers::{ETHERNET, Headers},
};

/// Refuses what is larger than the MTU; a packet that will be segmented is as large as its segments, which the
/// sender's stack has fitted to a path that cannot be larger than the MTU of both ends.
#[inline(always)]
pub(super) fn check_size<P: Packet>(packet: &P, headers: &Headers, mtu: u32) -> Result<(), DropReason> {
    if headers.packet_length > mtu + ETHERNET && packet.segment_size() == 0 {
        return Err(DropReason::TooBig);
    }
    Ok(())
}

/// Addresses the frame to an endpoint, from its gateway.
#[inline(always)]
pub(super) fn address_frame(headers: &mut Headers, endpoint: &Endpoint, network: &Network) {
    headers.set_macs(endpoint.mac, network.gateway_mac);
}

/// To the endpoint at this index, from another network or from outside.
#[inline(always)]
pub(super) fn to_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    index: u32,
) -> Result<Verdict, DropReason> {
    let endpoint = tables.endpoint(index).ok_or(DropReason::EndpointGone)?;
    let network = tables.network(endpoint.network).ok_or(DropReason::EndpointGone)?;
    check_size(packet, headers, network.mtu)?;
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
