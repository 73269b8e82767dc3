//! Fragments (N6). The first one of a datagram has the ports: the others pass as packets of the same flow. Those that
//! come before it are held, and let in again behind it.
//!
//! Nothing is put together: the receiver does that. But what would make two readings of one datagram, fragments that
//! overlap, is refused here (RFC 5722, RFC 1858).

use super::{Decision, Outcome, Packed, Packet, Tables, Verdict, from_container::CONSUMED, locked::FragmentSetSlot};
use crate::{
    abi::{
        Datagram, DropReason, FRAGMENT_PIECES, FRAGMENT_PLACE, FRAGMENT_ROOM, FRAGMENT_SETS, FRAGMENT_WAYS,
        FRAGMENTS_HELD, FragmentKey, FragmentSearch, FragmentSet, HeldFragment, Metric, Mutant, datagram,
    },
    logic::{
        fragment::{Fragmented, Placed, Placing, read_fragment},
        headers::{Headers, ethertype},
        parse::{Fragment, Parsed},
    },
};

/// How long the first fragment of a datagram is waited for, and the others after it (as Linux's ipfrag_time).
const DATAGRAM_TIME: u64 = 30_000_000_000;
/// How long fragments are held at least; after this time others may have their room. Packets of one path overtake each
/// other by milliseconds.
const HELD_TIME: u64 = 1 << 28;
/// What one sender may use of its set: datagrams,
const SENDER_WAYS: u32 = FRAGMENT_WAYS as u32 / 2;
/// those among them that wait for their first fragment,
const SENDER_WAITING: u32 = SENDER_WAYS / 2;
/// and places where fragments are held.
const SENDER_HELD: u32 = FRAGMENTS_HELD as u32 / 2;
/// Places that the largest packet takes.
const MOST_PLACES: u32 = FRAGMENT_ROOM.div_ceil(FRAGMENT_PLACE) as u32;
/// How often another CPU is waited for that uses the set; each time takes some nanoseconds.
const LOCK_TRIED: u32 = 1 << 14;

/// Finds out the ports of a fragment; [`Packed::NONE`] when it has them by now. A drop means that it can get none.
#[inline(never)]
pub(super) fn gather<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &Headers,
    parsed: &mut Parsed,
    fragmented: &mut Fragmented,
) -> Packed {
    if let Err(reason) = read_fragment(packet, headers, parsed, fragmented) {
        return Packed::new(Err(reason));
    }
    let number = set_of(&fragmented.key);
    let Some(slot) = tables.fragment_set(number) else {
        return Packed::new(Err(DropReason::Contended));
    };
    let mut locking = Locking { slot, locked: false };
    tables.repeat(LOCK_TRIED, &mut locking, try_lock);
    if !locking.locked {
        return Packed::new(Err(DropReason::Contended));
    }
    let set = slot.get();
    set.number = number;
    let packed = follow(packet, tables, set, parsed, fragmented);
    slot.unlock();
    packed
}

/// As [`gather`], of a packet to an address of the host: whatever is wrong with it, it may be the host's own.
#[inline(always)]
pub(super) fn gather_for_host<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &Headers,
    parsed: &mut Parsed,
    fragmented: &mut Fragmented,
) -> Packed {
    match gather(packet, tables, headers, parsed, fragmented).decision() {
        Err(_) => Packed::new(Ok(Verdict::Pass)),
        decided => Packed::of(decided),
    }
}

/// The set of a sender's datagrams (by Knuth's multiplicative hash).
#[inline(always)]
fn set_of(key: &FragmentKey) -> u32 {
    let word = key.source.words[0] ^ key.source.words[1].rotate_left(32) ^ key.scope as u64;
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & (FRAGMENT_SETS - 1)
}

/// Waiting for a set.
struct Locking {
    slot: FragmentSetSlot,
    locked: bool,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn try_lock(_: u64, locking: *mut Locking) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let locking = unsafe { &mut *locking };
    locking.locked = locking.slot.try_lock();
    u64::from(locking.locked)
}

/// Follows the datagram that the fragment is of.
#[inline(never)]
fn follow<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    set: &mut FragmentSet,
    parsed: &mut Parsed,
    fragmented: &Fragmented,
) -> Packed {
    Packed::of(find_and_follow(packet, tables, set, parsed, fragmented))
}

#[inline(always)]
fn find_and_follow<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    set: &mut FragmentSet,
    parsed: &mut Parsed,
    fragmented: &Fragmented,
) -> Result<Decision, DropReason> {
    let way = find_or_begin(tables, set, parsed, &fragmented.key);
    if way == NOWHERE {
        return Err(DropReason::Fragment);
    }
    let way = way as usize & (FRAGMENT_WAYS - 1);
    let datagram = &mut set.datagrams[way];
    if datagram.state == datagram::REFUSED {
        return Err(DropReason::FragmentOverlap);
    }
    if parsed.fragment == Fragment::First {
        if datagram.state == datagram::WAITING {
            datagram.state = datagram::KNOWN;
            datagram.source_port = parsed.key.source_port;
            datagram.destination_port = parsed.key.destination_port;
            datagram.protocol = parsed.key.protocol;
        }
        if datagram.held != 0 {
            datagram.held = 0;
            let serial = datagram.serial;
            release(packet, tables, set, serial);
            return Ok(Decision::Verdict(Verdict::Consumed));
        }
    } else if datagram.state == datagram::WAITING {
        return hold(packet, tables, set, way, fragmented.size).map(Decision::Verdict);
    }
    let datagram = &mut set.datagrams[way];
    place(tables, datagram, fragmented)?;
    parsed.key.source_port = datagram.source_port;
    parsed.key.destination_port = datagram.destination_port;
    parsed.key.protocol = datagram.protocol;
    parsed.identification =
        if tables.mutant(Mutant::IdentificationKept) { fragmented.key.identification } else { datagram.identification };
    if datagram.pieces_used == 1 && datagram.pieces[0].start == 0 && datagram.pieces[0].end == datagram.length {
        // All of it has passed.
        datagram.deadline = 0;
    }
    Ok(Decision::Open)
}

/// No place.
const NOWHERE: u32 = u32::MAX;

/// The place of the datagram with this key; [`NOWHERE`] when the fragment would have to be held, and too much is.
#[inline(never)]
fn find_or_begin<T: Tables>(tables: &T, set: &mut FragmentSet, parsed: &Parsed, key: &FragmentKey) -> u32 {
    let now = tables.now();
    set.search = FragmentSearch {
        oldest_deadline: u64::MAX,
        senders_oldest_deadline: u64::MAX,
        position: 0,
        found: NOWHERE,
        oldest: 0,
        senders_oldest: 0,
        ways: 0,
        waiting: 0,
        held: 0,
        free: 0,
    };
    tables.repeat(FRAGMENT_WAYS as u32, &mut Searching { set, key, now }, look_at_datagram);
    let FragmentSearch { found, waiting, held, .. } = set.search;
    let known = found != NOWHERE && set.datagrams[found as usize & (FRAGMENT_WAYS - 1)].state != datagram::WAITING;
    if parsed.fragment == Fragment::Later && !known {
        let waiting = waiting + u32::from(found == NOWHERE);
        if waiting > SENDER_WAITING || held >= SENDER_HELD {
            return NOWHERE;
        }
    }
    if found != NOWHERE {
        return found;
    }
    let place = if set.search.ways >= SENDER_WAYS { set.search.senders_oldest } else { set.search.oldest };
    begin(tables, set, place, now, parsed.ethertype);
    set.datagrams[place as usize & (FRAGMENT_WAYS - 1)].key = *key;
    place
}

/// A walk over the datagrams of a set.
struct Searching<'a> {
    set: &'a mut FragmentSet,
    key: &'a FragmentKey,
    now: u64,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn look_at_datagram(_: u64, searching: *mut Searching<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let Searching { set, key, now } = unsafe { &mut *searching };
    let place = set.search.position;
    set.search.position = place + 1;
    let datagram = &set.datagrams[place as usize & (FRAGMENT_WAYS - 1)];
    let search = &mut set.search;
    let deadline = if *now > datagram.deadline { 0 } else { datagram.deadline };
    if deadline < search.oldest_deadline {
        search.oldest_deadline = deadline;
        search.oldest = place;
    }
    if deadline == 0 || datagram.key.source != key.source || datagram.key.scope != key.scope {
        return 0;
    }
    if datagram.key == **key {
        search.found = place;
    }
    if deadline < search.senders_oldest_deadline {
        search.senders_oldest_deadline = deadline;
        search.senders_oldest = place;
    }
    search.ways += 1;
    if datagram.held != 0 && *now + DATAGRAM_TIME < deadline + HELD_TIME {
        search.waiting += 1;
        search.held += datagram.held;
    }
    0
}

/// Begins a datagram in a place, whose key the caller sets. What was there is forgotten.
#[inline(always)]
fn begin<T: Tables>(tables: &T, set: &mut FragmentSet, way: u32, now: u64, kind: u16) {
    let serial = if set.serial == u32::MAX { 1 } else { set.serial + 1 };
    set.serial = serial;
    let datagram = &mut set.datagrams[way as usize & (FRAGMENT_WAYS - 1)];
    if datagram.held != 0 {
        tables.count(Metric::DatagramsForgotten);
    }
    // Senders of two sets never get the same one, and those of one set not for the next 1,024 datagrams; of IPv6 one that
    // cannot be guessed (RFC 7739).
    let unique = if kind == ethertype::IPV4 { serial } else { tables.random() };
    let identification = unique << FRAGMENT_SETS.ilog2() | set.number;
    datagram.identification = if kind == ethertype::IPV4 { identification & 0xffff } else { identification };
    datagram.deadline = now + DATAGRAM_TIME;
    datagram.serial = serial;
    datagram.state = datagram::WAITING;
    datagram.length = 0;
    datagram.pieces_used = 0;
    datagram.held = 0;
}

/// A new piece on its way to its place.
struct Placement<'a> {
    datagram: &'a Datagram,
    position: u32,
    placing: Placing,
}

/// Adds a piece to those of its datagram that have passed.
#[inline(never)]
fn place<T: Tables>(tables: &T, datagram: &mut Datagram, fragmented: &Fragmented) -> Result<(), DropReason> {
    let mut placement = Placement { datagram, position: 0, placing: Placing::new(fragmented.piece) };
    tables.repeat(placement.datagram.pieces_used, &mut placement, look_at_piece);
    let placing = placement.placing;
    match placing.place(&mut datagram.pieces, &mut datagram.pieces_used, &mut datagram.length, fragmented.last) {
        Placed::New => Ok(()),
        _ if tables.mutant(Mutant::OverlapsPassed) => Ok(()),
        Placed::Repeated => Err(DropReason::FragmentOverlap),
        Placed::Wrong => {
            datagram.state = datagram::REFUSED;
            Err(DropReason::FragmentOverlap)
        }
    }
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn look_at_piece(_: u64, placement: *mut Placement<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let Placement { datagram, position, placing } = unsafe { &mut *placement };
    placing.look(*position, datagram.pieces[*position as usize & (FRAGMENT_PIECES - 1)]);
    *position += 1;
    0
}

/// Holds the packet until the first fragment of its datagram comes.
#[inline(never)]
fn hold<P: Packet, T: Tables>(packet: &P, tables: &T, set: &mut FragmentSet, way: usize, size: u32) -> Outcome {
    if tables.mutant(Mutant::FragmentsNotHeld) {
        return Err(DropReason::Fragment);
    }
    let now = tables.now();
    let places = size.div_ceil(FRAGMENT_PLACE as u32);
    set.search.position = 0;
    set.search.found = NOWHERE;
    set.search.free = 0;
    tables.repeat(FRAGMENTS_HELD as u32, &mut Looking { set, places, now }, look_for_room);
    let place = set.search.found;
    if place == NOWHERE {
        return Err(DropReason::Fragment);
    }
    let length = match room_at(set, place) {
        Some(room) => packet.save(room),
        None => 0,
    };
    if length == 0 {
        return Err(DropReason::Fragment);
    }
    let datagram = &mut set.datagrams[way & (FRAGMENT_WAYS - 1)];
    datagram.held += places;
    let serial = datagram.serial;
    let mut position = 0;
    while position < MOST_PLACES {
        if position < places {
            let length = if position == 0 { length } else { 0 };
            set.held[(place + position) as usize & (FRAGMENTS_HELD - 1)] = HeldFragment { serial, length, since: now };
        }
        position += 1;
    }
    CONSUMED
}

/// A walk over the places of a set.
struct Looking<'a> {
    set: &'a mut FragmentSet,
    places: u32,
    now: u64,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn look_for_room(_: u64, looking: *mut Looking<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let Looking { set, places, now } = unsafe { &mut *looking };
    let place = set.search.position;
    set.search.position = place + 1;
    let held = &set.held[place as usize & (FRAGMENTS_HELD - 1)];
    if held.serial != 0 && *now < held.since + HELD_TIME {
        set.search.free = 0;
        return 0;
    }
    set.search.free += 1;
    if set.search.free < *places {
        return 0;
    }
    set.search.found = place + 1 - *places;
    1
}

/// Room for one packet, from this place on.
#[inline(always)]
fn room_at(set: &mut FragmentSet, place: u32) -> Option<&mut [u8; FRAGMENT_ROOM]> {
    let offset = (place as usize & (FRAGMENTS_HELD - 1)) * FRAGMENT_PLACE;
    set.bytes.get_mut(offset..offset + FRAGMENT_ROOM)?.try_into().ok()
}

/// Held fragments on their way back.
struct Releasing<'a, P> {
    packet: &'a mut P,
    set: &'a mut FragmentSet,
    serial: u32,
}

/// Lets the packet in once more, and what is held of its datagram behind it.
#[inline(never)]
fn release<P: Packet, T: Tables>(packet: &mut P, tables: &T, set: &mut FragmentSet, serial: u32) {
    packet.come_in_again();
    set.search.position = 0;
    tables.repeat(FRAGMENTS_HELD as u32, &mut Releasing { packet, set, serial }, release_one);
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn release_one<P: Packet>(_: u64, releasing: *mut Releasing<'_, P>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let Releasing { packet, set, serial } = unsafe { &mut *releasing };
    let place = set.search.position;
    set.search.position = place + 1;
    let held = &mut set.held[place as usize & (FRAGMENTS_HELD - 1)];
    if held.serial != *serial {
        return 0;
    }
    held.serial = 0;
    let length = held.length;
    if length != 0
        && let Some(room) = room_at(set, place)
        && packet.replace(room, length).is_ok()
    {
        packet.come_in_again();
    }
    0
}
