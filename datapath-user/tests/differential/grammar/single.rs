//! Packets that come alone: neighbours, groups, other protocols, tags, and forgeries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::frame::{Arp, Ethernet, NeighbourMessage, ethertype};
use lab::oracle::{Member, Network};
use lab::{Lan, Mac, lan::address};

use super::Grammar;
use super::packet::blank_tag;
use crate::twins::{LAN, MEMBERS};

/// Who sends a single packet.
struct Sender<'a> {
    port: usize,
    network: &'a Network,
    own: &'a Member,
    sibling: &'a Member,
}

/// Draws the port that sends, what it is, and the frames.
pub fn draw(grammar: &mut Grammar) -> (usize, &'static str, Vec<Vec<u8>>) {
    let (random, plan) = (&mut grammar.random, &grammar.plan);
    let port = random.usize(..MEMBERS);
    let network = &plan.networks[port / 2];
    let sender = Sender { port, network, own: &network.members[port % 2], sibling: &network.members[1 - port % 2] };
    let pick = random.usize(..);
    let family = usize::from(network.ipv6 && random.u32(..5) < 2);
    let (what, frame) = match random.u32(..14) {
        0 | 1 => arp(&sender, pick),
        2 if network.ipv6 => neighbour(&sender, pick),
        2..=4 => group(&sender, family, pick),
        5 => other_ethertype(&sender, pick),
        6 => tagged(&sender, pick),
        7 | 8 => forged(&sender, family, pick),
        9 | 10 => protocol(&sender, family, pick),
        11 => icmp(&sender, family, pick),
        12 => return from_outside(plan.uplink, random.u32(..2) as usize, pick),
        _ => return (LAN, "forged from outside", vec![martian(plan.uplink, random.u32(..2) as usize, pick)]),
    };
    (sender.port, what, vec![frame])
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => unreachable!("{v6} in place of IPv4"),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(v4) => unreachable!("{v4} in place of IPv6"),
    }
}

fn arp(sender: &Sender<'_>, pick: usize) -> (&'static str, Vec<u8>) {
    let (own, sibling, gateway) =
        (v4(sender.own.addresses[0]), v4(sender.sibling.addresses[0]), v4(sender.network.gateways[0]));
    let (mac, all) = (sender.own.mac, Mac::BROADCAST);
    let nobody = Ipv4Addr::from(u32::from(gateway) + 100);
    let (what, mut frame) = match pick % 9 {
        0..=2 => ("arp for the gateway", Arp::request((mac, own), gateway).frame(mac, all)),
        3 => ("arp for a sibling", Arp::request((mac, own), sibling).frame(mac, all)),
        4 => ("arp for nobody", Arp::request((mac, own), nobody).frame(mac, all)),
        5 => ("arp announcement", Arp::request((mac, own), own).frame(mac, all)),
        6 => ("arp probe", Arp::request((mac, Ipv4Addr::UNSPECIFIED), own).frame(mac, all)),
        7 => ("forged arp", Arp::reply((mac, gateway), (sender.sibling.mac, sibling)).frame(mac, sender.sibling.mac)),
        _ => ("forged arp", Arp::request((mac, sibling), gateway).frame(mac, all)),
    };
    frame.extend(blank_tag());
    (what, frame)
}

fn neighbour(sender: &Sender<'_>, pick: usize) -> (&'static str, Vec<u8>) {
    let (own, sibling, gateway) =
        (v6(sender.own.addresses[1]), v6(sender.sibling.addresses[1]), v6(sender.network.gateways[1]));
    let (me, you) = ((sender.own.mac, own), (sender.sibling.mac, sibling));
    let advertise = |target, mac| NeighbourMessage::Advertisement { target, mac };
    let all = (Mac::multicast_of(address("ff02::1")), v6(address("ff02::1")));
    match pick % 7 {
        0 | 1 => ("solicitation of the gateway", NeighbourMessage::solicit(me, gateway)),
        2 => ("solicitation of a sibling", NeighbourMessage::solicit(me, sibling)),
        3 => ("announcement", advertise(own, me.0).frame(me, all)),
        4 => ("forged advertisement", advertise(gateway, me.0).frame(me, you)),
        5 => ("router advertisement", NeighbourMessage::RouterAdvertisement { mac: me.0 }.frame(me, all)),
        _ => ("redirect", NeighbourMessage::Redirect { target: own, destination: sibling }.frame(me, you)),
    }
}

fn group(sender: &Sender<'_>, family: usize, pick: usize) -> (&'static str, Vec<u8>) {
    let groups: [&[&str]; 2] =
        [&["224.0.0.251", "239.1.2.3", "255.255.255.255"], &["ff02::fb", "ff05::1:3", "ff02::1"]];
    let group = address(groups[family][pick % 3]);
    let own = sender.own.addresses[family];
    let mac = if group == address("255.255.255.255") { Mac::BROADCAST } else { Mac::multicast_of(group) };
    let udp =
        |mac: Mac, target: IpAddr| Ethernet::new(sender.own.mac, mac).ip(own, target).udp(5353, 5353, &blank_tag());
    match pick / 3 % 6 {
        0 => ("unicast address in a group frame", udp(mac, sender.sibling.addresses[family])),
        1 => ("unicast address in a group frame", udp(Mac::BROADCAST, sender.network.gateways[family])),
        2 => ("group address in a unicast frame", udp(sender.sibling.mac, group)),
        3 if family == 0 => {
            let broadcast = Ipv4Addr::from(u32::from(v4(sender.network.gateways[0])) | 0xff);
            ("subnet broadcast", udp(Mac::BROADCAST, broadcast.into()))
        }
        _ => ("group", udp(mac, group)),
    }
}

fn other_ethertype(sender: &Sender<'_>, pick: usize) -> (&'static str, Vec<u8>) {
    let to = |mac: Mac| Ethernet::new(sender.own.mac, mac);
    let tag = blank_tag();
    match pick % 6 {
        0 | 1 => ("ethertype to a sibling", to(sender.sibling.mac).payload(ethertype::EXPERIMENT, &tag)),
        2 => ("ethertype to all", to(Mac::BROADCAST).payload(ethertype::EXPERIMENT, &tag)),
        3 => ("ethertype to nobody", to(Mac([2, 9, 9, 9, 9, 9])).payload(ethertype::EXPERIMENT, &tag)),
        4 => ("spanning tree", to(Mac([1, 0x80, 0xc2, 0, 0, 0])).llc(&tag)),
        _ => ("LLDP", to(Mac([1, 0x80, 0xc2, 0, 0, 0x0e])).payload(ethertype::LLDP, &tag)),
    }
}

fn tagged(sender: &Sender<'_>, pick: usize) -> (&'static str, Vec<u8>) {
    let (own, sibling) = (sender.own.addresses[0], sender.sibling.addresses[0]);
    let ethernet = Ethernet::new(sender.own.mac, sender.sibling.mac);
    let vlan = u16::try_from(pick % 3).expect("small");
    let ethernet = match pick / 3 % 2 {
        0 => ethernet.tag(ethertype::VLAN, vlan),
        _ => ethernet.tag(ethertype::QINQ, 5).tag(ethertype::VLAN, vlan),
    };
    ("VLAN tag", ethernet.ip(own, sibling).udp(1, 2, &blank_tag()))
}

fn forged(sender: &Sender<'_>, family: usize, pick: usize) -> (&'static str, Vec<u8>) {
    let (own, sibling, gateway) =
        (sender.own.addresses[family], sender.sibling.addresses[family], sender.network.gateways[family]);
    let router = sender.network.gateway_mac;
    let sources = [
        [sibling, gateway, address(Lan::HOST[0]), address("10.99.0.10"), address("224.0.0.1"), address("127.0.0.1")],
        [sibling, gateway, address(Lan::HOST[1]), address("fd99::10"), address("ff02::1"), address("::1")],
    ];
    let source = sources[family][pick % 6];
    let outside = address(Lan::INTERNET[family]);
    let udp = |mac: Mac, to: Mac, source: IpAddr, target: IpAddr, ports: (u16, u16)| {
        Ethernet::new(mac, to).ip(source, target).udp(ports.0, ports.1, &blank_tag())
    };
    let mac = sender.own.mac;
    match pick / 6 % 6 {
        0 => ("forged source", udp(mac, sender.sibling.mac, source, sibling_or(own, source, sibling), (1, 2))),
        1 => ("forged source to the outside", udp(mac, router, source, outside, (1, 80))),
        2 => ("forged MAC", udp(sender.sibling.mac, router, own, outside, (1, 80))),
        3 => ("LAND", udp(mac, sender.sibling.mac, own, own, (80, 80))),
        4 if family == 0 => ("DHCP offer", udp(mac, sender.sibling.mac, own, sibling, (67, 68))),
        4 => ("DHCP offer", udp(mac, sender.sibling.mac, own, sibling, (547, 546))),
        _ => ("loopback destination", udp(mac, router, own, address(["127.0.0.1", "::1"][family]), (1, 8086))),
    }
}

/// A destination that is not the forged source.
fn sibling_or(own: IpAddr, source: IpAddr, sibling: IpAddr) -> IpAddr {
    if source == sibling { own } else { sibling }
}

/// Other IP protocols: GRE, ESP, SCTP, UDP-Lite, and one for experiments.
fn protocol(sender: &Sender<'_>, family: usize, pick: usize) -> (&'static str, Vec<u8>) {
    let number = [47, 50, 132, 136, 253][pick % 5];
    let (target, mac) = match pick / 5 % 3 {
        0 => (sender.sibling.addresses[family], sender.sibling.mac),
        1 => (address(Lan::INTERNET[family]), sender.network.gateway_mac),
        _ => (sender.network.gateways[family], sender.network.gateway_mac),
    };
    // Ports, as most of them have; SCTP's INIT has a verification tag of 0 (RFC 9260 section 3.3.2).
    let source = (pick >> 16) as u8;
    let ports = [0x20 | source >> 4, source, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0];
    let init = [1, 0, 0, 32, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let body = [&ports[..], &init, &blank_tag()].concat();
    (
        "other protocol",
        Ethernet::new(sender.own.mac, mac).ip(sender.own.addresses[family], target).protocol(number, &body),
    )
}

/// ICMP that is no echo request: other queries, answers to nothing, errors about nothing.
fn icmp(sender: &Sender<'_>, family: usize, pick: usize) -> (&'static str, Vec<u8>) {
    let kinds = [[0, 13, 17, 3, 11, 42], [129, 139, 200, 1, 3, 144]][family];
    let kind = kinds[pick % 6];
    let (target, mac) = match pick / 6 % 3 {
        0 => (sender.sibling.addresses[family], sender.sibling.mac),
        1 => (address(Lan::INTERNET[family]), sender.network.gateway_mac),
        _ => (sender.network.gateways[family], sender.network.gateway_mac),
    };
    let body = [&[0, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &blank_tag()].concat();
    ("other ICMP", Ethernet::new(sender.own.mac, mac).ip(sender.own.addresses[family], target).icmp(kind, 0, &body))
}

/// From the LAN: neighbours, groups, other protocols, and frames for somebody else.
fn from_outside([host, lan]: [Mac; 2], family: usize, pick: usize) -> (usize, &'static str, Vec<Vec<u8>>) {
    let (own, target) = (address(Lan::MACHINE[family]), address(Lan::HOST[family]));
    let ip = |mac: Mac, target: IpAddr| Ethernet::new(lan, mac).ip(own, target);
    let tag = blank_tag();
    let (what, mut frame) = match pick % 6 {
        0 => {
            let mut frame =
                Arp::request((lan, v4(address(Lan::MACHINE[0]))), v4(address(Lan::HOST[0]))).frame(lan, Mac::BROADCAST);
            frame.extend(tag);
            ("arp for the host", frame)
        }
        1 => (
            "broadcast on the LAN",
            ip(Mac::BROADCAST, address(["255.255.255.255", "ff02::1"][family])).udp(9, 8080, &tag),
        ),
        2 => ("published port in a group frame", ip(Mac::BROADCAST, target).udp(9, 8080, &tag)),
        3 => ("frame for another machine", ip(Mac([2, 7, 7, 7, 7, 7]), target).udp(9, 8080, &tag)),
        4 => ("other protocol from outside", ip(host, target).protocol(47, &[&[0; 4], &tag[..]].concat())),
        _ => {
            let kind = if family == 0 { 0 } else { 129 };
            ("other ICMP from outside", ip(host, target).icmp(kind, 0, &[&[0, 7, 0, 1], &tag[..]].concat()))
        }
    };
    if (pick / 6).is_multiple_of(8) {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    }
    (LAN, what, vec![frame])
}

/// From the LAN, to a published port or an endpoint, with a source that cannot come from there (S2), or to loopback (P6).
fn martian([host, lan]: [Mac; 2], family: usize, pick: usize) -> Vec<u8> {
    let sources = [
        ["10.20.1.10", "10.20.1.1", Lan::HOST[0], "127.0.0.1", "224.0.0.1", "10.20.2.77", Lan::MACHINE[0]],
        ["fd20:1::10", "fd20:1::1", Lan::HOST[1], "::1", "ff02::1", "fd20:2::77", Lan::MACHINE[1]],
    ];
    let targets = [["10.20.1.11", Lan::HOST[0]], ["fd20:1::11", Lan::HOST[1]]];
    let (source, mut target) = (sources[family][pick % 7], targets[family][usize::from(!(pick / 7).is_multiple_of(4))]);
    if source == Lan::MACHINE[family] {
        target = ["127.0.0.1", "::1"][family];
    }
    let port = [8080, 8086, 9999][pick / 28 % 3];
    Ethernet::new(lan, host).ip(address(source), address(target)).udp(1000, port, &blank_tag())
}
