//! Learning beside a model of a learning switch (B4), natively: random frames at three ports, with time passing.

use std::collections::{BTreeMap, HashMap};

use datapath_common::{
    abi::{
        Address, Endpoint, HOST, MacKey, Metric, Network, PORT_STATIONS,
        network_flags::{ICC, IPV4, LEARNING},
    },
    native::{self, CopiedTo, Frame, NativeTables, State},
    path::{self, Outcome, Verdict},
};
use lab::{
    Mac,
    frame::{Ethernet, ethertype},
};
use proptest::prelude::*;

const NETWORK: u32 = 1;
const AGEING: u64 = 300;
const SECOND: u64 = 1_000_000_000;
/// Ports are those of endpoints 1 to 3.
const PORTS: u32 = 3;

fn ifindex(port: u32) -> u32 {
    10 + port
}

fn endpoint_mac(port: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, port as u8]
}

fn station_mac(number: u16) -> [u8; 6] {
    [2, 9, 0, 0, (number >> 8) as u8, number as u8]
}

/// The tables of a network that learns.
fn tables() -> NativeTables {
    let mut state = State::default();
    state.settings.flood_rate = u32::MAX / 2;
    let gateway = Address::v4([10, 1, 0, 1]);
    let gateway_mac = [2, 0, 0, 0, 0, 0xfe];
    let network = Network {
        flags: ICC | IPV4 | LEARNING,
        gateway_ifindex: 1,
        gateway_mac,
        ageing: AGEING as u16,
        mtu: 1_500,
        members: PORTS,
        gateway_ipv4: gateway,
        gateway_ipv6: Address::NONE,
    };
    state.networks.insert(NETWORK, network);
    state.by_mac.insert(MacKey::new(NETWORK, gateway_mac), HOST);
    for port in 1..=PORTS {
        let endpoint = Endpoint {
            generation: 100 + port,
            ifindex: ifindex(port),
            network: NETWORK,
            mac: endpoint_mac(port),
            stations: port as u16,
            ipv4: Address::v4([10, 1, 0, 10 + port as u8]),
            ..Endpoint::default()
        };
        state.endpoints.insert(port, endpoint);
        state.by_ifindex.insert(ifindex(port), port);
        state.by_mac.insert(MacKey::new(NETWORK, endpoint_mac(port)), port);
        state.members.insert((NETWORK, port - 1), ifindex(port));
    }
    NativeTables::new(state, 16)
}

/// One frame, and the copies that were made of it.
fn send(tables: &NativeTables, port: u32, from: [u8; 6], to: [u8; 6]) -> (Outcome, Vec<CopiedTo>) {
    let bytes = Ethernet::new(Mac(from), Mac(to)).payload(ethertype::EXPERIMENT, &[7; 46]);
    let mut frame = Frame::new(ifindex(port), bytes);
    (native::run(path::from_container, &mut frame, tables), frame.copies)
}

/// To every other port.
fn flooded(port: u32) -> (Outcome, Vec<CopiedTo>) {
    let others = (1..=PORTS).filter(|other| *other != port).map(|other| CopiedTo::Endpoint(ifindex(other)));
    (Ok(Verdict::Consumed), others.collect())
}

/// What a learning switch remembers: port and time of each station.
#[derive(Default)]
struct Switch(HashMap<u16, (u32, u64)>);

impl Switch {
    fn is_full(&self, port: u32, now: u64) -> bool {
        let behind = self.0.values().filter(|(home, seen)| *home == port && *seen + AGEING * SECOND >= now);
        behind.count() >= PORT_STATIONS
    }

    fn hear(&mut self, station: u16, port: u32, now: u64) {
        match self.0.get_mut(&station) {
            // To a second: no write for every frame.
            Some((home, seen)) if *home == port => {
                if now > *seen + (1 << 30) {
                    *seen = now;
                }
            }
            _ => drop(self.0.insert(station, (port, now))),
        }
    }

    fn expect(&self, to: u16, port: u32, now: u64) -> (Outcome, Vec<CopiedTo>) {
        match self.0.get(&to) {
            Some((home, seen)) if *seen + AGEING * SECOND >= now => {
                let verdict = if *home == port { Verdict::Consumed } else { Verdict::ToStation(ifindex(*home)) };
                (Ok(verdict), Vec::new())
            }
            _ => flooded(port),
        }
    }
}

proptest! {
    #[test]
    fn every_frame_goes_where_a_switch_sends_it(
        frames in prop::collection::vec((1..=PORTS, 0u16..40, 0u16..40, prop::sample::select(vec![0u64, 1, 5, 100, 400])), 1..200)
    ) {
        let (tables, mut switch) = (tables(), Switch::default());
        for (port, from, to, pause) in frames {
            tables.now.set(tables.now.get() + pause * SECOND);
            let now = tables.now.get();
            let outcome = send(&tables, port, station_mac(from), station_mac(to));
            switch.hear(from, port, now);
            prop_assert_eq!(outcome, switch.expect(to, port, now));
        }
    }

    /// Above what a port may have, the first ones stay, and those behind other ports too.
    #[test]
    fn no_port_takes_more_than_its_room(
        order in prop::collection::vec((1..=2u32, 0u16..400), 600..900)
    ) {
        let (tables, mut switch) = (tables(), Switch::default());
        let mut refused = 0;
        for (port, number) in order {
            // Each port has stations of its own here: what moves is above.
            let station = number + 1_000 * port as u16;
            let _ = send(&tables, port, station_mac(station), endpoint_mac(3));
            let known = switch.0.contains_key(&station);
            if known || !switch.is_full(port, tables.now.get()) {
                switch.hear(station, port, tables.now.get());
            } else {
                refused += 1;
            }
        }
        prop_assert_eq!(tables.metric(Metric::StationsRefused), refused);
        let mut behind = BTreeMap::<u32, usize>::new();
        for (station, (home, _)) in &switch.0 {
            *behind.entry(*home).or_default() += 1;
            let expected = (Ok(Verdict::ToStation(ifindex(*home))), Vec::new());
            prop_assert_eq!(send(&tables, 3, endpoint_mac(3), station_mac(*station)), expected);
        }
        prop_assert!(behind.values().all(|count| *count <= PORT_STATIONS));
        prop_assert!(tables.station_places.borrow().len() <= 2 * PORT_STATIONS);
    }
}

#[test]
fn there_is_room_again_when_stations_are_over() {
    let tables = tables();
    for round in 0..4u16 {
        for number in 0..PORT_STATIONS as u16 {
            let station = station_mac(round * 1_000 + number);
            let _ = send(&tables, 1, station, endpoint_mac(2));
            let (outcome, _) = send(&tables, 2, endpoint_mac(2), station);
            assert_eq!(outcome, Ok(Verdict::ToStation(ifindex(1))), "round {round}, station {number}");
        }
        assert_eq!(send(&tables, 2, endpoint_mac(2), station_mac(9_999)), flooded(2));
        tables.now.set(tables.now.get() + (AGEING + 1) * SECOND);
    }
    // Keys of the stations that were over went with their places.
    assert_eq!(tables.station_places.borrow().len(), PORT_STATIONS);
    assert_eq!(tables.metric(Metric::StationsRefused), 0);
}

#[test]
fn stations_of_an_endpoint_that_is_gone_are_unknown() {
    let mut tables = tables();
    let _ = send(&tables, 1, station_mac(1), endpoint_mac(2));
    tables.state.endpoints.get_mut(&1).expect("there").generation += 1;
    assert_eq!(send(&tables, 2, endpoint_mac(2), station_mac(1)), flooded(2));
    // Its successor's are learnt in the same table.
    let _ = send(&tables, 1, station_mac(1), endpoint_mac(2));
    assert_eq!(send(&tables, 2, endpoint_mac(2), station_mac(1)).0, Ok(Verdict::ToStation(ifindex(1))));
}
