//! The paired comparison of docs/performance.md, by the crate `comparison`.
//!
//! - [`targets`]: what it should come to. They say what has to be run; [`matrix`] adds what is only shown.

mod adopted;
pub mod matrix;
pub mod targets;

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use comparison::{Place, Site, Stand, interruption::Interruption, place};
use lab::reference::BridgeCalls;

use self::adopted::Adopted;

/// Builds these sites; `progress` hears of each before it is built.
pub fn build(
    sites: BTreeSet<Site>,
    daemon: &Path,
    interruption: &Interruption,
    mut progress: impl FnMut(Site),
) -> Result<Stand> {
    let mut stand = Stand::new(interruption);
    for site in sites {
        progress(site);
        stand.build(site, || match site {
            Site::Adopted => Ok(Box::new(Adopted::start(daemon)?) as Box<dyn Place>),
            _ => place::build(site, daemon, BridgeCalls::Iptables),
        })?;
    }
    Ok(stand)
}
