//! The programs stay where they belong. Somebody may delete a filter, a qdisc or a link of ours, and the kernel sends no
//! message about links; so what is attached is compared with what should be.

use std::collections::HashSet;

use anyhow::Result;
use datapath_common::abi::Program;

use super::Engine;
use super::host::View;
use crate::kernel::programs::Hook;
use crate::plan::{Gateway, Port};

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

    /// Every hook that a program of ours belongs on, with its device; on each device the one that guards first.
    fn wanted_hooks(&self, view: &View) -> Vec<(Program, u32)> {
        let devices = &self.actual.devices;
        let uplinks =
            self.guarded.iter().flat_map(|&uplink| [(Program::ToUplink, uplink), (Program::FromUplink, uplink)]);
        let gateways = devices.gateways.values().flat_map(|&Gateway { ifindex, far_ifindex }| {
            [(Program::FromContainer, far_ifindex), (Program::FromHost, ifindex)]
        });
        let ports = devices
            .ports
            .values()
            .flat_map(|&Port { ifindex }| [(Program::FromContainer, ifindex), (Program::ToContainer, ifindex)]);
        let loopback = view.loopback().map(|ifindex| (Program::FromLoopback, ifindex));
        uplinks.chain(gateways).chain(ports).chain(loopback).collect()
    }
}

fn name(program: Program) -> &'static str {
    Hook::of(program).name
}
