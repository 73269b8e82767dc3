//! Which release of Docker is run.

use std::sync::OnceLock;

/// Names the release that the tests of this process use.
pub const VARIABLE: &str = "DATAPATH_TEST_DOCKER";

/// A release that `cargo xtask setup` unpacks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Release {
    /// 20.10, of Debian 12.
    V20,
    /// 28 or later, of Debian's testing.
    V28,
}

impl Release {
    /// All, the oldest first.
    pub const ALL: [Self; 2] = [Self::V20, Self::V28];

    /// The one that was asked for; 20.10 if none was.
    ///
    /// # Panics
    /// When one was asked for that is not unpacked.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Release> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let Some(wanted) = std::env::var_os(VARIABLE) else { return Self::V20 };
            let found = Self::ALL.into_iter().find(|release| wanted == release.name());
            found.unwrap_or_else(|| {
                panic!("{VARIABLE} is {}, not one of {:?}", wanted.display(), Self::ALL.map(Self::name))
            })
        })
    }

    /// Its name, as the variable and its folder have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V20 => "20.10",
            Self::V28 => "28",
        }
    }
}
