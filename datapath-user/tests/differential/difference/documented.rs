//! Differences that are meant.

use std::net::IpAddr;

use super::{Difference, is_published};
use crate::canonical::RIGHT;
use crate::grammar::{Kind, Order, Traits};
use crate::locate::{ICMP, ICMPV6, Located, TCP, UDP, has_right_header, lies, word};
use crate::twins::{HOST, LAN, MEMBERS, plan};

/// The one that leaves a flow behind whose state may differ.
pub const TCP_STATE: &str = "tcp state";

pub const DIFFERENCES: &[Difference] = &[
    // B3: our programs answer for siblings and the gateway, where Linux floods the question.
    Difference {
        name: "neighbours",
        holds: |case| {
            let answered = !case.ours_less && case.port == case.from && case.traits.what.ends_with(" a sibling");
            case.traits.asks_neighbour()
                && (answered || case.ours_less && case.within_network() && case.port != case.from)
        },
    },
    // Only TCP, UDP, echo and SCTP with its own port are translated; others may leave only untranslated (N).
    Difference {
        name: "protocols",
        holds: |case| {
            let foreign = case.original().is_some_and(|ip| !matches!(ip.protocol, TCP | UDP | ICMP | ICMPV6));
            let damaged = case.traits.damage.is_some();
            let leaves = (case.ours_less || damaged) && case.from < MEMBERS && case.port == LAN;
            // What others of that protocol made of the same addresses in the oracle.
            let comes =
                case.from == LAN && (case.ours_less && case.port < MEMBERS || !case.ours_less && case.port >= LAN);
            foreign && (leaves || comes)
        },
    },
    // N4: of ICMP's queries, echo alone is translated (RFC 5508 REQ-1 asks for no more that anybody still uses).
    Difference {
        name: "icmp queries",
        holds: |case| {
            case.is("other ICMP")
                && case.ours_less
                && case.port == LAN
                && (case.is_icmp([13, 139]) || case.is_icmp([17, 139]))
        },
    },
    // N4: echo messages have code 0 (RFC 792, RFC 4443), and nobody looks at it; for netfilter another code is another flow.
    Difference {
        name: "echo code",
        holds: |case| {
            let message = case.original().and_then(|ip| case.sent.get(ip.transport..ip.transport + 2));
            case.is("echo") && message.is_some_and(|message| matches!(message[0], 0 | 8 | 128 | 129) && message[1] != 0)
        },
    },
    // N5: less of a packet than RFC 792 asks for does not name a flow. Netfilter reads the ports, and then drops it.
    Difference {
        name: "short quotes",
        holds: |case| {
            let short = case.traits.quotes && case.traits.quoted < 8;
            short && !case.ours_less && (case.port == HOST || case.within_network())
        },
    },
    // N5: checksums are mended and not verified, so that the receiver judges them.
    Difference {
        name: "icmp checksum",
        holds: |case| {
            let wrong = case.arrived.and_then(|ip| ip.checksum()).and_then(|at| word(case.frame, at)) != Some(RIGHT);
            case.traits.quotes && !case.ours_less && wrong
        },
    },
    // N7: the same for the header's own checksum.
    Difference {
        name: "header checksum",
        holds: |case| {
            let is_v4 = case.original().is_some_and(|ip| ip.v4);
            let wrong = is_v4 && !(has_right_header(case.sent) && word(case.frame, 24) == Some(RIGHT));
            case.traits.damage.is_some() && !case.ours_less && wrong
        },
    },
    // N11: refused; a router need not follow them, and need not walk through any number of headers.
    Difference {
        name: "source routes and long chains",
        holds: |case| {
            let options = matches!(case.traits.decoration.options, Some(("loose source route", _)));
            let headers = matches!(case.traits.decoration.extensions, Some(("routing type 0" | "seven headers", _)));
            (options || headers) && (case.ours_less || case.is_left_to_the_host())
        },
    },
    // N11: dropped wherever our programs look, among siblings and to the host too, where Linux lets the receiver find out.
    Difference {
        name: "lying lengths",
        holds: |case| {
            let damaged = case.traits.damage.is_some() && lies(case.sent);
            damaged && (case.ours_less || case.is_left_to_the_host())
        },
    },
    // N11: what is within IPv4's options and IPv6's extension headers is for the destination to read; Linux drops on the way
    // what it finds wrong there, and says so.
    Difference {
        name: "broken options",
        holds: |case| {
            let damaged =
                matches!(case.traits.damage, Some("bit in IP" | "lying next header" | "lying IP header length"));
            let has_options = case.original().is_some_and(|ip| ip.has_options());
            damaged && has_options && (!case.ours_less || case.is_icmp([12, 4]))
        },
    },
    // N3: a segment that does not fit what was seen of its connection passes and changes nothing: its receiver judges it (RFC
    // 5961), and a connection that was reset is forgotten later (RFC 7857 section 2.2). For netfilter it is of no connection,
    // so that it is dropped, or the host answers it by a reset; but what it has tracked counts though it died on the way.
    Difference {
        name: TCP_STATE,
        holds: |case| {
            let Traits { disturbed, reset, damage, quotes, .. } = *case.traits;
            (case.is("tcp") || quotes) && (disturbed || reset || damage == Some("bit behind IP"))
        },
    },
    // N9: nobody is told about the hops of a packet that may not go on anyway. Linux counts them first.
    Difference {
        name: "refused before expired",
        holds: |case| {
            let told = case.dies() && case.ours_less && case.is_icmp([11, 3]) && case.port == case.from;
            let internal = case.from < MEMBERS && plan().networks[case.from / 2].internal;
            // Damage makes it of no connection, or for nobody; our host need not be a router.
            let astray = case.traits.stray || case.traits.damage.is_some();
            told && (internal || astray || case.traits.kind == Kind::Isolation)
        },
    },
    // N9: that it is over is told by the gateway. Netfilter translates what the host says, too: by the published address.
    Difference {
        name: "teller",
        holds: |case| {
            let told = case.dies() && case.is_icmp([11, 3]) && case.port == case.from;
            told && case.traits.kind == Kind::Hairpin
        },
    },
    // N9: what is told goes where the packet came from, and that is where the frame says.
    Difference {
        name: "told on the way back",
        holds: |case| {
            let told = case.dies() && case.is_icmp([11, 3]) && case.port == case.from;
            told && case.from == LAN && case.traits.damage == Some("bit in Ethernet")
        },
    },
    // N9: a published port within one network is reached by the gateway, as in any other network: that is a hop. Netfilter
    // translates on the bridge, which is none.
    Difference {
        name: "hop within a network",
        holds: |case| case.dies() && case.traits.kind == Kind::Hairpin && case.ours_less && case.within_network(),
    },
    // N6: fragments are not put together on the way, so that those of what never gets whole, or has two readings, pass until
    // that is seen; and what is wrong with the whole (UDP's length) is for the receiver to see.
    Difference {
        name: "pieces",
        holds: |case| {
            let decoration = &case.traits.decoration;
            let (damaged, is_piece) = (case.traits.damage.is_some(), case.arrived.is_some_and(|ip| ip.fragment));
            let passes = !case.ours_less && is_piece && (decoration.is_broken() || damaged);
            passes || decoration.fragments.is_some() && damaged
        },
    },
    // N6: what comes on loopback before its first fragment is let in behind our program there. Only a raw socket can send that.
    Difference {
        name: "order on loopback",
        holds: |case| {
            let disordered = matches!(case.traits.decoration.fragments, Some((_, Order::Reversed | Order::FirstLast)));
            disordered && case.from == HOST && case.port != LAN
        },
    },
    // P2: a unicast packet in a group frame was not sent to us alone (RFC 1122 section 3.3.6): it is the host's own, of
    // whatever flow or published port it is. Netfilter translates it, and then drops it for the same reason.
    Difference {
        name: "group frames",
        holds: |case| case.from == LAN && case.sent[0] & 1 != 0 && !case.ours_less && case.port >= LAN,
    },
    // The host's addresses are those that it has. A router answers to the subnet's anycast address too (RFC 4291 section
    // 2.6.1), which nobody uses.
    Difference {
        name: "anycast",
        holds: |case| {
            let host = |ip: Located| matches!(ip.destination, IpAddr::V6(v6) if v6.segments()[4..] == [0; 4]);
            case.original().is_some_and(host)
        },
    },
    // Of a flow, the addresses and ports say whose a packet is; the MAC address it was sent to does not matter any more.
    Difference {
        name: "flow by tuple",
        holds: |case| case.traits.damage == Some("bit in Ethernet") && case.from < MEMBERS,
    },
    // B5: what begins a flow goes where both its MAC and its IP address are; netfilter translates on the bridge by the latter.
    Difference {
        name: "published at a sibling's MAC",
        holds: |case| {
            let moved = matches!(case.traits.damage, Some("bit in IP" | "bit behind IP"));
            moved && case.ours_less && case.within_network()
        },
    },
    // N8: the external port of an endpoint's UDP mapping is reached from inside too, also by a packet whose port is damaged,
    // or one for a port that a mapping got by chance.
    Difference {
        name: "mapping met by chance",
        holds: |case| {
            let is_udp = case.original().is_some_and(|ip| ip.protocol == UDP);
            let damaged = case.traits.damage.is_some() && matches!(case.traits.kind, Kind::ToHost | Kind::Hairpin);
            is_udp && case.from < MEMBERS && (damaged || case.meets_mapping) && (case.ours_less || case.port < MEMBERS)
        },
    },
    // N1: a damaged packet may begin a flow from a port that is published or another flow's. It gets any.
    Difference {
        name: "port of a damaged packet",
        holds: |case| {
            let original = case.original();
            let source = original.and_then(|ip| word(case.sent, ip.transport));
            // UDP's mappings are independent of the target (N2), so that any other may have it; of echo it is the
            // identifier, and there are few targets.
            let shared = original.is_some_and(|ip| matches!(ip.protocol, UDP | ICMP | ICMPV6));
            let taken = shared || case.traits.renamed.is_some() || source.is_some_and(is_published);
            (case.port == LAN || case.traits.renamed.is_some()) && case.traits.damage.is_some() && taken
        },
    },
];
