//! What clients and servers send, and that it arrives as what was asked or answered.

use datapath_common::{
    native::Frame,
    path::{self, Outcome, Route, Verdict},
};
use lab::frame::{TcpSegment, Transport, View};
use proptest::prelude::*;

use super::{
    World,
    conversation::{Conversation, Known},
};
use crate::{ROUTER_MAC, UPLINK, UPLINK_MAC, ethernet, external, inside, outside, rules};

impl World<'_> {
    /// A packet of the client, and where it goes.
    pub fn client_sends(
        &self,
        conversation: Conversation,
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
    ) -> Result<Outcome, TestCaseError> {
        let Conversation { tcp, v6, client, port } = conversation;
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, outside(v6, client), external(v6));
        let source = conversation.client_port();
        let bytes = if tcp {
            builder.tcp(TcpSegment { source, destination: port, sequence, acknowledgement, flags }, b"")
        } else {
            builder.udp(source, port, b"question")
        };
        let mut frame = self.frame(UPLINK, bytes);
        let outcome = rules::run(path::from_uplink, &mut frame, &self.tables)?;
        if let Ok(Verdict::ToEndpoint(_)) = outcome {
            let view = View::of(&frame.bytes, None).expect("a packet");
            prop_assert_eq!(view.source, Some(outside(v6, client)));
            prop_assert_eq!(ports(&view), (source, port + 100));
        }
        Ok(outcome)
    }

    /// A packet of the server, and where it goes.
    pub fn server_sends(
        &self,
        conversation: Conversation,
        known: &Known,
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
    ) -> Result<Outcome, TestCaseError> {
        let Conversation { tcp, v6, client, port } = conversation;
        let (own, gateway) = self.daemon.macs(&self.tables, known.endpoint);
        let builder = ethernet(own, gateway, inside(v6, known.endpoint), outside(v6, client));
        let (source, destination) = (port + 100, conversation.client_port());
        let bytes = if tcp {
            builder.tcp(TcpSegment { source, destination, sequence, acknowledgement, flags }, b"")
        } else {
            builder.udp(source, destination, b"answer")
        };
        let mut frame = self.frame(self.daemon.port(known.endpoint), bytes);
        let outcome = rules::run(path::from_container, &mut frame, &self.tables)?;
        if outcome.is_ok() {
            let view = View::of(&frame.bytes, None).expect("a packet");
            prop_assert_eq!((view.source, view.destination), (Some(external(v6)), Some(outside(v6, client))));
            prop_assert_eq!(ports(&view), (port, destination), "it comes from the port that was asked");
        }
        Ok(outcome)
    }

    fn frame(&self, ifindex: u32, bytes: Vec<u8>) -> Frame {
        let mut frame = Frame::new(ifindex, bytes);
        frame.route = Route::new(UPLINK, 0);
        frame.for_host = ifindex == UPLINK;
        frame
    }
}

/// Source and destination port.
fn ports(view: &View) -> (u16, u16) {
    match view.transport {
        Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination, .. } => {
            (source, destination)
        }
        other => panic!("{other:?} has no ports"),
    }
}
