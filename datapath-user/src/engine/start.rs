//! Starting: state is read, what runs is adopted, what is missing is made, what is stale is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use anyhow::{Context, Result, bail, ensure};
use datapath_common::abi::{Program, Settings};
use rustc_hash::FxHashSet;

use super::host::{View, is_ours};
use super::{Docker, Engine, Readers, Snapshot};
use crate::apply::{self, Actual, Kernel, Namespaces, WantedPorts, reach_contents};
use crate::config::{Config, Xdp};
use crate::kernel::netlink::{Link, Netlink};
use crate::kernel::sysctl::{self, Change, ReservedPorts};
use crate::kernel::{Datapath, Options, fence, probes, reservation};
use crate::model::{Endpoint, Network};
use crate::plan::{Contents, Devices, Gateway, Port, desired};
use crate::store::{State, Store, boot_id};

/// Starts the engine.
///
/// # Errors
/// When the state, the kernel or the host do not allow it. What ran before runs on.
pub async fn start(config: Config, docker: Option<Docker>) -> Result<Engine> {
    let (store, found) = Store::open(&config.state_dir)?;
    let known = found.is_some();
    let mut state = of_this_boot(found.unwrap_or_default())?;
    if docker.is_none() {
        stop_following_docker(&mut state).await?;
    }
    reservation::raise_file_limit().context("the limit of open files cannot be raised")?;
    let netlink = Netlink::open()?;
    let kernel = open_kernel(&config, netlink).await?;
    // Loading takes seconds: what was seen before may be gone.
    let view = View::read(&kernel.netlink).await?;
    let contents = apply::read_tables(kernel.datapath.tables())?;
    ensure!(
        known || contents.networks.is_empty(),
        "there are networks in {} but no state in {}; restore the state, or begin with nothing by `datapath daemon --cleanup`",
        config.pin_dir.display(),
        config.state_dir.display(),
    );
    let snapshot = Snapshot {
        model: state.model.clone(),
        devices: Devices::default(),
        uplinks: Vec::new(),
        guarded_natively: BTreeMap::new(),
        config: config.clone(),
        docker_problems: Vec::new(),
    };
    let readers = Readers {
        snapshot: Arc::new(RwLock::new(Arc::new(snapshot))),
        kernel: kernel.clone(),
        docker: docker.as_ref().map(Docker::status),
    };
    let actual = Actual { contents, ..Actual::default() };
    let mut engine = Engine {
        host: view.host(),
        config,
        kernel,
        store,
        state,
        actual,
        uplinks: Vec::new(),
        guarded: BTreeSet::new(),
        guarded_natively: BTreeMap::new(),
        xdp_complaints: BTreeMap::new(),
        docker,
        readers,
    };
    engine.adopt(&view).await?;
    Ok(engine)
}

impl Engine {
    async fn adopt(&mut self, view: &View) -> Result<()> {
        let loopback = view.loopback().context("this network namespace has no loopback device")?;
        let known = self.config.settings.loopback_ifindex;
        ensure!(loopback == known, "the loopback device has ifindex {loopback}; on Linux it has {known}");
        self.remember_sysctls()?;
        self.adopt_devices(view).await?;
        self.store.save(&self.state)?;
        let wanted = desired(&self.state.model, &self.actual.devices, &self.actual.contents);
        reach_contents(&self.kernel, &mut self.actual.contents, &wanted)?;
        apply::adopt(&self.kernel, &self.actual.devices).await?;
        for taken in self.actual.reservations.hold_what_is_free(&self.state.model) {
            tracing::warn!("a published port is not held, connections from outside still reach the container: {taken}");
        }
        let wanted = WantedPorts::of(&self.state.model);
        let ports = wanted.ports();
        let (model, nobody) = (&self.state.model, Namespaces::default());
        let problems = apply::apply(&self.kernel, &mut self.actual, model, wanted, &nobody).await?;
        problems.iter().for_each(|problem| tracing::warn!("{problem:#}"));
        self.reserve_ports(&ports)?;
        self.store.save(&self.state)?;
        self.kernel.datapath.attach(Program::FromLoopback, loopback)?;
        for failure in self.resync(false).await.failures {
            tracing::warn!("the host could not be followed, it is tried again: {failure}");
        }
        self.release_strangers(view).await?;
        self.readers.publish(self.take_snapshot());
        Ok(())
    }

    /// Sets the sysctls we need, after what they were is on disk.
    fn remember_sysctls(&mut self) -> Result<()> {
        let settings = sysctl::loopback_settings();
        let remembered = &mut self.state.remembered;
        for (path, value) in &settings {
            let previous = sysctl::read(path)?;
            if previous != *value && !remembered.sysctls.iter().any(|change| change.path == *path) {
                remembered.sysctls.push(Change { path: path.clone(), previous });
            }
        }
        if remembered.reserved_ports.is_none() {
            remembered.reserved_ports = Some(ReservedPorts::read()?);
        }
        self.store.save(&self.state)?;
        sysctl::set_all(&settings)?;
        Ok(())
    }

    /// Finds the devices that belong to the state, forgets endpoints without one, and removes devices without an owner.
    async fn adopt_devices(&mut self, view: &View) -> Result<()> {
        let devices = &mut self.actual.devices;
        self.state.model.networks.retain(|_, network| network.docker.is_none() || bridge_of(network, view).is_some());
        for network in self.state.model.networks.values() {
            if let Some(bridge) = bridge_of(network, view) {
                devices.gateways.insert(network.id, Gateway { ifindex: bridge.index, far_ifindex: None });
                continue;
            }
            let gateway =
                view.link_named(&network.device()).filter(|link| is_ours(link) && link.mac == Some(network.mac.0));
            let far = view.link_named(&network.far_device()).filter(|link| is_ours(link));
            if let (Some(gateway), Some(far)) = (gateway, far) {
                let gateway = Gateway { ifindex: gateway.index, far_ifindex: Some(far.index) };
                devices.gateways.insert(network.id, gateway);
            }
        }
        for endpoint in self.state.model.endpoints.values() {
            if let Some(ifindex) = port_of(endpoint, view, &self.actual.contents) {
                devices.ports.insert(endpoint.generation, Port { ifindex, bridged: endpoint.docker.is_some() });
            }
        }
        let lost: Vec<_> = self
            .state
            .model
            .endpoints
            .values()
            .filter(|e| !devices.ports.contains_key(&e.generation))
            .cloned()
            .collect();
        let indices: Vec<u32> = lost.iter().map(|endpoint| endpoint.index).collect();
        for endpoint in lost {
            tracing::info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "the endpoint's interface is gone, or was never finished: forgotten"
            );
        }
        self.state.model.forget(&indices)?;
        let devices = &self.actual.devices;
        let gateways = devices.gateways.values().flat_map(|gateway| [Some(gateway.ifindex), gateway.far_ifindex]);
        let owned: FxHashSet<u32> = gateways.flatten().chain(devices.ports.values().map(|port| port.ifindex)).collect();
        for stale in view.links.iter().filter(|link| is_ours(link) && !owned.contains(&link.index)) {
            tracing::info!(device = stale.name, "a device of no network or endpoint: removed");
            self.kernel.netlink.delete_link(stale.index).await?;
        }
        for port in devices.ports.values().filter(|port| !port.bridged) {
            if view.link(port.ifindex).is_some_and(|link| !link.up) {
                self.kernel.netlink.set_up(port.ifindex).await?;
            }
        }
        Ok(())
    }
}

/// The bridge of a network of dockerd's, if it is there.
fn bridge_of<'a>(network: &Network, view: &'a View) -> Option<&'a Link> {
    let docker = network.docker.as_ref()?;
    view.link_named(&docker.bridge).filter(|link| link.kind.as_deref() == Some("bridge"))
}

/// The port of an endpoint whose attachment was finished: its entry is written after everything inside is configured.
fn port_of(endpoint: &Endpoint, view: &View, contents: &Contents) -> Option<u32> {
    let link = view.link_named(&endpoint.device()).filter(|link| endpoint.docker.is_some() || is_ours(link))?;
    let entry = contents.endpoints.get(&endpoint.index)?;
    (entry.generation == endpoint.generation && entry.ifindex == link.index).then_some(link.index)
}

/// Without `--docker`, what an earlier daemon followed is for dockerd's own rules again.
async fn stop_following_docker(state: &mut State) -> Result<()> {
    let networks: Vec<_> =
        state.model.networks.values().filter(|n| n.docker.is_some()).map(|n| n.name.clone()).collect();
    if networks.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "Docker's networks {} are not followed any more, as the daemon was started without --docker: what dockerd's own \
         rules do not forbid is open",
        networks.join(", ")
    );
    fence::remove().await?;
    Ok(state.model.forget_docker()?)
}

/// What of the state holds in this boot: containers of an earlier one are gone, and sysctls are as they were.
fn of_this_boot(mut state: State) -> Result<State> {
    let boot_id = boot_id()?;
    if state.boot_id != boot_id {
        let gone: Vec<u32> = state.model.endpoints.keys().copied().collect();
        for endpoint in state.model.forget(&gone)? {
            tracing::info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "an endpoint of an earlier boot: forgotten"
            );
        }
        state = State { boot_id, model: state.model, ..State::default() };
    }
    Ok(state)
}

async fn open_kernel(config: &Config, netlink: Netlink) -> Result<Kernel> {
    let features = probes::features();
    let settings = Settings { fib_source: u32::from(features.fib_source), mutant: mutant()?, ..config.settings };
    let xdp = config.xdp == Xdp::Native;
    let options = Options { pin_dir: config.pin_dir.clone(), attach: config.attach, xdp, settings };
    let datapath = tokio::task::spawn_blocking(move || Datapath::open(options)).await.context("loading ended")??;
    Ok(Kernel { datapath: Arc::new(datapath), netlink })
}

/// The seeded fault to load, in builds for the test suite.
#[cfg(feature = "mutants")]
fn mutant() -> Result<u32> {
    let Ok(name) = std::env::var("DATAPATH_MUTANT") else { return Ok(0) };
    match datapath_common::abi::Mutant::named(&name) {
        Some(mutant) => {
            tracing::warn!("the programs have the seeded fault {name}");
            Ok(mutant as u32)
        }
        None => bail!("DATAPATH_MUTANT={name} names no mutant; see datapath_common::abi::Mutant"),
    }
}

/// The seeded fault to load: none, as this build has none.
#[cfg(not(feature = "mutants"))]
fn mutant() -> Result<u32> {
    if std::env::var_os("DATAPATH_MUTANT").is_some() {
        bail!("DATAPATH_MUTANT is set, but this binary was built without the feature `mutants`; unset it");
    }
    Ok(0)
}
