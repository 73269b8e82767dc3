//! What readers see.

use std::collections::BTreeMap;

use super::Guarded;
use crate::config::Config;
use crate::kernel::netlink::UplinkInterface;
use crate::model::Model;
use crate::plan::Devices;

/// The state after a request.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Desired state, which is the actual one too.
    pub model: Model,
    /// Devices.
    pub devices: Devices,
    /// Uplinks.
    pub uplinks: Vec<UplinkInterface>,
    /// How it stands with the XDP program on each, where it is wanted.
    pub guarded_natively: BTreeMap<u32, Guarded>,
    /// How the daemon was started.
    pub config: Config,
    /// What of dockerd's is not followed, and why.
    pub docker_problems: Vec<String>,
}
