//! ARP (RFC 826), answered in place: nobody but the asker sees the answer, and nobody sees the question (B3).

use super::{
    Decision, Outcome, Packed, Packet, Tables, Verdict, forward,
    from_container::CONSUMED,
    port::{NOBODY, Port, owner},
    switch,
};
use crate::{
    abi::{Address, AddressKey, DropReason, HOST, Mutant, Network, network_flags},
    logic::headers::Headers,
};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An ARP packet for IPv4 over Ethernet.
struct Arp {
    operation: u16,
    sender_mac: [u8; 6],
    sender: Address,
    target: Address,
}

#[inline(always)]
fn parse(headers: &Headers) -> Result<Arp, DropReason> {
    // Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
    if headers.length < 42 || headers.at::<6>(14) != [0, 1, 8, 0, 6, 4] {
        return Err(DropReason::Malformed);
    }
    Ok(Arp {
        operation: headers.number16(20),
        sender_mac: headers.at(22),
        sender: Address::v4(headers.at(28)),
        target: headers.ipv4(38),
    })
}

impl Arp {
    /// Whether its sender has no address yet (RFC 5227 section 2.1.1).
    #[inline(always)]
    fn is_probe(&self) -> bool {
        self.operation == REQUEST && self.sender == Address::ANY_V4
    }

    /// Whether it claims what the endpoint has.
    #[inline(always)]
    fn is_of(&self, port: &Port<'_>) -> bool {
        self.sender_mac == port.endpoint.mac && (self.sender == port.endpoint.ipv4 || self.is_probe())
    }
}

/// Judges ARP on a network that learns: [`Packed::NONE`] when it is answered here, [`Verdict::Pass`] when it is switched, being
/// about stations.
#[inline(never)]
pub(super) fn judge<T: Tables>(tables: &T, port: &Port<'_>, headers: &Headers, own: bool) -> Packed {
    Packed::of(judged(tables, port, headers, own))
}

#[inline(always)]
fn judged<T: Tables>(tables: &T, port: &Port<'_>, headers: &Headers, own: bool) -> Result<Decision, DropReason> {
    let arp = parse(headers)?;
    let own = own && arp.is_of(port);
    if !own && owner(tables, port.endpoint.network, &arp.sender) != NOBODY {
        return Err(DropReason::ForgedNeighbour);
    }
    let asked = owner(tables, port.endpoint.network, &arp.target);
    if asked == NOBODY || arp.operation != REQUEST {
        return Ok(Decision::Verdict(Verdict::Pass));
    }
    if asked == port.index && !own {
        // It is behind the same port, and has heard it.
        return Ok(Decision::Verdict(Verdict::Consumed));
    }
    Ok(Decision::Open)
}

/// ARP from a container.
#[inline(always)]
pub(super) fn from_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
) -> Outcome {
    from_endpoint_packed(packet, tables, port, headers).unwrap()
}

#[inline(never)]
fn from_endpoint_packed<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
) -> Packed {
    Packed::new(from_endpoint_inline(packet, tables, port, headers))
}

#[inline(always)]
fn from_endpoint_inline<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
) -> Outcome {
    let arp = parse(headers)?;
    let probe = arp.is_probe();
    // On a network that learns it is known whose it is.
    let own = arp.is_of(port) || port.has(network_flags::LEARNING);
    if !own && !tables.mutant(Mutant::SourceGuardSkipped) {
        return Err(DropReason::ForgedNeighbour);
    }
    if tables.mutant(Mutant::NeighboursUnanswered) {
        return switch::flood_frame(packet, tables, port, true);
    }
    match arp.operation {
        // A probe for its own address: an answer would be a conflict (RFC 5227 section 2.1.1).
        REQUEST if arp.target == port.endpoint.ipv4 && probe => CONSUMED,
        // An announcement (RFC 5227 section 3): siblings learn that the address has a new owner.
        REQUEST if arp.target == port.endpoint.ipv4 => switch::flood_frame(packet, tables, port, true),
        REQUEST => {
            let key = AddressKey::new(port.endpoint.network, arp.target);
            let owner = tables.endpoint_by_address(&key).ok_or(DropReason::UnknownNeighbour)?;
            let mac = mac_of(tables, port.network, owner)?;
            answer(packet, headers, &arp, mac)
        }
        // Questions are answered here, so nobody waits for this.
        REPLY => CONSUMED,
        _ => Err(DropReason::ForgedNeighbour),
    }
}

/// ARP from the host, on a gateway device.
#[inline(always)]
pub(super) fn from_host<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    (network_id, network): (u32, &Network),
    headers: &mut Headers,
) -> Outcome {
    let arp = parse(headers)?;
    if arp.operation != REQUEST {
        return unheard(network);
    }
    let owner =
        tables.endpoint_by_address(&AddressKey::new(network_id, arp.target)).ok_or(DropReason::UnknownNeighbour)?;
    if owner == HOST {
        return CONSUMED;
    }
    let endpoint = tables.endpoint(owner).ok_or(DropReason::UnknownNeighbour)?;
    answer(packet, headers, &arp, endpoint.mac).map(|_| forward::to_host(network))
}

/// What comes of an answer of the host's: only a station may wait for it.
#[inline(always)]
pub(super) fn unheard(network: &Network) -> Outcome {
    if network.has(network_flags::LEARNING) { Err(DropReason::UnknownNeighbour) } else { CONSUMED }
}

/// The MAC address of an endpoint or of the gateway.
#[inline(always)]
pub(super) fn mac_of<T: Tables>(tables: &T, network: &Network, owner: u32) -> Result<[u8; 6], DropReason> {
    if owner == HOST {
        return Ok(network.gateway_mac);
    }
    Ok(tables.endpoint(owner).ok_or(DropReason::UnknownNeighbour)?.mac)
}

/// Turns the request into its reply.
#[inline(always)]
fn answer<P: Packet>(packet: &mut P, headers: &mut Headers, arp: &Arp, mac: [u8; 6]) -> Outcome {
    headers.set_macs(arp.sender_mac, mac);
    headers.put(20, REPLY.to_be_bytes());
    headers.put(22, mac);
    headers.put(28, arp.target.v4_bytes());
    headers.put(32, arp.sender_mac);
    headers.put(38, arp.sender.v4_bytes());
    packet.store_headers(headers, 42)?;
    Ok(Verdict::Reflected)
}
