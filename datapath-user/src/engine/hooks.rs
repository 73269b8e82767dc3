//! The programs stay where they belong. Somebody may delete a filter, a qdisc or a link of ours, and the kernel sends no
//! message about links; so what is attached is compared with what should be.

use std::collections::HashSet;

use anyhow::Result;
use datapath_common::abi::Program;

use super::host::View;
use super::{Docker, Engine};
use crate::kernel::programs::Hook;
use crate::plan::Gateway;

impl Engine {
    /// Attaches again what somebody has detached. Goes on after a failure, and reports the first.
    pub(super) async fn restore_programs(&self, view: &View) -> Result<()> {
        let datapath = &self.kernel.datapath;
        let attached = datapath.attached(&self.kernel.netlink).await?;
        let attached: HashSet<_> = attached.into_iter().map(|(program, ifindex)| (name(program), ifindex)).collect();
        let mut failed = None;
        for (program, ifindex) in self.wanted_hooks(view) {
            // A device that is gone, or was made since the host was looked at, is for those who follow devices.
            let Some(link) = view.link(ifindex) else { continue };
            if attached.contains(&(name(program), ifindex)) {
                continue;
            }
            let program_name = name(program);
            tracing::warn!(device = link.name, "{program_name} was detached by somebody else: attached again");
            if let Err(error) = datapath.attach(program, ifindex) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes programs off devices that are none of ours any more, such as bridges of dockerd's when it is not followed.
    pub(super) async fn release_strangers(&self, view: &View) -> Result<()> {
        let datapath = &self.kernel.datapath;
        let wanted: HashSet<_> = self.wanted_hooks(view).into_iter().map(|(program, on)| (name(program), on)).collect();
        for (program, ifindex) in datapath.hooks(&self.kernel.netlink).await? {
            if !wanted.contains(&(name(program), ifindex)) {
                datapath.detach(program, ifindex)?;
            }
        }
        Ok(())
    }

    /// Every hook that a program of ours belongs on, with its device; on each device the one that guards first.
    fn wanted_hooks(&self, view: &View) -> Vec<(Program, u32)> {
        let devices = &self.actual.devices;
        let uplinks =
            self.guarded.iter().flat_map(|&uplink| [(Program::ToUplink, uplink), (Program::FromUplink, uplink)]);
        let gateways = devices.gateways.values().flat_map(|&Gateway { ifindex, far_ifindex }| {
            let guard = far_ifindex.map_or((Program::ToHost, ifindex), |far| (Program::FromContainer, far));
            [guard, (Program::FromHost, ifindex)]
        });
        // Those of dockerd's that no network or endpoint has yet, or never will, are closed by the same programs.
        let (bridges, bridge_ports) = self.docker.as_ref().map(Docker::guarded).unwrap_or_default();
        let bridges = bridges.into_iter().flat_map(|bridge| [(Program::ToHost, bridge), (Program::FromHost, bridge)]);
        let ports = devices.ports.values().map(|port| port.ifindex).chain(bridge_ports);
        let ports = ports.flat_map(|port| [(Program::FromContainer, port), (Program::ToContainer, port)]);
        let loopback = view.loopback().map(|ifindex| (Program::FromLoopback, ifindex));
        uplinks.chain(gateways).chain(bridges).chain(ports).chain(loopback).collect()
    }
}

fn name(program: Program) -> &'static str {
    Hook::of(program).name
}
