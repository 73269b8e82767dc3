//! One attempt to reach somebody, and what came of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use lab::{Host, Namespace, Protocol, client::Client};

/// What should come of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// This server answers, and sees the client with this address.
    Served {
        /// The server's name.
        server: &'static str,
        /// The client's address as the server sees it.
        peer: &'static str,
    },
    /// The programs drop it, for this reason.
    Dropped(&'static str),
    /// Nobody listens there: the host itself answers so.
    Refused,
}

/// One attempt.
pub struct Attempt<'a> {
    /// Who tries.
    pub who: &'static str,
    /// By which way.
    pub way: &'static str,
    /// The address and port that are asked for.
    pub target: SocketAddr,
    /// How.
    pub protocol: Protocol,
    client: &'a Namespace,
    source: Option<IpAddr>,
    expected: Expected,
}

/// What came of an attempt.
#[derive(Debug)]
pub struct Outcome {
    /// For the table: who answered, and whom it saw; or why nobody did.
    pub told: String,
    /// Whether that is as it should be.
    pub right: bool,
}

/// Long enough for an answer on a busy machine.
const ANSWER: Duration = Duration::from_secs(3);
/// Long enough to be sure that there is none: TCP asks again after a second.
const SILENCE: Duration = Duration::from_millis(400);

impl<'a> Attempt<'a> {
    /// `who`, in `client`, tries to reach `target`.
    #[must_use]
    pub const fn new(
        who: &'static str,
        client: &'a Namespace,
        protocol: Protocol,
        target: SocketAddr,
        way: &'static str,
        expected: Expected,
    ) -> Self {
        Self { who, way, target, protocol, client, source: None, expected }
    }

    /// With this source address.
    #[must_use]
    pub const fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Tries it.
    pub fn make(&self, host: &Host) -> Result<Outcome> {
        let before = host.drops()?;
        let timeout = if matches!(self.expected, Expected::Served { .. }) { ANSWER } else { SILENCE };
        let mut client = Client::new(self.client).timeout(timeout);
        if let Some(source) = self.source {
            client = client.from_address(source);
        }
        let exchange = client.exchange(self.protocol, self.target);
        let reasons = more(&before, &host.drops()?);
        Ok(match exchange {
            Ok(exchange) => {
                let seen = exchange.seen.ip().to_canonical();
                let right = exchange.peer == self.target
                    && self.expected_answer().is_some_and(|(server, peer)| exchange.server == server && seen == peer);
                Outcome { told: format!("{} sees {seen}", exchange.server), right }
            }
            Err(_) if !reasons.is_empty() => {
                let right = matches!(self.expected, Expected::Dropped(reason) if reasons.iter().any(|r| r == reason));
                Outcome { told: format!("dropped: {}", reasons.join(", ")), right }
            }
            Err(error) => {
                let right = self.expected == Expected::Refused && error.kind() == std::io::ErrorKind::ConnectionRefused;
                Outcome { told: format!("nobody: {error}"), right }
            }
        })
    }

    fn expected_answer(&self) -> Option<(&'static str, IpAddr)> {
        match self.expected {
            Expected::Served { server, peer } => Some((server, peer.parse().ok()?)),
            Expected::Dropped(_) | Expected::Refused => None,
        }
    }
}

/// Reasons that were counted more often after than before.
fn more(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<String> {
    after
        .iter()
        .filter(|(reason, count)| before.get(*reason).is_none_or(|old| *count > old))
        .filter(|(_, count)| **count > 0)
        .map(|(reason, _)| reason.clone())
        .collect()
}
