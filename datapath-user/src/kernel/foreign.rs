//! Programs of others on the same hooks: respected, and shown by `doctor`.

use anyhow::Result;
use aya::programs::SchedClassifier;
use aya::programs::TcAttachType;
use datapath_common::abi::Program;
use serde::{Deserialize, Serialize};

use super::netlink::Netlink;
use super::programs::{Datapath, Hook, Mode, device_name};
use super::{clsact, tcx};

/// A program of somebody else where one of ours is attached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeignProgram {
    /// The device.
    pub device: String,
    /// Its hook, as `tcx ingress`.
    pub hook: String,
    /// Its name, as far as the kernel tells.
    pub name: String,
    /// It comes before ours: what it passes or takes, ours never sees.
    pub ahead: bool,
}

impl Datapath {
    /// Programs of others on the hook of one of ours.
    pub async fn foreign_programs(
        &self,
        netlink: &Netlink,
        program: Program,
        ifindex: u32,
    ) -> Result<Vec<ForeignProgram>> {
        let mut foreign = self.foreign_filters(netlink, program, ifindex).await?;
        if self.mode() == Mode::Tcx {
            foreign.extend(self.foreign_links(program, ifindex)?);
        }
        Ok(foreign)
    }

    fn foreign_links(&self, program: Program, ifindex: u32) -> Result<Vec<ForeignProgram>> {
        let hook = Hook::of(program);
        let ours: Vec<u32> = tcx::attached(self.pin_dir())?
            .into_iter()
            .filter(|link| link.ifindex == ifindex && link.program == program)
            .map(|link| link.program_id)
            .collect();
        let device = device_name(ifindex)?;
        let (_, chain) = SchedClassifier::query_tcx(&device, hook.direction)?;
        let position = chain.iter().position(|info| ours.contains(&info.id()));
        let foreign = chain.iter().enumerate().filter(|(_, info)| !ours.contains(&info.id()));
        Ok(foreign
            .map(|(index, info)| ForeignProgram {
                device: device.clone(),
                hook: format!("tcx {}", shown(hook.direction)),
                name: info.name_as_str().unwrap_or("unnamed").to_owned(),
                ahead: position.is_some_and(|position| index < position),
            })
            .collect())
    }

    /// Filters come after every tcx program; among filters the priority decides.
    async fn foreign_filters(&self, netlink: &Netlink, program: Program, ifindex: u32) -> Result<Vec<ForeignProgram>> {
        let hook = Hook::of(program);
        let device = device_name(ifindex)?;
        let filters = netlink.filters(ifindex, hook.netlink_direction()).await?;
        let foreign = filters.into_iter().filter(|filter| filter.handle != clsact::HANDLE_NUMBER);
        Ok(foreign
            .map(|filter| ForeignProgram {
                device: device.clone(),
                hook: format!("tc {}", shown(hook.direction)),
                name: filter.program.unwrap_or(filter.kind),
                ahead: self.mode() == Mode::Clsact && filter.priority < clsact::priority(hook.place),
            })
            .collect())
    }
}

fn shown(direction: TcAttachType) -> &'static str {
    match direction {
        TcAttachType::Ingress => "ingress",
        _ => "egress",
    }
}
