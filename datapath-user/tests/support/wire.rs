//! The way between a container and the internet, where no kernel answers: every TCP segment is written by hand.

use std::cell::Cell;
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::frame::{Ethernet, TcpSegment, Transport};
use lab::{Capture, Container, Family, Lan, Mac, Namespace};

use super::{Scene, endpoint, of};

/// The port of the internet's end.
pub const SERVER: u16 = 80;

/// Who sends a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The container.
    Inside,
    /// The internet.
    Outside,
}

/// A segment of the connection between a port of the container and [`SERVER`].
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its sender.
    pub end: End,
    /// The container's port.
    pub port: u16,
    /// [`lab::frame::tcp_flags`].
    pub flags: u8,
    /// Its number.
    pub sequence: u32,
    /// The number its sender expects.
    pub acknowledgement: u32,
    /// Bytes of data.
    pub data: u16,
}

/// A segment under way, which is known by the identification of its packet.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    family: Family,
    identification: u16,
    segment: Segment,
}

/// The way, with both ends silent.
pub struct Wire {
    pub scene: Scene,
    pub at_inside: Capture,
    pub at_outside: Capture,
    inside: Container,
    /// MAC addresses of sender and next hop.
    from_inside: (Mac, Mac),
    from_outside: (Mac, Mac),
    sent: Cell<u16>,
}

impl Wire {
    /// Joins a container to network 1 of the scene.
    pub fn start(scene: Scene) -> Self {
        scene.network(1, "");
        let inside = scene.join("a", 1, 10);
        let Lan { internet, machine } = scene.lan();
        for silent in [&inside.namespace, internet] {
            let rules = "add table inet quiet; add chain inet quiet in { type filter hook input priority 0; }; \
                         add rule inet quiet in meta l4proto tcp drop";
            silent.run("nft", [rules]).expect("nft");
        }
        let mac = |namespace: &Namespace, device: &str| namespace.mac(device).expect("a MAC");
        Self {
            at_inside: Capture::start(&inside.namespace, "eth0").expect("captures"),
            at_outside: Capture::start(internet, "eth0").expect("captures"),
            from_inside: (mac(&inside.namespace, "eth0"), mac(&scene.namespace, &scene.gateway_device(1))),
            from_outside: (mac(internet, "eth0"), mac(machine, "net0")),
            inside,
            scene,
            sent: Cell::new(0),
        }
    }

    /// Sends a segment.
    pub fn send(&self, family: Family, segment: Segment) -> Sent {
        self.sent.set(self.sent.get() + 1);
        let identification = self.sent.get();
        let (internet, host) = (family.of(Lan::INTERNET), family.of(Lan::HOST));
        let (namespace, macs, [source, destination]) = match segment.end {
            End::Inside => (&self.inside.namespace, self.from_inside, [of(family, endpoint(1, 10)), internet]),
            End::Outside => (&self.scene.lan().internet, self.from_outside, [internet, host]),
        };
        let Segment { flags, sequence, acknowledgement, data, .. } = segment;
        let (source_port, destination_port) = ports(&segment);
        let header =
            TcpSegment { source: source_port, destination: destination_port, sequence, acknowledgement, flags };
        let frame = Ethernet::new(macs.0, macs.1)
            .ip(source, destination)
            .identification(identification)
            .tcp(header, &vec![b'd'; data.into()]);
        send_frames(namespace, "eth0", &[frame]).expect("sends");
        Sent { family, identification, segment }
    }

    /// Whether a segment comes to the other end within this time.
    pub fn arrives(&self, sent: Sent, within: Duration) -> bool {
        let capture = if sent.segment.end == End::Inside { &self.at_outside } else { &self.at_inside };
        capture.wait_for(within, |frame| sent.is(frame)).is_some()
    }
}

impl Sent {
    /// Whether a captured frame is this segment.
    fn is(self, frame: &Captured) -> bool {
        let Transport::Tcp { source, destination, flags } = frame.view.transport else { return false };
        let (identification, sequence) = if self.family == Family::V4 { (18, 38) } else { (16, 58) };
        let right_family = frame.view.source.is_some_and(|source| source.is_ipv4() == (self.family == Family::V4));
        !frame.outgoing
            && right_family
            && (source, destination) == ports(&self.segment)
            && flags == self.segment.flags
            && frame.bytes.get(identification..identification + 2) == Some(&self.identification.to_be_bytes())
            && frame.bytes.get(sequence..sequence + 4) == Some(&self.segment.sequence.to_be_bytes())
    }
}

fn ports(segment: &Segment) -> (u16, u16) {
    match segment.end {
        End::Inside => (segment.port, SERVER),
        End::Outside => (SERVER, segment.port),
    }
}
