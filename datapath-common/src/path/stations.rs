//! Which stations are behind which port of a network that learns (B4): learnt from the source addresses of frames, as a
//! bridge does it (IEEE 802.1Q section 8.7), and forgotten by time when they are looked up.

use super::{
    Tables,
    locked::StationsSlot,
    port::{NOBODY, Port},
};
use crate::{
    abi::{MacKey, Metric, Mutant, Network, PORT_STATIONS, PortStations, Station, StationPlace},
    logic::headers::Headers,
};

/// How often it is noted that a station was heard, in nanoseconds: no write for every frame.
const NOTED_EVERY: u64 = 1 << 30;
/// Places that are looked at for one frame of a new station. The next frame goes on from there.
const LOOKED_AT: u32 = 64;
/// No place.
const NOWHERE: u32 = u32::MAX;

/// The endpoint behind whose port the frame's destination is, [`crate::abi::HOST`] for the gateway, or [`NOBODY`]. The addresses
/// that were given out come first: no station has one of them.
#[inline(never)]
pub(super) fn find<T: Tables>(tables: &T, network_id: u32, network: &Network, headers: &Headers) -> u32 {
    let key = MacKey::new(network_id, headers.destination_mac());
    if let Some(index) = tables.endpoint_by_mac(&key) {
        return index;
    }
    let Some(place) = tables.station_place(&key) else {
        return NOBODY;
    };
    let Some(slot) = tables.stations(place.table()) else {
        return NOBODY;
    };
    let station = slot.station(place.position());
    let here = station.mac == key.mac && station.network as u32 == network_id;
    let (index, generation) = (station.endpoint, station.generation);
    if !here || generation == 0 || is_over(tables, station, oldest(tables, network)) {
        return NOBODY;
    }
    match tables.endpoint(index) {
        Some(endpoint) if endpoint.generation == generation => index,
        _ => NOBODY,
    }
}

/// When a station must have been heard last not to be forgotten.
#[inline(always)]
fn oldest<T: Tables>(tables: &T, network: &Network) -> u64 {
    tables.now().saturating_sub(network.ageing as u64 * 1_000_000_000)
}

#[inline(always)]
fn is_over<T: Tables>(tables: &T, station: &Station, oldest: u64) -> bool {
    station.seen < oldest && !tables.mutant(Mutant::StationsNeverAge)
}

/// Learns that the frame's source is behind the port. It is nobody's that was given out.
#[inline(never)]
pub(super) fn learn<T: Tables>(tables: &T, port: &Port<'_>, headers: &Headers) {
    let key = MacKey::new(port.endpoint.network, headers.source_mac());
    let now = tables.now();
    let before = tables.station_place(&key);
    let table = port.endpoint.stations as u32;
    if tables.mutant(Mutant::LearningSkipped) {
        return;
    }
    if let Some(place) = before
        && place.table() == table
        && let Some(slot) = tables.stations(table)
    {
        let station = slot.station(place.position());
        if station.mac == key.mac && station.generation == port.endpoint.generation {
            if station.seen + NOTED_EVERY < now {
                slot.refresh(place.position(), now);
            }
            return;
        }
    }
    let Some(slot) = tables.stations(table) else {
        return;
    };
    // When another CPU learns a station behind this port, this one is learnt by its next frame.
    if table == 0 || !slot.try_lock() {
        return;
    }
    let position = room(tables, slot, port, now);
    if position == NOWHERE {
        tables.count(Metric::StationsRefused);
    } else {
        let place = StationPlace::new(table, position);
        let station = Station {
            seen: now,
            endpoint: port.index,
            generation: port.endpoint.generation,
            mac: key.mac,
            network: port.endpoint.network as u16,
        };
        settle(tables, slot, place, &station);
        if let Some(before) = before {
            leave(tables, before, &station, table);
        }
    }
    slot.unlock();
}

/// A free place of the port's table, or that of a station that is over; [`NOWHERE`] when none was found.
#[inline(never)]
fn room<T: Tables>(tables: &T, slot: StationsSlot, port: &Port<'_>, now: u64) -> u32 {
    let stations = slot.get();
    stations.found = NOWHERE;
    let ageing = port.network.ageing as u64 * 1_000_000_000;
    let mut looking = Looking { stations, generation: port.endpoint.generation, oldest: now.saturating_sub(ageing) };
    tables.repeat(LOOKED_AT, &mut looking, look_at_place);
    let found = slot.get().found;
    if found == NOWHERE && tables.mutant(Mutant::StationsUnbounded) { slot.get().hand } else { found }
}

/// A walk over the places of a port.
struct Looking<'a> {
    stations: &'a mut PortStations,
    generation: u32,
    oldest: u64,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn look_at_place(_: u64, looking: *mut Looking<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let Looking { stations, generation, oldest } = unsafe { &mut *looking };
    let position = stations.hand & (PORT_STATIONS as u32 - 1);
    stations.hand = position + 1;
    let station = &stations.stations[position as usize];
    if station.generation == *generation && station.seen >= *oldest {
        return 0;
    }
    stations.found = position;
    1
}

/// Gives a place to a station, and lets its key lead there.
#[inline(never)]
fn settle<T: Tables>(tables: &T, slot: StationsSlot, place: StationPlace, station: &Station) {
    let there = &mut slot.get().stations[place.position() as usize];
    let key = MacKey::new(there.network as u32, there.mac);
    if tables.station_place(&key) == Some(place) {
        tables.delete_station_place(&key);
    }
    *there = *station;
    if !tables.set_station_place(&MacKey::new(station.network as u32, station.mac), place) {
        slot.free(place.position());
        tables.count(Metric::StationsRefused);
    }
}

/// Frees the place that a station had at another port.
#[inline(never)]
fn leave<T: Tables>(tables: &T, before: StationPlace, station: &Station, table: u32) {
    if before.table() == table {
        return;
    }
    if let Some(slot) = tables.stations(before.table()) {
        let there = slot.station(before.position());
        if there.mac == station.mac && there.network == station.network {
            slot.free(before.position());
        }
    }
}
