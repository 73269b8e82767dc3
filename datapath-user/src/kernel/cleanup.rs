//! Taking the whole datapath away: programs, then maps, then the pin directory. Devices are the caller's.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::netlink::{Direction, Netlink};
use super::{clsact, pins, tcx};

/// What was taken away, and what could not be.
#[derive(Debug, Default)]
pub struct Report {
    /// tcx links.
    pub links: usize,
    /// clsact filters.
    pub filters: usize,
    /// clsact qdiscs that we had added and that had no filter left.
    pub qdiscs: usize,
    /// Maps.
    pub maps: usize,
    /// What failed; everything else was done all the same.
    pub errors: Vec<anyhow::Error>,
}

/// Removes everything of ours that `pin_dir` and the devices of this namespace have. Needs a tokio runtime.
pub async fn remove_everything(pin_dir: &Path) -> Report {
    let (links, errors) = tcx::remove_all(pin_dir);
    let mut report = Report { links, errors, ..Report::default() };
    if let Err(error) = remove_filters(pin_dir, &mut report).await {
        report.errors.push(error);
    }
    report.errors.extend(pins::remove_programs(pin_dir).err());
    match pins::remove_maps(pin_dir) {
        Ok(maps) => report.maps = maps,
        Err(error) => report.errors.push(error),
    }
    for directory in [pins::links(pin_dir), pins::programs(pin_dir), pins::qdiscs(pin_dir), pin_dir.to_path_buf()] {
        if let Err(error) = remove_directory(&directory) {
            report.errors.push(error);
        }
    }
    report
}

async fn remove_filters(pin_dir: &Path, report: &mut Report) -> Result<()> {
    let netlink = Netlink::open()?;
    for (program, ifindex) in clsact::attached(&netlink).await? {
        report.filters += usize::from(clsact::detach(program, ifindex)?);
    }
    for name in pins::names_in(&pins::qdiscs(pin_dir))? {
        if let Ok(ifindex) = name.parse::<u32>() {
            let ingress = netlink.filters(ifindex, Direction::Ingress).await?;
            let egress = netlink.filters(ifindex, Direction::Egress).await?;
            if ingress.is_empty() && egress.is_empty() {
                netlink.delete_clsact(ifindex).await?;
                report.qdiscs += 1;
            }
        }
        remove_directory(&pins::qdiscs(pin_dir).join(name))?;
    }
    Ok(())
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}
