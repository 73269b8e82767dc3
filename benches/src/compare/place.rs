//! Where subjects are measured: references, our hosts, and one with a dockerd.

mod adopted;
pub mod own;

use std::path::Path as FilePath;

use anyhow::{Context as _, Result};
use lab::{Family, Host, load::Path, reference::Reference};

use self::{adopted::Adopted, own::Own};
use super::subject::{Site, Subject};
use crate::flows;

/// A site that stands.
pub enum Place {
    /// Of others.
    Reference(Reference),
    /// Ours.
    Own(Box<Own>),
    /// Ours, with a dockerd.
    Adopted(Box<Adopted>),
}

impl Place {
    /// Builds it; `daemon` is our daemon's binary.
    pub fn build(site: Site, daemon: &FilePath) -> Result<Self> {
        match site {
            Site::Wire => Reference::wire().map(Self::Reference),
            Site::Router => Reference::routed().map(Self::Reference),
            Site::Bridge(rules) => Reference::bridge(rules).map(Self::Reference),
            Site::BridgePublished(backend, ports) => {
                let ports = u16::try_from(ports).context("one address has no more ports")?;
                Reference::published(backend, ports).map(Self::Reference)
            }
            Site::Own(ports) => Own::publishing(daemon, ports).map(|own| Self::Own(Box::new(own))),
            Site::OwnCrowded(endpoints) => Own::crowded(daemon, endpoints).map(|own| Self::Own(Box::new(own))),
            Site::OwnBig => Own::with_big_tcp(daemon).map(|own| Self::Own(Box::new(own))),
            Site::Adopted => Adopted::start(daemon).map(|adopted| Self::Adopted(Box::new(adopted))),
        }
    }

    /// From where to where the load of a subject goes.
    #[must_use]
    pub fn path(&self, subject: Subject, family: Family) -> Path<'_> {
        match self {
            Self::Reference(reference) => match subject {
                Subject::RoutedOut | Subject::BridgeOut(_) => reference.outward(family),
                _ => reference.path(family),
            },
            Self::Own(own) => match subject {
                Subject::Published(_) => own.inward(family),
                Subject::Out | Subject::OutBig => own.outward(family),
                _ => own.across(family),
            },
            Self::Adopted(adopted) => match subject {
                Subject::AdoptedPublished => adopted.inward(family),
                Subject::AdoptedOut => adopted.outward(family),
                _ => adopted.across(family),
            },
        }
    }

    /// The host with our daemon.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        match self {
            Self::Reference(_) => None,
            Self::Own(own) => Some(own.host()),
            Self::Adopted(adopted) => adopted.host(),
        }
    }

    /// Empties whatever table of flows it has.
    pub fn forget_flows(&self) -> Result<()> {
        match (self, self.host()) {
            (Self::Reference(reference), _) => reference.flush_conntrack(),
            (_, Some(host)) => flows::flush(host.pins()),
            _ => Ok(()),
        }
    }
}
