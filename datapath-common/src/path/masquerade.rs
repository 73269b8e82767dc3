//! To the outside: the route, the address the flow appears with, and its port (N1, N2).

use core::mem::offset_of;

use super::{
    Inserted, Packet, Route, Step, Tables,
    flow_slots::{self, Begun},
    flow_table, forward,
    port::Port,
    publish,
    slot::{Beginning, FlowSlot},
};
use crate::{
    abi::{
        Address, DropReason, FlowEnd, FlowKey, Mutant, PublishedKey, Settings, UdpMapped, UdpMapping, flow_flags,
        network_flags, scope,
    },
    logic::parse::{Fragment, Parsed, Transport, protocol},
};

/// Source ports tried for a masqueraded flow, its own first. With 64,000 of 64,512 in use, one new flow in 3,000 finds none.
const PORTS_TRIED: u32 = 1_024;

/// Begins the flow of a packet to the outside.
#[inline(never)]
pub(super) fn begin<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    port: &Port<'_>,
    parsed: &Parsed,
) -> Result<(), DropReason> {
    let mut way = Way { route: Route::NONE, external: None, flags: 0 };
    way.find(packet, tables, port, parsed)?;
    let beginning = Beginning {
        initiator: FlowEnd { endpoint: port.index, generation: port.endpoint.generation },
        responder: FlowEnd::default(),
        publication: 0,
        publication_generation: 0,
        flags: way.flags,
    };
    let begun = flow_slots::begin(tables, &parsed.key, &beginning)?;
    begun.slot.set_reply(scope::UPLINK);
    begun.slot.set_route(way.route);
    let found = if let Some(external) = way.external {
        begun.slot.set_reply_destination(external);
        take_port(packet, tables, &begun, parsed.transport == Transport::Udp)
    } else {
        offered(flow_slots::offer_reply(tables, &begun))
    };
    if let Err(reason) = found {
        flow_slots::abandon(tables, &begun);
        return Err(reason);
    }
    if way.external.is_some() && parsed.transport == Transport::Udp && !tables.mutant(Mutant::MappingPerDestination) {
        remember(tables, begun.slot);
    }
    flow_slots::complete(tables, &begun)
}

/// How a flow leaves.
struct Way {
    route: Route,
    /// The address it appears with; `None` when it keeps its own.
    external: Option<Address>,
    /// [`flow_flags`].
    flags: u32,
}

impl Way {
    /// Asks the host's routes. A function of its own, for its stack.
    #[inline(never)]
    fn find<P: Packet, T: Tables>(
        &mut self,
        packet: &P,
        tables: &T,
        port: &Port<'_>,
        parsed: &Parsed,
    ) -> Result<(), DropReason> {
        if parsed.fragment == Fragment::Later {
            return Err(DropReason::Fragment);
        }
        let is_v4 = parsed.key.source.is_v4();
        let translated = is_translated(tables, port, is_v4);
        may_leave(tables, parsed, translated)?;
        forward::check_hops(parsed, scope::UPLINK)?;
        if tables.is_host_address(&parsed.key.destination) {
            // It comes back before it has left, and needs no route.
            self.external = Some(parsed.key.destination);
            self.flags = flow_flags::MASQUERADED | flow_flags::HAIRPIN;
            return Ok(());
        }
        let answers = parsed.key.reverse(scope::UPLINK);
        let mut source = Address::NONE;
        let route = packet.route(&answers, port.network.gateway_ifindex, Some(&mut source));
        let (route, uplink) = flow_table::by_uplink(tables, route)?;
        self.route = route;
        if translated {
            self.external = Some(external_address(source, if is_v4 { uplink.ipv4 } else { uplink.ipv6 })?);
            self.flags = flow_flags::MASQUERADED;
        }
        Ok(())
    }
}

#[inline(always)]
fn is_translated<T: Tables>(tables: &T, port: &Port<'_>, is_v4: bool) -> bool {
    port.has(network_flags::MASQUERADE) && !port.network.is_routed(is_v4) && !tables.mutant(Mutant::MasqueradeSkipped)
}

/// Whether the packet, which is for an address of the host, is for the external port of a UDP mapping, as its sender may have
/// learnt it from somebody outside (RFC 4787 REQ-9), and not for a socket of the host, which may have come later.
#[inline(never)]
pub(super) fn meets_mapping<P: Packet, T: Tables>(packet: &P, tables: &T, port: &Port<'_>, parsed: &Parsed) -> bool {
    let Parsed { key, transport, .. } = parsed;
    let target = PublishedKey::new(key.destination, key.destination_port, key.protocol);
    *transport == Transport::Udp
        && is_translated(tables, port, key.source.is_v4())
        && owner_of(tables, &target).is_some()
        && !packet.host_socket(key)
        && !tables.mutant(Mutant::MappingsUnreachable)
}

/// Whether the packet can begin a flow to the outside.
#[inline(always)]
fn may_leave<T: Tables>(tables: &T, parsed: &Parsed, translated: bool) -> Result<(), DropReason> {
    match parsed.transport {
        Transport::Tcp if !publish::begins(parsed) && !tables.mutant(Mutant::UnknownPassed) => {
            Err(DropReason::OutOfState)
        }
        Transport::Tcp | Transport::Udp | Transport::Sctp | Transport::EchoRequest => Ok(()),
        Transport::EchoReply | Transport::Icmp => Err(DropReason::IcmpUnmatched),
        Transport::Other if translated => Err(DropReason::Protocol),
        Transport::Other => Ok(()),
    }
}

/// The route's own source address, else the uplink's first.
#[inline(always)]
fn external_address(source: Address, own: Address) -> Result<Address, DropReason> {
    let address = if source.is_none() { own } else { source };
    if address.is_none() { Err(DropReason::NoUplinkAddress) } else { Ok(address) }
}

#[inline(always)]
fn offered(inserted: Inserted) -> Result<(), DropReason> {
    match inserted {
        Inserted::Yes => Ok(()),
        Inserted::Full => Err(DropReason::FlowTableFull),
        Inserted::Exists => Err(DropReason::Contended),
    }
}

/// Finds an external port: the mapping's, the source's own, or another; never one the host uses (CVE-2021-3773).
#[inline(never)]
fn take_port<P: Packet, T: Tables>(packet: &P, tables: &T, begun: &Begun, udp: bool) -> Result<(), DropReason> {
    let slot = begun.slot;
    let udp = udp && !tables.mutant(Mutant::MappingPerDestination);
    if udp && let Some(port) = mapped_port(tables, slot) {
        slot.set_reply_port(port);
        // The host may have come to use it since.
        if !is_the_hosts(packet, tables, &slot.get().reply) {
            match flow_slots::offer_reply(tables, begun) {
                Inserted::Yes => return Ok(()),
                Inserted::Full => return Err(DropReason::FlowTableFull),
                Inserted::Exists => {}
            }
        }
    }
    // Of ICMP queries the identifier is what a port is elsewhere.
    let original = &slot.get().original;
    let swapped = tables.mutant(Mutant::PortsSwapped);
    slot.set_reply_port(if swapped { original.destination_port } else { original.source_port });
    // SCTP keeps its port: its checksum covers it (RFC 9260 section 6.8).
    let times = if slot.get().reply.protocol == protocol::SCTP { 1 } else { PORTS_TRIED };
    let mut search = Search { packet, tables, begun, udp, tried: 0, found: Inserted::Exists };
    tables.repeat(times, &mut search, try_port);
    tables.trace(Step::PortsTried(search.tried));
    match search.found {
        Inserted::Yes => Ok(()),
        Inserted::Full => Err(DropReason::FlowTableFull),
        Inserted::Exists => Err(DropReason::PortsExhausted),
    }
}

/// A search for an external port. The port that is tried next is in the slot.
struct Search<'a, P, T> {
    packet: &'a P,
    tables: &'a T,
    begun: &'a Begun,
    udp: bool,
    tried: u32,
    found: Inserted,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn try_port<P: Packet, T: Tables>(before: u64, search: *mut Search<'_, P, T>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let search = unsafe { &mut *search };
    let Search { packet, tables, begun, udp, .. } = *search;
    let reply = &begun.slot.get().reply;
    search.tried = before as u32 + 1;
    if is_free(packet, tables, reply, udp) || tables.mutant(Mutant::PortTakenTwice) {
        search.found = flow_slots::offer_reply(tables, begun);
        if search.found != Inserted::Exists {
            return 1;
        }
    }
    begun.slot.set_reply_port(random_port(tables));
    0
}

/// The inside of the flow's mapping.
#[inline(always)]
fn mapping_of(slot: FlowSlot) -> UdpMapping {
    let flow = slot.get();
    UdpMapping {
        source: flow.original.source,
        external: flow.reply.destination,
        generation: flow.initiator.generation,
        source_port: flow.original.source_port,
        padding: 0,
    }
}

/// The external port this source has already, if it still has it (RFC 4787 REQ-1).
#[inline(never)]
fn mapped_port<T: Tables>(tables: &T, slot: FlowSlot) -> Option<u16> {
    let flow = slot.get();
    let port = tables.udp_mapping(&mapping_of(slot))?;
    let owner = owner_of(tables, &PublishedKey::new(flow.reply.destination, port, flow.reply.protocol))?;
    let own = owner.source == flow.original.source
        && owner.generation == flow.initiator.generation
        && owner.source_port == flow.original.source_port;
    own.then_some(port)
}

#[inline(always)]
fn external(reply: &FlowKey) -> PublishedKey {
    PublishedKey::new(reply.destination, reply.destination_port, reply.protocol)
}

/// Whether nobody else has the port: not a flow, not another mapping, not a publication, not a socket of the host.
#[inline(always)]
fn is_free<P: Packet, T: Tables>(packet: &P, tables: &T, reply: &FlowKey, udp: bool) -> bool {
    if flow_slots::is_in_use(tables, reply) || udp && owner_of(tables, &external(reply)).is_some() {
        return false;
    }
    !is_the_hosts(packet, tables, reply)
}

/// Whether the port is published, or a socket of the host has it (sockets bound to a device are not found).
#[inline(always)]
fn is_the_hosts<P: Packet, T: Tables>(packet: &P, tables: &T, reply: &FlowKey) -> bool {
    publish::find(tables, reply).is_some() || packet.host_socket(reply)
}

#[inline(always)]
fn owner_of<T: Tables>(tables: &T, external: &PublishedKey) -> Option<UdpMapped> {
    let now = tables.now();
    tables.udp_mapped(external).filter(|owner| owner.deadline >= now)
}

/// Remembers whose the flow's external port is.
#[inline(never)]
fn remember<T: Tables>(tables: &T, slot: FlowSlot) {
    let flow = slot.get();
    let mapped = UdpMapped {
        source: flow.original.source,
        deadline: flow.deadline,
        generation: flow.initiator.generation,
        source_port: flow.original.source_port,
        padding: 0,
    };
    tables.set_udp_mapped(&external(&flow.reply), &mapped);
    tables.set_udp_mapping(&mapping_of(slot), flow.reply.destination_port);
}

/// A random port of the configured range, wire order.
#[inline(always)]
fn random_port<T: Tables>(tables: &T) -> u16 {
    let first = tables.setting32(offset_of!(Settings, masquerade_port_first));
    let last = tables.setting32(offset_of!(Settings, masquerade_port_last));
    let span = last.wrapping_sub(first).wrapping_add(1);
    // Multiply and shift instead of a remainder: no division by a value the verifier cannot see.
    let offset = ((tables.random() as u64 & 0xffff) * span as u64) >> 16;
    ((first + offset as u32) as u16).to_be()
}
