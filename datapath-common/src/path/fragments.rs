//! Fragments (N6). The first one of a datagram has the ports: the others pass as packets of the same flow. Those that
//! come before it are held, and let in again behind it.
//!
//! Nothing is put together: the receiver does that. But what would make two readings of one datagram, fragments that
//! overlap, is refused here (RFC 5722, RFC 1858).

use super::{Decision, Outcome, Packed, Packet, Tables, Verdict, from_container::CONSUMED, slot::FragmentSetSlot};
use crate::{
    abi::{
        Datagram, DropReason, FRAGMENT_BYTES, FRAGMENT_PIECES, FRAGMENT_ROOM, FRAGMENT_SETS, FRAGMENT_WAYS,
        FRAGMENTS_HELD, FragmentKey, FragmentSet, HeldFragment, Metric, Mutant, datagram,
    },
    logic::{
        fragment::{Fragmented, Placed, Placing, read_fragment},
        headers::{Headers, ethertype},
        parse::{Fragment, Parsed},
    },
};

/// How long the first fragment of a datagram is waited for, and the others after it (as Linux's ipfrag_time).
const DATAGRAM_TIME: u64 = 30_000_000_000;
/// How long fragments that take up all the room of their set are held at least.
const HELD_TIME: u64 = 1 << 30;
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
    let way = find_or_begin(tables, set, &fragmented.key, parsed.ethertype) & (FRAGMENT_WAYS - 1);
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
        return hold(packet, tables, set, way).map(Decision::Verdict);
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

/// A walk over the datagrams of a set.
struct Search<'a> {
    set: &'a FragmentSet,
    key: &'a FragmentKey,
    now: u64,
    position: u32,
    /// Where the key is, or [`NOWHERE`].
    found: u32,
    /// The place that a new datagram takes: a free one, else that of the oldest.
    oldest: u32,
    oldest_deadline: u64,
}

/// No place.
const NOWHERE: u32 = u32::MAX;

/// The place of the datagram with this key.
#[inline(never)]
fn find_or_begin<T: Tables>(tables: &T, set: &mut FragmentSet, key: &FragmentKey, kind: u16) -> usize {
    let now = tables.now();
    let mut search = Search { set, key, now, position: 0, found: NOWHERE, oldest: 0, oldest_deadline: u64::MAX };
    tables.repeat(FRAGMENT_WAYS as u32, &mut search, look_at_datagram);
    let (found, oldest) = (search.found, search.oldest);
    if found == NOWHERE {
        begin(tables, set, oldest, now, kind);
        set.datagrams[oldest as usize & (FRAGMENT_WAYS - 1)].key = *key;
        return oldest as usize;
    }
    found as usize
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn look_at_datagram(_: u64, search: *mut Search<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let search = unsafe { &mut *search };
    let datagram = &search.set.datagrams[search.position as usize & (FRAGMENT_WAYS - 1)];
    let deadline = if search.now > datagram.deadline { 0 } else { datagram.deadline };
    if deadline != 0 && datagram.key == *search.key {
        search.found = search.position;
        return 1;
    }
    if deadline < search.oldest_deadline {
        search.oldest_deadline = deadline;
        search.oldest = search.position;
    }
    search.position += 1;
    0
}

/// Begins a datagram in a place, whose key the caller sets. What was there is forgotten.
#[inline(always)]
fn begin<T: Tables>(tables: &T, set: &mut FragmentSet, way: u32, now: u64, kind: u16) {
    let serial = if set.serial == u32::MAX { 1 } else { set.serial + 1 };
    set.serial = serial;
    let datagram = &mut set.datagrams[way as usize & (FRAGMENT_WAYS - 1)];
    if datagram.held != 0 {
        set.holding = set.holding.saturating_sub(datagram.held);
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
struct Looking<'a> {
    datagram: &'a Datagram,
    position: u32,
    placing: Placing,
}

/// Adds a piece to those of its datagram that have passed.
#[inline(never)]
fn place<T: Tables>(tables: &T, datagram: &mut Datagram, fragmented: &Fragmented) -> Result<(), DropReason> {
    let mut looking = Looking { datagram, position: 0, placing: Placing::new(fragmented.piece) };
    tables.repeat(looking.datagram.pieces_used, &mut looking, look_at_piece);
    let placing = looking.placing;
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
extern "C" fn look_at_piece(_: u64, looking: *mut Looking<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let looking = unsafe { &mut *looking };
    let piece = looking.datagram.pieces[looking.position as usize & (FRAGMENT_PIECES - 1)];
    looking.placing.look(looking.position, piece);
    looking.position += 1;
    0
}

/// Holds the packet until the first fragment of its datagram comes.
#[inline(never)]
fn hold<P: Packet, T: Tables>(packet: &P, tables: &T, set: &mut FragmentSet, way: usize) -> Outcome {
    if tables.mutant(Mutant::FragmentsNotHeld) {
        return Err(DropReason::Fragment);
    }
    let now = tables.now();
    if set.holding == 0 {
        empty(set, now);
    }
    if set.held_used >= FRAGMENTS_HELD as u32 || set.bytes_used >= FRAGMENT_BYTES as u32 {
        if now - set.held_since < HELD_TIME {
            return Err(DropReason::Fragment);
        }
        empty(set, now);
        tables.count(Metric::DatagramsForgotten);
    }
    let offset = set.bytes_used;
    let length = match room_at(set, offset) {
        Some(room) => packet.save(room),
        None => 0,
    };
    if length == 0 {
        return Err(DropReason::Fragment);
    }
    let datagram = &mut set.datagrams[way & (FRAGMENT_WAYS - 1)];
    datagram.held += 1;
    set.held[set.held_used as usize & (FRAGMENTS_HELD - 1)] =
        HeldFragment { serial: datagram.serial, offset, length, padding: 0 };
    set.held_used += 1;
    set.bytes_used = offset + length.next_multiple_of(8);
    set.holding += 1;
    CONSUMED
}

/// Gives all room of the set free.
#[inline(always)]
fn empty(set: &mut FragmentSet, now: u64) {
    set.held_used = 0;
    set.bytes_used = 0;
    set.holding = 0;
    set.held_since = now;
}

/// Room for one frame.
#[inline(always)]
fn room_at(set: &mut FragmentSet, offset: u32) -> Option<&mut [u8; FRAGMENT_ROOM]> {
    let offset = offset as usize & (FRAGMENT_BYTES - 1);
    set.bytes.get_mut(offset..offset + FRAGMENT_ROOM)?.try_into().ok()
}

/// Held fragments on their way back.
struct Releasing<'a, P> {
    packet: &'a mut P,
    set: &'a mut FragmentSet,
    serial: u32,
    position: u32,
}

/// Lets the packet in once more, and what is held of its datagram behind it.
#[inline(never)]
fn release<P: Packet, T: Tables>(packet: &mut P, tables: &T, set: &mut FragmentSet, serial: u32) {
    packet.come_in_again();
    let used = set.held_used;
    let mut releasing = Releasing { packet, set, serial, position: 0 };
    tables.repeat(used, &mut releasing, release_one);
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn release_one<P: Packet>(_: u64, releasing: *mut Releasing<'_, P>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let releasing = unsafe { &mut *releasing };
    let held = &mut releasing.set.held[releasing.position as usize & (FRAGMENTS_HELD - 1)];
    releasing.position += 1;
    if held.serial != releasing.serial {
        return 0;
    }
    held.serial = 0;
    let HeldFragment { offset, length, .. } = *held;
    releasing.set.holding = releasing.set.holding.saturating_sub(1);
    if let Some(room) = room_at(releasing.set, offset)
        && releasing.packet.replace(room, length).is_ok()
    {
        releasing.packet.come_in_again();
    }
    0
}
