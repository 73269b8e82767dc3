//! Where subjects are measured.

use std::path::Path as FilePath;

use anyhow::{Context as _, Result, bail};
use lab::reference::{BridgeCalls, Reference};
use lab::{Family, Host, load::Path};

use crate::own::Own;
use crate::{Site, Subject, flows};

/// A site that stands.
pub trait Place {
    /// From where to where the load of a subject goes.
    fn path(&self, subject: Subject, family: Family) -> Path<'_>;

    /// Empties whatever table of flows it has.
    fn forget_flows(&self) -> Result<()> {
        self.host().map_or(Ok(()), |host| flows::flush(host.pins()))
    }

    /// The host with our daemon.
    fn host(&self) -> Option<&Host> {
        None
    }

    /// It as what it is, where it is one of others.
    fn reference(&self) -> Option<&Reference> {
        None
    }

    /// It as what it is, where it is one of ours.
    fn own(&self) -> Option<&Own> {
        None
    }
}

/// Builds a site; `daemon` is our daemon's binary, `calls` says what bridges with rules do.
///
/// # Errors
/// When it cannot be built, and where the site has a dockerd, which is for others to build.
pub fn build(site: Site, daemon: &FilePath, calls: BridgeCalls) -> Result<Box<dyn Place>> {
    Ok(match site {
        Site::Wire => Box::new(Reference::wire()?),
        Site::Router => Box::new(Reference::routed()?),
        Site::Bridge(rules) => Box::new(Reference::bridge(rules, calls)?),
        Site::BridgePublished(backend, ports) => {
            let ports = u16::try_from(ports).context("one address has no more ports")?;
            Box::new(Reference::published(backend, ports, calls)?)
        }
        Site::Own(ports) => Box::new(Own::publishing(daemon, ports)?),
        Site::OwnCrowded(endpoints) => Box::new(Own::crowded(daemon, endpoints)?),
        Site::OwnBig => Box::new(Own::with_big_tcp(daemon)?),
        Site::Adopted => bail!("it needs a dockerd"),
    })
}

impl Place for Reference {
    fn path(&self, subject: Subject, family: Family) -> Path<'_> {
        match subject {
            Subject::RoutedOut | Subject::BridgeOut(_) => self.outward(family),
            _ => self.path(family),
        }
    }

    fn forget_flows(&self) -> Result<()> {
        self.flush_conntrack()
    }

    fn reference(&self) -> Option<&Reference> {
        Some(self)
    }
}

impl Place for Own {
    fn path(&self, subject: Subject, family: Family) -> Path<'_> {
        match subject {
            Subject::Published(_) => self.inward(family),
            Subject::Out | Subject::OutBig => self.outward(family),
            _ => self.across(family),
        }
    }

    fn host(&self) -> Option<&Host> {
        Some(self.host())
    }

    fn own(&self) -> Option<&Own> {
        Some(self)
    }
}
