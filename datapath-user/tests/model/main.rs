//! Sequences of packets, time and change against small reference models.
//!
//! The path runs natively. The models know nothing of slots, keys or ports to choose: only which conversations exist,
//! and what must be true of any right answer.

mod masquerade;
mod published;

use std::net::IpAddr;

use datapath_common::{
    abi::{AddressKey, Endpoint, HOST, Mutant, Network, Settings, Subnet, Uplink, network_flags},
    native::State,
};
use lab::{
    Mac,
    frame::{Ethernet, IpBuilder},
};

const UPLINK: u32 = 2;
const GATEWAY: u32 = 100;
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
/// MAC addresses of the uplink, and of who is behind it.
const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 1];
const ROUTER_MAC: [u8; 6] = [2, 9, 9, 9, 9, 9];
const SECOND: u64 = 1_000_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn inside(v6: bool, endpoint: u8) -> IpAddr {
    ip(&if v6 { format!("fd00:1::1{endpoint}") } else { format!("10.1.0.1{endpoint}") })
}

fn outside(v6: bool, target: u8) -> IpAddr {
    ip(&if v6 { format!("fd99::{target}") } else { format!("10.99.0.{target}") })
}

fn external(v6: bool) -> IpAddr {
    ip(if v6 { "2001:db8:2::1" } else { "192.0.2.1" })
}

const fn mac(endpoint: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, endpoint]
}

fn endpoint(index: u8, generation: u32) -> Endpoint {
    Endpoint {
        generation,
        ifindex: 10 + u32::from(index),
        network: 1,
        mac: mac(index),
        ipv4: inside(false, index).into(),
        ipv6: inside(true, index).into(),
        ..Endpoint::default()
    }
}

fn ethernet(from: [u8; 6], to: [u8; 6], source: IpAddr, destination: IpAddr) -> IpBuilder {
    Ethernet::new(Mac(from), Mac(to)).ip(source, destination)
}

/// A host with one dual-stack network of two endpoints, and an uplink.
fn state(flow_quota: u32) -> State {
    // As for the daemons of the traffic tests; the path looks at it in builds with the feature only.
    let mutant = std::env::var(lab::MUTANT_VARIABLE).ok();
    let mutant = mutant.map_or(0, |name| Mutant::named(&name).expect("a mutant of this name") as u32);
    let settings = Settings { flow_quota, mutant, ..Settings::DEFAULT };
    let mut state = State { settings, ..State::default() };
    let flags = network_flags::ICC | network_flags::MASQUERADE | network_flags::IPV4 | network_flags::IPV6;
    let network = Network {
        flags,
        gateway_ifindex: GATEWAY,
        gateway_mac: GATEWAY_MAC,
        mtu: 1_500,
        gateway_ipv4: ip("10.1.0.1").into(),
        gateway_ipv6: ip("fd00:1::1").into(),
        ..Network::default()
    };
    state.networks.insert(1, network);
    for gateway in ["10.1.0.1", "fd00:1::1"] {
        state.by_address.insert(AddressKey::new(1, ip(gateway).into()), HOST);
    }
    for (prefix, length) in [("10.1.0.0", 120), ("fd00:1::", 64)] {
        state.subnets.push((ip(prefix).into(), length, Subnet { network: 1, padding: 0 }));
    }
    for index in 1..=2u8 {
        let value = endpoint(index, index.into());
        state.by_ifindex.insert(value.ifindex, index.into());
        for address in [value.ipv4, value.ipv6] {
            state.by_address.insert(AddressKey::new(1, address), index.into());
        }
        state.endpoints.insert(index.into(), value);
    }
    let uplink = Uplink { link_header: 14, mtu: 1_500, ipv4: external(false).into(), ipv6: external(true).into() };
    state.uplinks.insert(UPLINK, uplink);
    for v6 in [false, true] {
        state.host_addresses.insert(external(v6).into(), UPLINK);
    }
    state
}
