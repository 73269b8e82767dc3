//! Networks that learn (B4): a switch as a VLAN-unaware bridge is one, for the virtual machines and bridges behind its
//! ports.
//!
//! What an endpoint sends from its own MAC and IP address goes the way it goes on any network. Everything else is a frame
//! of a station, which is switched by MAC address alone, with its VLAN tag, and never routed. The addresses that were given
//! out, those of endpoints and of the gateway, are no station's.

use super::{
    Decision, Outcome, Packed, Packet, Scratch, Tables, Verdict, arp, forward,
    from_container::{CONSUMED, guard_packet},
    neighbour,
    port::{NOBODY, Port, owner},
    stations, switch,
};
use crate::{
    abi::{DropReason, Endpoint, HOST, MacKey, Mutant, Network, network_flags},
    logic::{
        headers::{Headers, ethertype},
        parse::{Parsed, parse},
    },
};

/// Of a judged frame: it is switched.
pub(super) const SWITCHED: Packed = Packed::new(Ok(Verdict::Pass));

/// What is in a frame that is switched, for the host, which takes not everything.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Inside {
    /// An IP packet.
    Ip,
    /// ARP, or what an endpoint sends itself.
    Link,
    /// Another protocol, from a station.
    Other,
    /// Anything with a VLAN tag.
    Tagged,
}

/// Judges what comes in by a port; [`Packed::NONE`] when it goes the way it goes on any network.
#[inline(never)]
pub(super) fn admit<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
) -> Packed {
    Packed::of(admitted(packet, tables, port, scratch))
}

#[inline(always)]
fn admitted<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
) -> Result<Decision, DropReason> {
    let Scratch { headers, parsed, .. } = scratch;
    let own = headers.source_mac() == port.endpoint.mac;
    if headers.is_reserved() {
        return Err(DropReason::ReservedFrame);
    }
    if !own {
        guard_source(tables, port, headers)?;
        stations::learn(tables, port, headers);
    }
    parsed.ethertype = headers.ethertype();
    if packet.vlan() == Some(0) {
        // Its receiver takes it for untagged (IEEE 802.1Q section 6.9), and it would not have been judged.
        return Err(DropReason::VlanTagged);
    }
    let tagged = packet.vlan().is_some() || matches!(parsed.ethertype, ethertype::VLAN | ethertype::QINQ);
    let (judged, inside) = match parsed.ethertype {
        _ if tagged => (SWITCHED, Inside::Tagged),
        ethertype::IPV4 | ethertype::IPV6 => {
            parse(packet, headers, parsed)?;
            parsed.key.scope = port.endpoint.network as u16;
            (judge_packet(tables, port, headers, parsed, own), Inside::Ip)
        }
        ethertype::ARP => (arp::judge(tables, port, headers, own), Inside::Link),
        _ => (SWITCHED, if own { Inside::Link } else { Inside::Other }),
    };
    if judged != SWITCHED {
        return judged.decision();
    }
    switch_frame(packet, tables, port, scratch, inside).decision()
}

/// A station has an address of its own: no group (IEEE 802.3 section 3.2.4), not none, and none that was given out.
#[inline(always)]
fn guard_source<T: Tables>(tables: &T, port: &Port<'_>, headers: &Headers) -> Result<(), DropReason> {
    let mac = headers.source_mac();
    let given = tables.endpoint_by_mac(&MacKey::new(port.endpoint.network, mac)).is_some();
    if mac[0] & 1 != 0 || mac == [0; 6] || given && !tables.mutant(Mutant::GivenMacsTaken) {
        return Err(DropReason::ForgedMac);
    }
    Ok(())
}

/// Judges an IP packet: [`SWITCHED`], or [`Packed::NONE`] when it is the endpoint's own.
#[inline(never)]
fn judge_packet<T: Tables>(tables: &T, port: &Port<'_>, headers: &Headers, parsed: &Parsed, own: bool) -> Packed {
    Packed::of(judged_packet(tables, port, headers, parsed, own))
}

#[inline(always)]
fn judged_packet<T: Tables>(
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
    parsed: &Parsed,
    own: bool,
) -> Result<Decision, DropReason> {
    if !port.speaks(parsed) {
        return Err(DropReason::FamilyDisabled);
    }
    let (source, destination) = (&parsed.key.source, &parsed.key.destination);
    let given = |address| owner(tables, port.endpoint.network, address) != NOBODY;
    let owns = own && port.endpoint.owns(source);
    let elsewhere = |address| tables.subnet(address).is_some_and(|subnet| subnet != port.endpoint.network);
    let given = |address| given(address) || tables.is_host_address(address);
    if !owns && (given(source) || elsewhere(source) || source.is_loopback() || source.is_multicast()) {
        return Err(DropReason::ForgedAddress);
    }
    guard_packet(parsed)?;
    if let Some(judged) = neighbour::judge(tables, port, headers, parsed, own) {
        return judged;
    }
    let group = headers.to_group();
    if owns && (group || headers.destination_mac() == port.network.gateway_mac || given(destination)) {
        return Ok(Decision::Open);
    }
    if group && !switch::is_for_group(tables, port, parsed) {
        return Err(DropReason::WrongDestination);
    }
    Ok(Decision::Verdict(Verdict::Pass))
}

/// Switches a frame by its MAC address.
#[inline(never)]
fn switch_frame<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
    inside: Inside,
) -> Packed {
    Packed::new(switched(packet, tables, port, scratch, inside))
}

#[inline(always)]
fn switched<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
    inside: Inside,
) -> Outcome {
    let Scratch { headers, parsed, .. } = scratch;
    let icc = port.has(network_flags::ICC);
    if headers.to_group() {
        let to_host = may_reach_host(tables, port, parsed, inside).is_ok();
        return switch::flood_frame(packet, tables, port, to_host);
    }
    let index = stations::find(tables, port.endpoint.network, port.network, headers);
    if index == HOST {
        may_reach_host(tables, port, parsed, inside)?;
        let to = owner(tables, port.endpoint.network, &parsed.key.destination);
        if inside == Inside::Ip && to != HOST && !tables.mutant(Mutant::StationsRouted) {
            return Err(DropReason::ForgedAddress);
        }
        return Ok(forward::to_host(port.network));
    }
    if !icc {
        return Err(DropReason::IccDisabled);
    }
    if index == NOBODY {
        return switch::flood_frame(packet, tables, port, false);
    }
    if index == port.index {
        // The bridge behind the port has delivered it.
        return CONSUMED;
    }
    if inside == Inside::Ip {
        forward::check_size(packet, tables, headers, parsed, port.network.mtu)?;
    }
    let target = tables.endpoint(index).ok_or(DropReason::UnknownDestination)?;
    Ok(deliver(headers, target))
}

/// To an endpoint, or to a station behind its port.
#[inline(always)]
fn deliver(headers: &Headers, target: &Endpoint) -> Verdict {
    if headers.destination_mac() == target.mac {
        Verdict::ToEndpoint(target.ifindex)
    } else {
        Verdict::ToStation(target.ifindex)
    }
}

/// Whether the host may see it: nothing with a tag, and no IP packet of another network, whose answer would take another way.
#[inline(always)]
fn may_reach_host<T: Tables>(tables: &T, port: &Port<'_>, parsed: &Parsed, inside: Inside) -> Result<(), DropReason> {
    match inside {
        Inside::Link => Ok(()),
        Inside::Tagged => Err(DropReason::VlanTagged),
        Inside::Other => Err(DropReason::ForgedMac),
        Inside::Ip => {
            let source = &parsed.key.source;
            let on_link = source.is_unspecified()
                || source.is_link_local_v6()
                || tables.subnet(source).unwrap_or(0) == port.endpoint.network;
            if on_link { Ok(()) } else { Err(DropReason::ForgedAddress) }
        }
    }
}

/// Switches what the host sends and no endpoint has: to a station, or to all.
#[inline(never)]
pub(super) fn from_host<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    network_id: u32,
    network: &Network,
    scratch: &mut Scratch,
) -> Packed {
    let Scratch { headers, parsed, .. } = scratch;
    let ip = matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6);
    if ip && let Err(reason) = forward::check_size(packet, tables, headers, parsed, network.mtu) {
        return Packed::new(Err(reason));
    }
    let index = if headers.to_group() { NOBODY } else { stations::find(tables, network_id, network, headers) };
    if index == HOST || headers.is_reserved() {
        return Packed::new(Err(DropReason::UnknownDestination));
    }
    if index != NOBODY
        && let Some(endpoint) = tables.endpoint(index)
    {
        return Packed::new(Ok(deliver(headers, endpoint)));
    }
    switch::copy_to_members(packet, tables, network_id, network.members, 0);
    Packed::new(CONSUMED)
}
