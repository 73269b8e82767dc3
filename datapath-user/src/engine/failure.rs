//! Why a request was not carried out.

use std::fmt;

use crate::kernel::reservation::ReserveError;
use crate::model::{Kind, Refusal};

/// Why a request was not carried out. Nothing has changed.
#[derive(Debug)]
pub enum Failure {
    /// It is not a good request.
    Refused(Refusal),
    /// The host said no.
    Failed(anyhow::Error),
}

impl Failure {
    /// The HTTP status that says the same.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => match refusal.kind {
                Kind::Invalid => 400,
                Kind::NotFound => 404,
                Kind::Conflict => 409,
            },
            Self::Failed(error) => match error.downcast_ref() {
                Some(ReserveError::Taken { .. } | ReserveError::NoSuchAddress(_) | ReserveError::NoneFree { .. }) => 409,
                _ => 500,
            },
        }
    }

    /// A namespace or other thing that the request names is not usable.
    pub(super) fn unusable(error: anyhow::Error) -> Self {
        Self::Refused(Refusal::invalid(
            format!("{error:#}"),
            "name a network namespace: a path, a name under /run/netns, or pid:1234",
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Refusal>() {
            Ok(refusal) => Self::Refused(refusal),
            Err(error) => Self::Failed(error),
        }
    }
}
