//! How it stands with dockerd, for `status` and `doctor`.

use serde::{Deserialize, Serialize};

/// How it stands with dockerd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Since when it is followed without a break, RFC 3339; none: it is not, now.
    pub connected_since: Option<String>,
    /// Its version, the last one seen.
    pub version: Option<String>,
    /// The version of its API that is spoken.
    pub api_version: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
}
