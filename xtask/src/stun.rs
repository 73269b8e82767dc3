//! A STUN client and server for the tests: they say what kind of NAT is between them (RFC 3489).

use std::fs;

use anyhow::{Context as _, Result};

use crate::{debian, setup, shell};

const PACKAGES: &[&str] = &["stun-client", "stun-server"];

/// Fetches and unpacks them, unless that is done.
pub fn unpack() -> Result<()> {
    let folder = shell::target().join("stun");
    if folder.exists() {
        return Ok(());
    }
    let part = shell::target().join("stun.part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    setup::update_package_lists()?;
    debian::fetch(shell::command("apt-get"), PACKAGES, &part)
        .with_context(|| format!("cannot fetch {}; is Debian's archive within reach?", PACKAGES.join(", ")))?;
    debian::unpack_all(&part)?;
    fs::rename(&part, &folder).with_context(|| folder.display().to_string())
}
