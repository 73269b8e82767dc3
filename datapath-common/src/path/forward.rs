//! The last step to an endpoint or to the host: MAC addresses, size, device.

use super::{Packet, Verdict};
use crate::{
    abi::{DropReason, Endpoint, Network, network_flags},
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

/// Up into the host, as received by the network's gateway device.
#[inline(always)]
pub(super) fn to_host(network: &Network) -> Verdict {
    if network.has(network_flags::ADOPTED) {
        Verdict::ToBridge(network.gateway_ifindex)
    } else {
        Verdict::ToHost(network.gateway_ifindex)
    }
}
