//! Siblings that remember an earlier container's MAC address learn that its IP address is another one's now. The host
//! needs no telling: what it sends is addressed anew by our programs.
//!
//! Before 28, dockerd makes the MAC address of the IP address. Since, it is random, and dockerd announces it (three times,
//! a second apart) as soon as the interface is there: the first time it is not a container's to us yet, and is dropped.

use anyhow::Result;

use crate::engine::Engine;
use crate::kernel::announcement::{Sender, frames};
use crate::model::Endpoint;

impl Engine {
    /// Announces containers that have come. Where that fails, dockerd's next announcement does it.
    pub(super) fn announce(&self, come: &[Endpoint]) {
        for endpoint in come {
            if let Err(error) = self.announce_one(endpoint) {
                tracing::debug!(endpoint = endpoint.name, "not announced: {error:#}");
            }
        }
    }

    fn announce_one(&self, endpoint: &Endpoint) -> Result<()> {
        if !self.state.model.network(&endpoint.network)?.icc {
            return Ok(());
        }
        let frames = frames(endpoint.mac.0, endpoint.ipv4, endpoint.ipv6);
        // As if our programs had flooded them: the guards of the siblings' ports ask for the mark.
        let sender = Sender::open()?.marked(self.config.settings.mark)?;
        let siblings = self.state.model.endpoints_on(&endpoint.network).filter(|other| other.index != endpoint.index);
        for sibling in siblings.filter_map(|sibling| sibling.docker.as_ref()) {
            // One whose interface is just going needs no telling.
            let _ = sender.send(sibling.ifindex, &frames);
        }
        Ok(())
    }
}
