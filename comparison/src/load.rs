//! What is measured of a subject.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use lab::load::{self, Direction, Manner, Path, Placement};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// One-byte requests answered a second.
    RequestResponse,
    /// Connections made, used and closed a second.
    ConnectRate,
    /// Gbit/s of streams by cubic.
    Stream(Direction),
    /// Datagrams of 18 bytes a second.
    Datagrams(Direction),
}

/// A measure, and how it is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Load {
    /// What is counted.
    pub measure: Measure,
    /// On which cores the two ends run.
    pub placement: Placement,
    /// How many flows there are at the same time.
    pub flows: u16,
}

/// What a run comes to.
#[derive(Clone, Debug)]
pub struct Reading {
    /// In the unit of the measure.
    pub rate: f64,
    /// How long requests waited, in nanoseconds; of request/response.
    pub times: Option<Histogram<u64>>,
}

impl Load {
    /// Request/response on one core: work per packet, and not how cores wake each other.
    pub const REQUESTS: Self = Self::single(Measure::RequestResponse, Placement::Same);
    /// Connections on one core.
    pub const CONNECTIONS: Self = Self::single(Measure::ConnectRate, Placement::Same);
    /// A stream between two cores.
    pub const STREAM: Self = Self::single(Measure::Stream(Direction::ToServer), Placement::Across);
    /// Datagrams on one core, sent in bursts and taken out at once.
    pub const DATAGRAMS: Self = Self::single(Measure::Datagrams(Direction::ToServer), Placement::Same);

    /// One flow of it.
    #[must_use]
    pub const fn single(measure: Measure, placement: Placement) -> Self {
        Self { measure, placement, flows: 1 }
    }

    /// The same on these cores.
    #[must_use]
    pub const fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// The same with so many flows.
    #[must_use]
    pub const fn with_flows(self, flows: u16) -> Self {
        Self { flows, ..self }
    }

    /// The same the other way, where only one end sends.
    #[must_use]
    pub const fn back(self) -> Self {
        let measure = match self.measure {
            Measure::Stream(_) => Measure::Stream(Direction::ToClient),
            Measure::Datagrams(_) => Measure::Datagrams(Direction::ToClient),
            both => both,
        };
        Self { measure, ..self }
    }

    /// Takes it once.
    pub fn take(self, path: Path<'_>, duration: Duration) -> Result<Reading> {
        let manner = Manner { placement: self.placement, flows: self.flows, duration };
        let rate = match self.measure {
            Measure::RequestResponse => {
                let latency = load::request_response(path, manner)?;
                return Ok(Reading { rate: latency.rate, times: Some(latency.times) });
            }
            Measure::ConnectRate => load::connect_rate(path, self.placement, duration)?,
            Measure::Stream(direction) => load::stream_rate(path, manner, direction)?,
            Measure::Datagrams(direction) => load::datagram_rate(path, manner, direction)?,
        };
        Ok(Reading { rate, times: None })
    }
}

impl Measure {
    /// The unit, for people.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::RequestResponse => "requests/s",
            Self::ConnectRate => "connections/s",
            Self::Stream(_) => "Gbit/s",
            Self::Datagrams(_) => "packets/s",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestResponse => "request/response",
            Self::ConnectRate => "connect rate",
            Self::Stream(Direction::ToServer) => "stream",
            Self::Stream(Direction::ToClient) => "stream back",
            Self::Datagrams(Direction::ToServer) => "UDP packets",
            Self::Datagrams(Direction::ToClient) => "UDP packets back",
        })
    }
}

/// `request/response, same`
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.measure, placement_name(self.placement))?;
        if self.flows > 1 { write!(f, ", {} flows", self.flows) } else { Ok(()) }
    }
}

/// As the documents have it.
#[must_use]
pub const fn placement_name(placement: Placement) -> &'static str {
    match placement {
        Placement::Same => "same",
        Placement::Across => "x",
        Placement::Spin => "spin",
    }
}
