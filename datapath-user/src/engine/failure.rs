//! Why a request was not carried out.

use std::fmt;

use crate::kernel::reservation::ReserveError;
use crate::model::{Kind, Refusal};

/// Why a request was not carried out. Nothing has changed.
#[derive(Debug)]
pub enum Failure {
    /// It is not a good request.
    Refused(Refusal),
    /// What it names is not usable.
    Unusable(anyhow::Error),
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
            Self::Unusable(_) => 400,
            Self::Failed(error) => match error.downcast_ref() {
                Some(ReserveError::Taken { .. } | ReserveError::NoSuchAddress(_) | ReserveError::NoneFree { .. }) => {
                    409
                }
                _ => 500,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unusable(error) | Self::Failed(error) => write!(f, "{error:#}"),
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
