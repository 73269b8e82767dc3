//! dockerd's bridges and their ports carry our programs from the moment they are seen, and are closed until the maps know
//! whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::apply::{Kernel, guard_bridge, guard_port, release_bridge, release_port};
use crate::engine::host::View;
use crate::kernel::fence::{self, Drawn, Fence};
use crate::kernel::netlink::{FarEnd, Link};
use crate::model::{Bridge, BridgePort, Bridges, Mac};

/// What carries our programs.
#[derive(Debug, Default)]
pub struct Guards {
    /// Bridges by ifindex.
    bridges: BTreeMap<u32, String>,
    /// Their ports by ifindex.
    ports: BTreeMap<u32, GuardedPort>,
    /// Bridges that are not taken over, and why.
    refused: BTreeMap<String, String>,
    /// The fence as it stands, how exactly it is drawn, and when that was seen last.
    fence: Option<(Fence, Drawn, Instant)>,
    /// When drawing it failed last, and how.
    undrawn: Option<(Instant, String)>,
}

/// How soon drawing the fence is tried again, and how often it is looked after: `nft flush ruleset` takes it along.
const FENCE_PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct GuardedPort {
    bridge: u32,
    far_end: Option<FarEnd>,
}

impl Guards {
    /// Whether this device is one of the bridges.
    pub fn is_bridge(&self, ifindex: u32) -> bool {
        self.bridges.contains_key(&ifindex)
    }

    /// The bridges and their ports, by ifindex.
    pub fn devices(&self) -> (Vec<u32>, Vec<u32>) {
        (self.bridges.keys().copied().collect(), self.ports.keys().copied().collect())
    }

    /// Why bridges are not taken over.
    pub fn refused(&self) -> impl Iterator<Item = &String> {
        self.refused.values()
    }

    /// Takes bridges out of `names` that are not only dockerd's: on one with a NIC, all that is not ours would be cut off.
    pub fn refuse(&mut self, view: &View, names: &mut BTreeSet<String>) {
        self.refused.clear();
        names.retain(|name| {
            let Some(bridge) = view.link_named(name).filter(|link| !self.bridges.contains_key(&link.index)) else {
                return true;
            };
            let is_foreign = |link: &&Link| link.master == Some(bridge.index) && link.kind.as_deref() != Some("veth");
            let Some(port) = view.links.iter().find(is_foreign) else { return true };
            self.refused.insert(
                name.clone(),
                format!(
                    "Docker's bridge {name} is not taken over: its port {} is not a container's; take it off the bridge, \
                     or have Docker use another bridge",
                    port.name
                ),
            );
            false
        });
    }

    /// Follows the devices: programs on the bridges of these names and on all their ports. `expected` tells whether
    /// an interface with this MAC address is known on that bridge; those that are not are asked again for theirs.
    pub async fn follow(
        &mut self,
        kernel: &Kernel,
        view: &View,
        names: &BTreeSet<String>,
        expected: impl Fn(&str, Mac) -> bool,
    ) -> Bridges {
        self.follow_bridges(kernel, view, names);
        self.follow_ports(kernel, view);
        self.ask_far_ends(kernel, view, expected).await;
        self.found(view)
    }

    /// Puts up the fence, where it is not as it should be.
    pub async fn draw_fence(&mut self, wanted: Fence) {
        if self.undrawn.as_ref().is_some_and(|(when, _)| when.elapsed() < FENCE_PERIOD) || self.is_fenced(&wanted).await
        {
            return;
        }
        match fence::draw(&wanted).await {
            Ok(drawn) => {
                let before = self.fence.as_ref().map(|(_, drawn, _)| drawn);
                if matches!(drawn, Drawn::BySubnet(_)) && !matches!(before, Some(Drawn::BySubnet(_))) {
                    tracing::warn!(
                        "this kernel's nftables cannot tell bridges apart (CONFIG_NFT_BRIDGE_META): containers that \
                         start while the daemon is stopped are fenced off from each other by subnet, for IP and ARP only"
                    );
                }
                self.undrawn = None;
                self.fence = Some((wanted, drawn, Instant::now()));
            }
            Err(error) => {
                let cause = format!("{error:#}");
                if self.undrawn.as_ref().is_none_or(|(_, last)| *last != cause) {
                    tracing::warn!(
                        "containers that start while the daemon is stopped are not fenced off from each other: {cause}"
                    );
                }
                self.undrawn = Some((Instant::now(), cause));
            }
        }
    }

    /// Whether this fence stands, as far as was seen within the period.
    async fn is_fenced(&mut self, wanted: &Fence) -> bool {
        let Some((fence, drawn, seen)) = &mut self.fence else { return false };
        if fence != wanted {
            return false;
        }
        if seen.elapsed() >= FENCE_PERIOD {
            if !fence::stands(drawn).await {
                tracing::warn!("the fence around Docker's bridges was changed by somebody else: drawn again");
                return false;
            }
            *seen = Instant::now();
        }
        true
    }

    fn follow_bridges(&mut self, kernel: &Kernel, view: &View, names: &BTreeSet<String>) {
        let wanted = |link: &Link| names.contains(&link.name) && link.kind.as_deref() == Some("bridge");
        for link in
            view.links.iter().filter(|link| wanted(link) && !self.bridges.contains_key(&link.index)).collect::<Vec<_>>()
        {
            match guard_bridge(kernel, link.index) {
                Ok(()) => drop(self.bridges.insert(link.index, link.name.clone())),
                Err(error) => tracing::warn!(bridge = link.name, "Docker's bridge cannot be taken over: {error:#}"),
            }
        }
        // One that dockerd does not name any more stays closed as long as there are ports of its.
        let ports = &self.ports;
        self.bridges.retain(|ifindex, name| {
            let in_use = ports.values().any(|port| port.bridge == *ifindex);
            let stays = view.link(*ifindex).is_some_and(|link| link.name == *name && (wanted(link) || in_use));
            stays || !released(release_bridge(kernel, *ifindex))
        });
    }

    fn follow_ports(&mut self, kernel: &Kernel, view: &View) {
        for link in &view.links {
            let Some(bridge) = link.master.filter(|master| self.bridges.contains_key(master)) else { continue };
            if link.kind.as_deref() != Some("veth") {
                continue;
            }
            if self.ports.get(&link.index).is_some_and(|port| port.bridge == bridge) {
                continue;
            }
            match guard_port(kernel, link.index) {
                Ok(()) => drop(self.ports.insert(link.index, GuardedPort { bridge, far_end: None })),
                Err(error) => tracing::debug!(device = link.name, "a port of Docker's bridge vanished: {error:#}"),
            }
        }
        // One that left its bridge stays closed until it is gone: its packets would go up into the host.
        self.ports.retain(|ifindex, _| view.link(*ifindex).is_some() || !released(release_port(kernel, *ifindex)));
    }

    async fn ask_far_ends(&mut self, kernel: &Kernel, view: &View, expected: impl Fn(&str, Mac) -> bool) {
        for (ifindex, port) in &mut self.ports {
            let Some(link) = view.link(*ifindex) else { continue };
            let Some(bridge) = self.bridges.get(&port.bridge) else { continue };
            let same_place = |far: &FarEnd| link.peer_netns == Some(far.netns);
            if port.far_end.as_ref().is_some_and(|far| same_place(far) && expected(bridge, Mac(far.mac))) {
                continue;
            }
            port.far_end = match kernel.netlink.far_end(link).await {
                Ok(far_end) => far_end,
                Err(error) => {
                    tracing::debug!("{error:#}");
                    None
                }
            };
        }
    }

    fn found(&self, view: &View) -> Bridges {
        let mut found = Bridges::default();
        for (ifindex, name) in &self.bridges {
            let Some(mac) = view.link(*ifindex).and_then(|link| link.mac) else { continue };
            let addresses = view.addresses.iter().filter(|address| address.ifindex == *ifindex);
            let addresses = addresses.map(|address| address.address).collect();
            found.bridges.insert(name.clone(), Bridge { ifindex: *ifindex, mac: Mac(mac), addresses });
        }
        // By rising ifindex: the newest last.
        for (ifindex, port) in &self.ports {
            let (Some(link), Some(far)) = (view.link(*ifindex), &port.far_end) else { continue };
            let Some(bridge) = self.bridges.get(&port.bridge).filter(|_| link.master == Some(port.bridge)) else {
                continue;
            };
            let port = BridgePort { ifindex: *ifindex, device: link.name.clone(), ifname: far.name.clone() };
            found.ports.entry((bridge.clone(), Mac(far.mac))).or_default().push(port);
        }
        found
    }
}

/// A device that is gone has taken its programs along, and that is no error.
fn released(result: anyhow::Result<()>) -> bool {
    if let Err(error) = &result {
        tracing::warn!("programs are left on a device that is no longer Docker's: {error:#}");
    }
    true
}
