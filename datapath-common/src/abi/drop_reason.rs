//! Why packets are dropped: the one list behind the counters, the events, `monitor` and `docs/drops.md`.

macro_rules! drop_reasons {
    ($($variant:ident = $number:literal, $name:literal, $meaning:literal, $remedy:literal;)+) => {
        /// Why a packet was dropped. The error of every stage.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum DropReason {
            $(#[doc = $meaning] $variant = $number,)+
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in counters, events and documents.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }

            /// The reason of this number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

drop_reasons! {
    UnknownPort = 1, "unknown_port",
        "It came from a port that belongs to no endpoint: one being attached or detached.",
        "Nothing, if it stops within a second of an attach or detach. Otherwise `datapath doctor`.";
    Malformed = 2, "malformed",
        "Its headers are cut short, or a length field does not fit the packet.",
        "Look at the sender; `datapath monitor --drops` names it.";
    VlanTagged = 3, "vlan_tagged",
        "A container sent a VLAN-tagged frame, on a network that learns one for the gateway.",
        "Configure the VLAN on the host and attach the container to a network there; between containers, create the network with `--learning`.";
    ForgedMac = 4, "forged_mac",
        "The source MAC address is not the one of the endpoint that sent it; on a network that learns, it was given to another one.",
        "Do not change the MAC inside the container; give it with `attach --mac`. For bridges and virtual machines in it, create the network with `--learning`.";
    ForgedAddress = 5, "forged_address",
        "The source IP address is not one of the endpoint that sent it; on a network that learns, it was given to another one, or a station would leave the network.",
        "Do not add addresses inside the container; give them with `attach --ip`. A bridge in it needs the MAC address of the interface too.";
    ForgedNeighbour = 6, "forged_neighbour",
        "An ARP packet or neighbour advertisement claims an address that is not the sender's.",
        "Look at what runs in that container: this is how traffic is hijacked.";
    ReservedFrame = 7, "reserved_frame",
        "A link-local control frame (spanning tree, LLDP, pause) from a container.",
        "Nothing: switches, not containers, send these.";
    RogueRouter = 8, "rogue_router",
        "A router advertisement or redirect from a container.",
        "Look at what runs in that container; only the gateway is a router.";
    RogueDhcp = 9, "rogue_dhcp",
        "A DHCP server's answer from a container.",
        "Run DHCP servers outside; endpoints get their addresses from the datapath.";
    Land = 10, "land",
        "Source and destination are the same address.",
        "Look at the sender: no correct host sends this.";
    UnknownDestination = 11, "unknown_destination",
        "No endpoint of the network has this destination MAC address.",
        "Nothing, if the destination was just detached.";
    WrongDestination = 12, "wrong_destination",
        "The destination's MAC and IP address belong to different owners, or the IP address to nobody.",
        "Nothing, if the destination was just detached; otherwise clear the sender's neighbour table.";
    UnknownNeighbour = 13, "unknown_neighbour",
        "An ARP request or neighbour solicitation for an address that nobody has.",
        "Check the address; `datapath endpoint ls` shows those in use.";
    IccDisabled = 14, "icc_disabled",
        "Endpoints of this network may not talk to each other (`--no-icc`).",
        "Publish the port and use a host address, or create the network without `--no-icc`.";
    NetworkIsolation = 15, "network_isolation",
        "It goes to an address of another network.",
        "Attach the container to that network too, or publish the port and use a host address.";
    InternalNetwork = 16, "internal_network",
        "It would leave or enter an internal network.",
        "Attach the container to a second, not internal, network.";
    FamilyDisabled = 17, "family_disabled",
        "The network or endpoint has no address of this IP version.",
        "Create the network with a subnet of that version (`--ipv6`).";
    FloodLimit = 18, "flood_limit",
        "The endpoint sends more broadcast and multicast packets than its rate allows.",
        "Find out what floods; raise `flood_rate` in the configuration if it is meant to.";
    LoopbackAddress = 19, "loopback_address",
        "A loopback address as source or destination of a packet that is not on the loopback device.",
        "Look at the sender: these never leave a host.";
    DirectRouting = 20, "direct_routing",
        "It came from outside, addressed to a container directly.",
        "Use a published port and a host address, or create the network with `--gateway-mode routed`.";
    SpoofedSource = 21, "spoofed_source",
        "It came from outside with an address of this host or of one of its networks as source.",
        "Look for a routing loop or a forged sender on the uplink's network.";
    Unjudged = 22, "unjudged",
        "It reached an endpoint's port, or the host by an adopted bridge, by a way on which no program of ours judged it.",
        "Nothing, if it stops once the port is attached. Otherwise find out who sends there; the host's way to containers is the gateway device.";
    AddressOnUplink = 23, "address_on_uplink",
        "It would leave by an uplink with an address of one of our networks as source.",
        "Bind host programs that talk to the outside to an address of the uplink.";
    NoRoute = 24, "no_route",
        "The host has no route to the destination.",
        "Add a route on the host (`ip route`).";
    NotAnUplink = 25, "not_an_uplink",
        "The host's route leads to an interface that is not an uplink of the datapath.",
        "Add it with `--uplink`, or correct the route.";
    NoUplinkAddress = 26, "no_uplink_address",
        "The uplink has no address of this IP version to masquerade with.",
        "Give the uplink an address, or create the network with `--no-masquerade`.";
    PortsExhausted = 27, "ports_exhausted",
        "No free source port was found for the masqueraded flow.",
        "Spread connections over more targets, or add a host address.";
    FlowTableFull = 28, "flow_table_full",
        "There is no room for a new flow.",
        "Raise `flow_capacity` in the configuration; `datapath flow ls` shows who has them.";
    EndpointQuota = 29, "endpoint_quota",
        "The endpoint has as many flows as one endpoint may have.",
        "Raise `flow_quota` in the configuration, or find out what opens so many.";
    OutOfState = 30, "out_of_state",
        "A TCP segment that belongs to no connection and does not begin one.",
        "Nothing: the connection has ended or was idle for too long.";
    Fragment = 31, "fragment",
        "A fragment whose first one was dropped or has not come, with no room to hold it until then.",
        "Look for what drops first fragments, or send smaller datagrams.";
    IcmpUnmatched = 32, "icmp_unmatched",
        "An ICMP error about no packet of a flow, an answer to no query, or another message that cannot be translated.",
        "Nothing: the flow has ended, or somebody makes it up.";
    Protocol = 33, "protocol",
        "An IP protocol that cannot be translated.",
        "Use TCP, UDP or ICMP echo, or a network without masquerade.";
    TtlExceeded = 34, "ttl_exceeded",
        "Its TTL or hop limit has run out, and its sender could not be told: it is an error itself, or there were too many.",
        "Look for a routing loop; `icmp_errors_limited` of `status --json` counts those that were too many.";
    TooBig = 35, "too_big",
        "It is larger than the MTU of where it goes, and its sender could not be told: it is a later fragment or an error itself, or there were too many.",
        "Give all networks on the way the same MTU; `icmp_errors_limited` of `status --json` counts those that were too many.";
    SourceRouted = 36, "source_routed",
        "It carries a source route (IPv4 LSRR or SSRR, IPv6 routing header type 0).",
        "Look at the sender: source routing is refused (RFC 5095, RFC 7126).";
    ExtensionHeaders = 37, "extension_headers",
        "It has more IPv6 extension headers than are followed.",
        "Look at the sender.";
    EndpointGone = 38, "endpoint_gone",
        "The endpoint of this flow or publication has been detached.",
        "Nothing, if the container was stopped.";
    Forwarded = 39, "forwarded",
        "The host would carry it to a container for somebody else, past the rules.",
        "Make the interface it came from an uplink, or remove the route; let a proxy send from an address of the host.";
    WriteFailed = 40, "write_failed",
        "The kernel refused to change the packet.",
        "Report it, with `datapath doctor` and the kernel's version.";
    Contended = 41, "contended",
        "Two processors began the same flow at once, and this packet lost.",
        "Nothing: the sender repeats it.";
    FragmentOverlap = 42, "fragment_overlap",
        "A fragment that repeats or overlaps another one of its datagram, or one behind its end.",
        "Look at the sender: fragments are made to overlap in order to hide something (RFC 5722).";
    TcpInvalid = 43, "tcp_invalid",
        "A TCP segment that no receiver would take: a RST outside the window of its connection, or flags that contradict each other.",
        "Nothing: the connection goes on. If there are many, somebody tries to end connections of others.";
    Unsolicited = 44, "unsolicited",
        "It is for the external port of an endpoint's UDP mapping, and that endpoint has sent nothing to where it comes from.",
        "Publish the port, if everybody may use it; otherwise let that endpoint send first.";
    Denied = 45, "denied",
        "It came by an uplink from a source that you have denied.",
        "Nothing, if you meant to; otherwise `datapath guard undeny`. `datapath guard ls` shows what is denied.";
    PacketLimit = 46, "packet_limit",
        "Its source sends more packets by the uplinks than one source may.",
        "Nothing, if it is a flood; otherwise raise the limit (`datapath guard limit packets`).";
    SynLimit = 47, "syn_limit",
        "Its source opens more connections to published ports than one source may.",
        "Nothing, if it is a flood; otherwise raise the limit (`datapath guard limit syn`).";
    PortSynLimit = 48, "port_syn_limit",
        "All sources together open more connections to this published port than it may take.",
        "Limit or deny those that open most (`datapath guard limit syn`, `datapath guard deny`), or raise the limit (`datapath guard limit port-syn`).";
}

impl DropReason {
    /// Entries of the per-reason counters: one more than the highest number.
    pub const COUNT: u32 = 49;
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position + 1);
            assert_eq!(DropReason::from_number(*reason as u32), Some(*reason));
            let same = DropReason::ALL.iter().filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{reason:?}");
        }
        assert_eq!(DropReason::COUNT as usize, DropReason::ALL.len() + 1);
    }
}
