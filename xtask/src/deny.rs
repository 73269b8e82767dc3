//! Licences, sources and known vulnerabilities of what the programs are made of (`deny.toml`).

use std::{process::Stdio, time::Duration};

use anyhow::Result;

use crate::{
    setup,
    shell::{self, say},
};

/// Answers or fails at once where the database is out of reach; a download takes seconds.
const FETCH: Duration = Duration::from_secs(120);

/// Checks what can be checked from here: advisories need a database that is on GitHub.
pub fn run() -> Result<()> {
    setup::install_cargo_program(&setup::CARGO_DENY)?;
    shell::run(shell::cargo().args(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]))?;
    let mut fetch = shell::cargo();
    fetch.args(["deny", "fetch", "db"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !shell::run_within(&mut fetch, FETCH).is_ok_and(|status| status.success()) {
        say(
            "NOT CHECKED: known vulnerabilities; the database github.com/RustSec/advisory-db is out of reach from here",
        );
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "--log-level", "error", "check", "--disable-fetch", "advisories"]))
}
