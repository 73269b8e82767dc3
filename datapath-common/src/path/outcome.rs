//! What the path of a packet, and each stage of it, comes to.

use crate::abi::DropReason;

/// Where a judged packet goes.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is none of our business: the next program and the kernel see it.
    Pass,
    /// To the endpoint behind this host-side veth.
    ToEndpoint(u32),
    /// To a station behind this host-side veth, as it is on the wire: whose the frame is, its MAC address says.
    ToStation(u32),
    /// Up into the host, as received by this gateway device.
    ToHost(u32),
    /// Up into the host, as received by this adopted bridge. The mark stays on: the bridge's own program takes it off.
    ToBridge(u32),
    /// Up into the host, as received by its loopback device.
    ToLoopback(u32),
    /// Out by this uplink, to the neighbour that the host's routes and neighbour table name.
    ToUplink(u32),
    /// Back out of the device it came in by: an answer made from the question.
    Reflected,
    /// Nobody else needs it: it was flooded, or told us nothing new.
    Consumed,
}

/// What a path ends in.
pub type Outcome = Result<Verdict, DropReason>;

/// What a stage comes to that may leave the packet to the next one.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Where the packet goes.
    Verdict(Verdict),
    /// A flow was begun, which is to be followed.
    Begun,
    /// Nothing: the next stage decides.
    Open,
}

/// An outcome as the one word that a BPF function can return.
///
/// The larger stages are functions of their own in the BPF programs too. The verifier joins all ways through such a
/// function at its return, where what was parsed or found is in memory and so has no known value: that keeps
/// from_container at some ten thousand instructions verified instead of over a million (Linux 6.18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packed(u64);

impl Packed {
    /// No outcome: the stage had nothing to say.
    pub const NONE: Self = Self(u64::MAX);
    /// No outcome yet: the stage began a flow, which is to be followed.
    pub const BEGUN: Self = Self(u64::MAX - 1);

    /// Packs.
    #[inline(always)]
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        // Numbered as the compiler numbers the outcomes, so that there is nothing to convert.
        let (kind, value) = match outcome {
            Ok(Verdict::Pass) => (0, 0),
            Ok(Verdict::ToEndpoint(ifindex)) => (1, ifindex),
            Ok(Verdict::ToStation(ifindex)) => (2, ifindex),
            Ok(Verdict::ToHost(ifindex)) => (3, ifindex),
            Ok(Verdict::ToBridge(ifindex)) => (4, ifindex),
            Ok(Verdict::ToLoopback(ifindex)) => (5, ifindex),
            Ok(Verdict::ToUplink(ifindex)) => (6, ifindex),
            Ok(Verdict::Reflected) => (7, 0),
            Ok(Verdict::Consumed) => (8, 0),
            Err(reason) => (9, reason as u32),
        };
        Self(kind << 32 | value as u64)
    }

    /// Whether it is a verdict that the host gets the packet.
    #[inline(always)]
    #[must_use]
    pub const fn is_to_host(self) -> bool {
        matches!(self.outcome(), Some(Ok(Verdict::ToHost(_) | Verdict::ToBridge(_))))
    }

    /// As a global function returns it.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What a global function has returned.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Packs what a stage came to.
    #[inline(always)]
    #[must_use]
    pub const fn of(decided: Result<Decision, DropReason>) -> Self {
        match decided {
            Ok(Decision::Verdict(verdict)) => Self::new(Ok(verdict)),
            Ok(Decision::Begun) => Self::BEGUN,
            Ok(Decision::Open) => Self::NONE,
            Err(reason) => Self::new(Err(reason)),
        }
    }

    /// Unpacks; `None` of [`Self::NONE`] and [`Self::BEGUN`].
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        let value = self.0 as u32;
        Some(match self.0 >> 32 {
            0 => Ok(Verdict::Pass),
            1 => Ok(Verdict::ToEndpoint(value)),
            2 => Ok(Verdict::ToStation(value)),
            3 => Ok(Verdict::ToHost(value)),
            4 => Ok(Verdict::ToBridge(value)),
            5 => Ok(Verdict::ToLoopback(value)),
            6 => Ok(Verdict::ToUplink(value)),
            7 => Ok(Verdict::Reflected),
            8 => Ok(Verdict::Consumed),
            9 => match DropReason::from_number(value) {
                Some(reason) => Err(reason),
                None => Err(DropReason::WriteFailed),
            },
            _ => return None,
        })
    }

    /// Unpacks what a stage came to that begins no flow.
    ///
    /// # Errors
    /// The outcome's own.
    #[inline(always)]
    pub const fn decision(self) -> Result<Decision, DropReason> {
        match self.outcome() {
            Some(Ok(verdict)) => Ok(Decision::Verdict(verdict)),
            Some(Err(reason)) => Err(reason),
            None => Ok(Decision::Open),
        }
    }

    /// Unpacks what became of the packet that began a flow. That its flow is not found is another packet's doing.
    ///
    /// # Errors
    /// The outcome's own, and [`DropReason::Contended`].
    #[inline(always)]
    pub const fn or_contended(self) -> Outcome {
        match self.outcome() {
            Some(outcome) => outcome,
            None => Err(DropReason::Contended),
        }
    }

    /// Unpacks what is an outcome.
    ///
    /// # Errors
    /// The outcome's own.
    #[inline(always)]
    pub const fn unwrap(self) -> Outcome {
        match self.outcome() {
            Some(outcome) => outcome,
            None => Ok(Verdict::Pass),
        }
    }
}
