//! Debian's testing, for single packages: an apt with lists of its own, so that the machine's apt knows nothing of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::remove;
use crate::setup::MIRROR;
use crate::shell::{self, say};

/// Debian 14, which is testing now; by its name, so that it stays this one. Its signature is by a key of Debian 12 too.
const SUITE: &str = "forky";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt's lists of testing. Dropped, they are gone.
pub struct Testing {
    folder: PathBuf,
}

impl Testing {
    /// Fetches the lists (10 MB), which apt verifies.
    pub fn new() -> Result<Self> {
        let testing = Self { folder: shell::target().join("docker").join("testing.apt") };
        remove(&testing.folder)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(testing.folder.join(folder))?;
        }
        fs::write(testing.folder.join("sources.list"), format!("deb [signed-by={KEYS}] {MIRROR} {SUITE} main\n"))?;
        say("fetching the package lists of Debian's testing");
        shell::run(testing.get().args(["-qq", "update"]).stdin(Stdio::null()).stdout(Stdio::null()))
            .context("cannot fetch the package lists of Debian's testing; is Debian's archive within reach?")?;
        Ok(testing)
    }

    /// apt-get for testing alone. Proxies and the like are as the machine has them.
    pub fn get(&self) -> Command {
        let mut command = shell::command("apt-get");
        let place = |name: &str| self.folder.join(name).display().to_string();
        for (key, value) in [
            ("Dir::Etc::sourcelist", place("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", place("lists")),
            // What is installed here is not to be preferred.
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::Cache", place("cache")),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }
}

impl Drop for Testing {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            say(format!("apt's lists of testing are left: {error:#}"));
        }
    }
}
