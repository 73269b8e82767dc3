//! Why a request is refused, and what to do about it.

use std::fmt;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is not valid.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// It contradicts what exists.
    Conflict,
}

/// A refused request: one sentence of what is wrong and one of what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of refusal.
    pub kind: Kind,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    /// The request is not valid.
    pub fn invalid(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, what: what.into(), remedy: remedy.into() }
    }

    /// What it names does not exist.
    pub fn not_found(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, what: what.into(), remedy: remedy.into() }
    }

    /// No endpoint has this name.
    #[must_use]
    pub fn no_endpoint(name: &str) -> Self {
        Self::not_found(format!("there is no endpoint {name:?}"), "`datapath endpoint ls` shows those there are")
    }

    /// It contradicts what exists.
    pub fn conflict(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: Kind::Conflict, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for Refusal {}
