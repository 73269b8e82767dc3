//! Fragments of a few datagrams in any order, cut anywhere and repeated, to a published port: none leaves before the first of
//! its datagram, no two that leave overlap, and nothing but addresses, ports, the hop count and the identification changes.

#![no_main]

use std::collections::HashMap;

use datapath_common::{
    abi::{Address, AddressKey, Endpoint, Network, Publication, PublishedKey, Settings, Uplink, network_flags},
    native::{self, Frame, NativeTables, State},
    path::{self, Verdict},
};
use datapath_fuzz::checksum;
use libfuzzer_sys::fuzz_target;

const UPLINK: u32 = 2;
const SERVER: u32 = 11;
const HOST: [u8; 4] = [192, 0, 2, 1];
const HOST6: [u8; 16] = *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
const CONTAINER: [u8; 4] = [10, 1, 0, 2];
const CONTAINER6: [u8; 16] = *b"\xfd\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x02";
const PORT: u16 = 53;
/// Datagrams that are cut, each of its own sender or identification; the second half by IPv6.
const DATAGRAMS: usize = 8;
/// Bytes of each.
const LENGTH: u16 = 4_096;

/// One fragment of a datagram, in units of 8 bytes.
#[derive(Clone, Copy)]
struct Cut {
    datagram: usize,
    start: u16,
    end: u16,
}

impl Cut {
    fn read([choice, start, length]: [u8; 3]) -> Self {
        // Half of them are regular, so that datagrams become whole.
        let start = if choice & 0x80 == 0 { u16::from(start & 15) * 32 } else { u16::from(start) * 2 };
        let length = if choice & 0x80 == 0 { 32 } else { u16::from(length & 63) + 1 };
        let end = (start + length).min(LENGTH / 8);
        Self { datagram: usize::from(choice) % DATAGRAMS, start: start.min(end - 1), end }
    }

    fn payload(self) -> Vec<u8> {
        let byte = |at: u16| (at / 7) as u8 ^ self.datagram as u8;
        let mut payload: Vec<u8> = (self.start * 8..self.end * 8).map(byte).collect();
        if self.start == 0 {
            // Without a checksum, which is 0 then (RFC 768).
            let [a, b] = LENGTH.to_be_bytes();
            payload[..8].copy_from_slice(&[1, self.datagram as u8, 0, PORT as u8, a, b, 0, 0]);
        }
        payload
    }

    fn frame(self) -> Vec<u8> {
        let payload = self.payload();
        let more = self.end * 8 < LENGTH;
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
        let (sender, identification) = (1 + (self.datagram as u8 >> 1 & 1), self.datagram as u8 & 1);
        if self.datagram >= DATAGRAMS / 2 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((8 + payload.len() as u16).to_be_bytes());
            frame.extend([44, 64]);
            frame.extend([&HOST6[..15], &[0x90 + sender]].concat());
            frame.extend(HOST6);
            frame.extend([17, 0]);
            frame.extend((self.start << 3 | u16::from(more)).to_be_bytes());
            frame.extend([7, 0, 0, identification]);
        } else {
            let mut ip = vec![0x45, 0];
            ip.extend((20 + payload.len() as u16).to_be_bytes());
            ip.extend([7, identification]);
            ip.extend((self.start | if more { 0x2000 } else { 0 }).to_be_bytes());
            ip.extend([64, 17, 0, 0, 10, 99, 0, sender]);
            ip.extend(HOST);
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum);
            frame.extend([8, 0]);
            frame.extend(ip);
        }
        [frame, payload].concat()
    }
}

/// Which datagram a frame is of.
fn datagram(frame: &[u8]) -> usize {
    match frame[12] {
        0x08 => usize::from(frame[19] | (frame[29] - 1) << 1),
        _ => usize::from(frame[61] | (frame[37] - 0x91) << 1) + DATAGRAMS / 2,
    }
}

fn tables() -> NativeTables {
    let mut state = State { settings: Settings { flow_quota: 8, ..Settings::DEFAULT }, ..State::default() };
    let uplink =
        Uplink { link_header: 14, mtu: 1_500, ipv4: Address::v4(HOST), ipv6: Address::v6(HOST6), ..Uplink::default() };
    state.uplinks.insert(UPLINK, uplink);
    state.host_addresses.insert(Address::v4(HOST), UPLINK);
    state.host_addresses.insert(Address::v6(HOST6), UPLINK);
    let network = Network {
        flags: network_flags::ICC | network_flags::MASQUERADE | network_flags::IPV4 | network_flags::IPV6,
        gateway_ifindex: 101,
        mtu: 65_535,
        gateway_ipv4: Address::v4([10, 1, 0, 1]),
        gateway_ipv6: Address::v6(*b"\xfd\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01"),
        ..Network::default()
    };
    state.networks.insert(1, network);
    let (v4, v6) = (Address::v4(CONTAINER), Address::v6(CONTAINER6));
    let endpoint = Endpoint { generation: 1, ifindex: SERVER, network: 1, ipv4: v4, ipv6: v6, ..Endpoint::default() };
    state.endpoints.insert(1, endpoint);
    state.by_address.extend([v4, v6].map(|address| (AddressKey::new(1, address), 1)));
    let publication = Publication {
        generation: 1,
        endpoint: 1,
        endpoint_generation: 1,
        host_port: PORT,
        container_port: PORT,
        ..Publication::default()
    };
    state.publications.insert(1, publication);
    for any in [Address::ANY_V4, Address::NONE] {
        state.published.insert(PublishedKey::new(any, PORT.to_be(), 17), 1);
    }
    NativeTables::new(state, 16)
}

fuzz_target!(|input: &[u8]| {
    let tables = tables();
    let mut passed: HashMap<usize, Vec<bool>> = HashMap::new();
    for cut in input.as_chunks().0.iter().take(200).map(|chunk| Cut::read(*chunk)) {
        let mut waiting = vec![cut.frame()];
        let mut rounds = 0;
        while let Some(bytes) = waiting.pop() {
            rounds += 1;
            assert!(rounds < 1_000, "packets go round and round");
            let mut frame = Frame::new(UPLINK, bytes.clone());
            match native::run(path::from_uplink, &mut frame, &tables) {
                Ok(Verdict::ToEndpoint(SERVER)) => {
                    left(&bytes, &frame.bytes, passed.entry(datagram(&bytes)).or_default())
                }
                // The first fragment comes in again before the others.
                Ok(Verdict::Consumed) => waiting.extend(frame.again.into_iter().rev()),
                // What is refused may be the host's.
                Ok(Verdict::Pass) => {}
                other => panic!("{other:?}"),
            }
        }
    }
});

/// What holds of a fragment that leaves.
fn left(before: &[u8], after: &[u8], passed: &mut Vec<bool>) {
    let word = |at: usize| usize::from(u16::from_be_bytes([after[at], after[at + 1]]));
    let ipv6 = after[12] == 0x86;
    let (start, payload) = if ipv6 { (word(56) >> 3, 62) } else { (word(20) & 0x1fff, 34) };
    let units = start..start + (after.len() - payload) / 8;
    passed.resize(usize::from(LENGTH / 8), false);
    if passed.iter().all(|unit| *unit) {
        // The datagram is whole: this is one of the same identification.
        passed.fill(false);
    }
    assert!(start == 0 || passed[0], "it leaves before the first");
    assert!(!passed[units.clone()].iter().any(|unit| *unit), "it overlaps another one");
    passed[units].fill(true);
    if ipv6 {
        assert_eq!((&after[22..38], &after[38..54]), (&before[22..38], &CONTAINER6[..]));
        assert_eq!((after[21], &after[54..58]), (63, &before[54..58]));
    } else {
        assert_eq!(checksum(&[&after[14..34]]), [0, 0], "header checksum");
        assert_eq!((&after[26..30], &after[30..34]), (&before[26..30], &CONTAINER[..]));
        assert_eq!((after[22], &after[20..22]), (63, &before[20..22]));
    }
    assert_eq!(after[payload..], before[payload..], "payload");
}
