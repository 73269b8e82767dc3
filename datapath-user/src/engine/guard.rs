//! The guard of uplinks: the user's rules as requests, and the XDP program where it is wanted and can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use datapath_common::abi::GuardDevice;
use ipnet::IpNet;

use super::host::View;
use super::{Engine, Failure};
use crate::apply::Namespaces;
use crate::config::Xdp;
use crate::kernel::Datapath;
use crate::kernel::netlink::{Link, UplinkInterface};
use crate::kernel::xdp::Refused;
use crate::model::{Guard, Limit, LimitKind};

/// How it stands with the XDP program on an uplink.
pub type Guarded = Result<GuardDevice, Refused>;

impl Engine {
    /// `guard deny`: returns what was not denied before.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn deny(&mut self, prefixes: &[IpNet]) -> Result<Vec<IpNet>, Failure> {
        let added = self.change_guard(|guard| Ok(guard.deny(prefixes)?)).await?;
        tracing::info!(prefixes = added.len(), "denied");
        Ok(added)
    }

    /// `guard undeny`; without prefixes, all.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn undeny(&mut self, prefixes: Option<&[IpNet]>) -> Result<Vec<IpNet>, Failure> {
        let change = |guard: &mut Guard| match prefixes {
            Some(prefixes) => Ok(guard.undeny(prefixes)?),
            None => Ok(guard.undeny_all()),
        };
        let removed = self.change_guard(change).await?;
        tracing::info!(prefixes = removed.len(), "denied no more");
        Ok(removed)
    }

    /// `guard limit`.
    ///
    /// # Errors
    /// When it fails; nothing has changed then.
    pub async fn limit(&mut self, kind: LimitKind, limit: Option<Limit>) -> Result<(), Failure> {
        self.change_guard(|guard| {
            guard.limit(kind, limit);
            Ok(())
        })
        .await?;
        tracing::info!(?kind, ?limit, "limited");
        Ok(())
    }

    async fn change_guard<T>(&mut self, change: impl FnOnce(&mut Guard) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut next = self.state.model.clone();
        let changed = change(&mut next.guard)?;
        if next.guard != self.state.model.guard {
            self.change(next, &Namespaces::default()).await?;
        }
        Ok(changed)
    }

    /// Has the XDP program on every uplink that can have it. `thorough`: also looks whether it still is where it was, and tries
    /// again where it could not be. Whether it is there must be told to `from_uplink` afterwards, and before
    /// [`Self::release_unguarded`].
    pub(super) fn guard_uplinks(&mut self, view: &View, uplinks: &[UplinkInterface], thorough: bool) -> Result<()> {
        if self.config.xdp == Xdp::Off {
            return Ok(());
        }
        let datapath = Arc::clone(&self.kernel.datapath);
        self.guarded_natively.retain(|ifindex, _| uplinks.iter().any(|uplink| uplink.ifindex == *ifindex));
        if thorough {
            let alive: BTreeMap<u32, bool> = datapath.guarded()?.into_iter().collect();
            self.guarded_natively.retain(|ifindex, state| match state {
                Ok(_) => alive.get(ifindex) == Some(&true),
                Err(refused) => !refused.may_pass(),
            });
        }
        for uplink in uplinks.iter().filter(|uplink| self.guarded.contains(&uplink.ifindex)) {
            let Some(link) = view.link(uplink.ifindex) else { continue };
            let device = GuardDevice::new(link.index, link.mac.unwrap_or_default());
            if matches!(self.guarded_natively.get(&link.index), Some(state) if state.as_ref().map_or(true, |d| *d == device))
            {
                continue;
            }
            let state = attach(&datapath, &self.config, uplink, link, device)?;
            let said = state.as_ref().err().map(ToString::to_string);
            match &said {
                None => tracing::info!(uplink = uplink.name, "guarded by XDP"),
                Some(why) if self.xdp_complaints.get(&link.index) != Some(why) => {
                    tracing::warn!(
                        uplink = uplink.name,
                        "not guarded by XDP, from_uplink makes the same checks: {why}"
                    );
                }
                Some(_) => {}
            }
            match said {
                Some(why) => drop(self.xdp_complaints.insert(link.index, why)),
                None => drop(self.xdp_complaints.remove(&link.index)),
            }
            self.guarded_natively.insert(link.index, state);
        }
        Ok(())
    }

    /// Whether the XDP program holds the rules on a device.
    pub(super) fn is_guarded_natively(&self, ifindex: u32) -> bool {
        matches!(self.guarded_natively.get(&ifindex), Some(Ok(_)))
    }

    /// Takes the XDP program off devices where it is not wanted (any more), after `from_uplink` holds the rules there.
    pub(super) fn release_unguarded(&self) -> Result<()> {
        let datapath = &self.kernel.datapath;
        for (ifindex, alive) in datapath.guarded()? {
            if self.is_guarded_natively(ifindex) {
                continue;
            }
            datapath.unguard(ifindex)?;
            datapath.tables().guard().remove_device(ifindex)?;
            if alive {
                tracing::info!(ifindex, "no longer guarded by XDP");
            }
        }
        Ok(())
    }
}

fn attach(
    datapath: &Datapath,
    config: &crate::config::Config,
    uplink: &UplinkInterface,
    link: &Link,
    device: GuardDevice,
) -> Result<Guarded> {
    if uplink.link_header == 0 {
        return Ok(Err(Refused::NoEthernet));
    }
    if link.kind.as_deref() == Some("veth") && !config.xdp_on_veth {
        return Ok(Err(Refused::Veth));
    }
    // Before the program, which else would pass all.
    if let Err(error) = datapath.tables().guard().set_device(&device) {
        return Ok(Err(Refused::Failed(format!("{error:#}"))));
    }
    let attached = datapath.guard(link)?;
    if attached.is_err() {
        datapath.tables().guard().remove_device(link.index)?;
    }
    Ok(attached.map(|()| device))
}
