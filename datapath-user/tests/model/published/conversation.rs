//! Conversations with published ports, and how far they have come.

use datapath_common::{
    abi::{FlowKey, Settings, scope},
    logic::parse::protocol,
};
use lab::frame::tcp_flags;
use proptest::prelude::*;

use crate::{external, outside};

/// The first of the published ports.
pub const FIRST_PORT: u16 = 8_000;

pub const SYN: u8 = tcp_flags::SYN;
pub const ACK: u8 = tcp_flags::ACK;
pub const FIN: u8 = tcp_flags::FIN;
pub const RST: u8 = tcp_flags::RST;

/// A client outside and the port of the host that it speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conversation {
    pub tcp: bool,
    pub v6: bool,
    pub client: u8,
    pub port: u16,
}

impl Conversation {
    /// The port that the client sends from.
    pub fn client_port(&self) -> u16 {
        30_000 + u16::from(self.client)
    }

    /// The key of the client's packets.
    pub fn key(&self) -> FlowKey {
        FlowKey {
            source: outside(self.v6, self.client).into(),
            destination: external(self.v6).into(),
            source_port: self.client_port().to_be(),
            destination_port: self.port.to_be(),
            scope: scope::UPLINK,
            protocol: if self.tcp { protocol::TCP } else { protocol::UDP },
            padding: 0,
        }
    }
}

/// Any of 16.
pub fn conversation() -> impl Strategy<Value = Conversation> {
    (any::<bool>(), any::<bool>(), 1..=2u8, FIRST_PORT..FIRST_PORT + 2)
        .prop_map(|(tcp, v6, client, port)| Conversation { tcp, v6, client, port })
}

/// What the model knows of a conversation: whom it has met, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub endpoint: u8,
    /// Which owner of the endpoint's name, and which leading of the port, it is bound to.
    pub owner: u32,
    pub publication: u32,
    /// The numbers that client and server send next.
    pub next: [u32; 2],
    pub answered: bool,
    pub established: bool,
    pub finished: [bool; 2],
    pub reset: bool,
    /// It lives at least until then, and at most [`DOUBT`] longer.
    pub until: u64,
}

impl Known {
    /// Whether it is over for both ends.
    pub const fn over(&self) -> bool {
        self.reset || self.closed()
    }

    /// Whether both ends have closed it: it keeps its ports, but neither its slot nor its place in the quota.
    pub const fn closed(&self) -> bool {
        self.finished[0] && self.finished[1]
    }

    /// How long it may be idle.
    pub const fn idle(&self, tcp: bool) -> u64 {
        let settings = Settings::DEFAULT;
        match tcp {
            false => settings.udp_timeout,
            true if self.established && !self.finished[0] && !self.finished[1] && !self.reset => {
                settings.tcp_established_timeout
            }
            true => settings.tcp_transitory_timeout,
        }
    }
}
