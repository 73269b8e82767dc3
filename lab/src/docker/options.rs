//! How a dockerd is started.

use serde_json::{Value, json};

/// Who makes the rules of Docker's networks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rules {
    /// dockerd itself: iptables, ip6tables (experimental before 27) and docker-proxy.
    Stock,
    /// Nobody, as far as dockerd goes: the three settings that the datapath asks of its users.
    Datapath,
}

/// How to start dockerd.
#[derive(Clone, Debug)]
pub struct DockerdOptions {
    /// Who makes the rules.
    pub rules: Rules,
    /// Containers go on while dockerd is gone.
    pub live_restore: bool,
}

impl DockerdOptions {
    /// dockerd with these rules, and otherwise as it comes.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, live_restore: false }
    }

    /// Lets containers go on while dockerd is gone.
    #[must_use]
    pub fn with_live_restore(mut self) -> Self {
        self.live_restore = true;
        self
    }

    /// The text of `daemon.json`.
    pub(super) fn configuration(&self) -> Value {
        // Both families on the default bridge, so that one list of expectations serves every network.
        let mut settings = json!({
            "bip": "172.17.0.1/24",
            "ipv6": true,
            "fixed-cidr-v6": "fd00:17::/64",
            "live-restore": self.live_restore,
            // What containerd says of itself at other levels fills pages.
            "log-level": "warn",
            // Nobody serves names there, and says so at once: what Docker does not know fails quickly.
            "dns": [crate::lan::Lan::INTERNET[0]],
            "default-address-pools": [{ "base": "172.20.0.0/14", "size": 24 }],
        });
        let rules = match self.rules {
            Rules::Stock => json!({ "ip6tables": true, "experimental": true }),
            Rules::Datapath => json!({ "iptables": false, "ip6tables": false, "userland-proxy": false }),
        };
        if let (Some(settings), Value::Object(rules)) = (settings.as_object_mut(), rules) {
            settings.extend(rules);
        }
        settings
    }
}
