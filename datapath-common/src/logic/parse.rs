//! From bytes to what the path decides on.

use super::{
    extensions::{JUMBO, follow_extension_headers, is_jumbo, refuse_source_route},
    headers::{ETHERNET, Headers, ethertype},
};
use crate::{
    abi::{Address, DropReason, FlowKey},
    path::Readable,
};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// The hop-by-hop options header of IPv6.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// The routing header of IPv6.
    pub const ROUTING: u8 = 43;
    /// The fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// The destination options header of IPv6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// ICMP types (IANA): those of ICMPv6 are from 128 on for information.
pub mod icmp {
    /// ICMP echo request.
    pub const ECHO: u8 = 8;
    /// ICMP echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// ICMP destination unreachable, fragmentation needed included (RFC 792, RFC 1191).
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: fragmentation needed.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// ICMP redirect.
    pub const REDIRECT: u8 = 5;
    /// ICMP time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// ICMP parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// ICMPv6 destination unreachable (RFC 4443).
    pub const V6_UNREACHABLE: u8 = 1;
    /// ICMPv6 packet too big.
    pub const V6_TOO_BIG: u8 = 2;
    /// ICMPv6 time exceeded.
    pub const V6_TIME_EXCEEDED: u8 = 3;
    /// ICMPv6 parameter problem.
    pub const V6_PARAMETER_PROBLEM: u8 = 4;
    /// ICMPv6 echo request.
    pub const V6_ECHO: u8 = 128;
    /// ICMPv6 echo reply.
    pub const V6_ECHO_REPLY: u8 = 129;
    /// Multicast listener query, report and done (RFC 2710); the second report is 143.
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const MLD2_REPORT: u8 = 143;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// ICMPv6 redirect.
    pub const V6_REDIRECT: u8 = 137;
}

/// What follows the IP header, as far as tracking is concerned.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Transport {
    /// Nothing that can be told: another protocol, or headers this code does not follow.
    #[default]
    Other,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: its ports cannot change, for its checksum is none that can be mended (RFC 9260 section 6.8).
    Sctp,
    /// ICMP echo request: the identifier is the source port of the key.
    EchoRequest,
    /// ICMP echo reply: the identifier is the destination port of the key.
    EchoReply,
    /// Any other ICMP message.
    Icmp,
}

/// Whether and how a packet is a fragment.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Fragment {
    /// A whole packet.
    #[default]
    Whole,
    /// The first fragment: it has the ports.
    First,
    /// A later one: it has no ports.
    Later,
}

/// What the path knows of a packet.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Parsed {
    /// Addresses, ports and protocol; the scope is set by the path.
    pub key: FlowKey,
    /// Ethertype, host order.
    pub ethertype: u16,
    /// Where the transport header begins, counted from the Ethernet header.
    pub transport_offset: u16,
    /// TCP flags; of ICMP, the type.
    pub flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What follows the IP header.
    pub transport: Transport,
    /// Fragment or not.
    pub fragment: Fragment,
    /// Where the fragment header of IPv6 begins, counted from the Ethernet header.
    pub fragment_header: u16,
    /// Zero.
    pub padding: u16,
    /// The identification that a fragment leaves with, wire order.
    pub identification: u32,
}

impl Parsed {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        key: FlowKey {
            source: Address::NONE,
            destination: Address::NONE,
            source_port: 0,
            destination_port: 0,
            scope: 0,
            protocol: 0,
            padding: 0,
        },
        ethertype: 0,
        transport_offset: 0,
        flags: 0,
        ttl: 0,
        transport: Transport::Other,
        fragment: Fragment::Whole,
        fragment_header: 0,
        padding: 0,
        identification: 0,
    };
}

/// Where the transport header is without IPv4 options.
pub const TRANSPORT_V4: u16 = ETHERNET as u16 + 20;
/// Where the transport header is without IPv6 extension headers.
pub const TRANSPORT_V6: u16 = ETHERNET as u16 + 40;

/// Parses the IP and transport headers of a packet whose ethertype is IPv4 or IPv6.
///
/// # Errors
/// [`DropReason::Malformed`], [`DropReason::SourceRouted`] and [`DropReason::ExtensionHeaders`]. The addresses are in
/// `parsed` even then, unless the packet is too short to have any.
#[inline(never)]
pub fn parse<P: Readable>(packet: &P, headers: &Headers, parsed: &mut Parsed) -> Result<(), DropReason> {
    parsed.ethertype = headers.ethertype();
    if parsed.ethertype == ethertype::IPV4 {
        parse_v4(packet, headers, parsed)
    } else {
        parse_v6(packet, headers, parsed)
    }
}

#[inline(always)]
fn parse_v4<P: Readable>(packet: &P, headers: &Headers, parsed: &mut Parsed) -> Result<(), DropReason> {
    if headers.length < 34 {
        return Err(DropReason::Malformed);
    }
    parsed.key.source = headers.ipv4(26);
    parsed.key.destination = headers.ipv4(30);
    parsed.key.protocol = headers.bytes[23];
    parsed.ttl = headers.bytes[22];
    let [version_and_length] = headers.at(14);
    let header_length = (version_and_length & 0xf) as u16 * 4;
    let total_length = headers.number16(16) as u32;
    let room = headers.packet_length - ETHERNET;
    if version_and_length >> 4 != 4 || header_length < 20 {
        return Err(DropReason::Malformed);
    }
    if header_length > 20 {
        refuse_source_route(packet, header_length)?;
    }
    if total_length == 0 && room > u16::MAX as u32 {
        return parse_big(packet, headers, header_length as u32, parsed);
    }
    if total_length > room || total_length < header_length as u32 {
        return Err(DropReason::Malformed);
    }
    let fragment = headers.number16(20);
    if fragment & 0x1fff != 0 {
        parsed.fragment = Fragment::Later;
        return Ok(());
    }
    if fragment & 0x2000 != 0 {
        parsed.fragment = Fragment::First;
    }
    let payload = total_length - header_length as u32;
    parsed.transport_offset = ETHERNET as u16 + header_length;
    if header_length == 20 {
        transport_at::<34>(headers, payload, parsed)
    } else {
        transport_beyond(packet, payload, parsed)
    }
}

#[inline(always)]
fn parse_v6<P: Readable>(packet: &P, headers: &Headers, parsed: &mut Parsed) -> Result<(), DropReason> {
    if headers.length < 54 {
        return Err(DropReason::Malformed);
    }
    parsed.key.source = headers.ipv6(22);
    parsed.key.destination = headers.ipv6(38);
    parsed.key.protocol = headers.bytes[20];
    parsed.ttl = headers.bytes[21];
    let payload = headers.number16(18) as u32;
    let room = headers.packet_length - ETHERNET - 40;
    // An IPv4-mapped address on the wire would meet the tables as the IPv4 address (RFC 4942 section 2.2).
    let mapped = parsed.key.source.is_v4() || parsed.key.destination.is_v4();
    if headers.bytes[14] >> 4 != 6 || mapped || payload > room {
        return Err(DropReason::Malformed);
    }
    if payload == 0 && room > u16::MAX as u32 {
        return parse_big(packet, headers, 40, parsed);
    }
    parsed.transport_offset = TRANSPORT_V6;
    match parsed.key.protocol {
        protocol::TCP | protocol::UDP | protocol::ICMPV6 | protocol::SCTP => {
            transport_at::<54>(headers, payload, parsed)
        }
        _ => {
            follow_extension_headers(packet, parsed)?;
            if parsed.fragment == Fragment::Later {
                return Ok(());
            }
            let skipped = (parsed.transport_offset - TRANSPORT_V6) as u32;
            if skipped > payload {
                return Err(DropReason::Malformed);
            }
            transport_beyond(packet, payload - skipped, parsed)
        }
    }
}

/// Parses a packet that is longer than its length field can say, which is 0: Linux carries TCP so between devices of one host,
/// until it cuts it into segments (BIG TCP: b1a78b9b9886 for IPv4, 80e425b61342 for IPv6). None is without a segment size, none on a
/// wire, and none a fragment.
#[inline(never)]
fn parse_big<P: Readable>(
    packet: &P,
    headers: &Headers,
    header_length: u32,
    parsed: &mut Parsed,
) -> Result<(), DropReason> {
    let v4 = parsed.ethertype == ethertype::IPV4;
    let behind = headers.packet_length - ETHERNET - header_length;
    let jumbo = !v4 && is_jumbo(packet, headers, behind);
    let whole = !v4 || headers.number16(20) & 0x3fff == 0;
    if packet.segment_size() == 0 || !whole || !jumbo && parsed.key.protocol != protocol::TCP {
        return Err(DropReason::Malformed);
    }
    let skipped = if jumbo { JUMBO } else { 0 };
    parsed.key.protocol = protocol::TCP;
    parsed.transport_offset = (ETHERNET + header_length + skipped) as u16;
    transport_beyond(packet, behind - skipped, parsed)
}

/// Reads the transport header at its usual place.
#[inline(always)]
fn transport_at<const AT: usize>(headers: &Headers, payload: u32, parsed: &mut Parsed) -> Result<(), DropReason> {
    let available = (headers.length as usize).saturating_sub(AT) as u32;
    let first: [u8; 8] = headers.at(AT);
    let tcp = headers.at(AT + 12);
    transport(&first, tcp, if available < payload { available } else { payload }, payload, parsed)
}

/// Reads the transport header behind options or extension headers.
#[inline(always)]
fn transport_beyond<P: Readable>(packet: &P, payload: u32, parsed: &mut Parsed) -> Result<(), DropReason> {
    let at = parsed.transport_offset as u32;
    match parsed.key.protocol {
        protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6 | protocol::SCTP => {}
        _ => return Ok(()),
    }
    let first: [u8; 8] = packet.load(at).ok_or(DropReason::Malformed)?;
    let mut tcp = [0; 2];
    if parsed.key.protocol == protocol::TCP {
        let rest: [u8; 12] = packet.load(at + 8).ok_or(DropReason::Malformed)?;
        tcp = [rest[4], rest[5]];
    }
    transport(&first, tcp, payload, payload, parsed)
}

#[inline(always)]
pub(super) fn transport(
    first: &[u8; 8],
    [data_offset, tcp_flags]: [u8; 2],
    available: u32,
    payload: u32,
    parsed: &mut Parsed,
) -> Result<(), DropReason> {
    let v4 = parsed.ethertype == ethertype::IPV4;
    match parsed.key.protocol {
        protocol::TCP => {
            let header_length = (data_offset >> 4) as u32 * 4;
            // A first fragment may be cut within the options.
            let fits = header_length <= payload || parsed.fragment != Fragment::Whole;
            if available < 20 || header_length < 20 || !fits {
                return Err(DropReason::Malformed);
            }
            parsed.transport = Transport::Tcp;
            parsed.flags = tcp_flags;
        }
        protocol::UDP => {
            let length = u16::from_be_bytes([first[4], first[5]]) as u32;
            if available < 8 || length < 8 || length > payload && parsed.fragment != Fragment::First {
                return Err(DropReason::Malformed);
            }
            parsed.transport = Transport::Udp;
        }
        protocol::SCTP => {
            if available < 12 {
                return Err(DropReason::Malformed);
            }
            parsed.transport = Transport::Sctp;
        }
        protocol::ICMP if v4 => return icmp(first, available, icmp::ECHO, icmp::ECHO_REPLY, parsed),
        protocol::ICMPV6 if !v4 => return icmp(first, available, icmp::V6_ECHO, icmp::V6_ECHO_REPLY, parsed),
        _ => return Ok(()),
    }
    parsed.key.source_port = u16::from_ne_bytes([first[0], first[1]]);
    parsed.key.destination_port = u16::from_ne_bytes([first[2], first[3]]);
    Ok(())
}

#[inline(always)]
fn icmp(first: &[u8; 8], available: u32, echo: u8, echo_reply: u8, parsed: &mut Parsed) -> Result<(), DropReason> {
    if available < 8 {
        return Err(DropReason::Malformed);
    }
    let identifier = u16::from_ne_bytes([first[4], first[5]]);
    parsed.flags = first[0];
    parsed.transport = if first[0] == echo {
        parsed.key.source_port = identifier;
        Transport::EchoRequest
    } else if first[0] == echo_reply {
        parsed.key.destination_port = identifier;
        Transport::EchoReply
    } else {
        Transport::Icmp
    };
    Ok(())
}
