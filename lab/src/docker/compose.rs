//! docker-compose 1.29, as Debian 12 has it.

use std::path::Path;

use anyhow::{Result, ensure};

use super::cli::Docker;
use crate::command::Output;

/// By its path: one of another version may come first in PATH.
const PROGRAM: &str = "/usr/bin/docker-compose";

impl Docker {
    /// `docker-compose --project-name <project> --file <file> …`, which must succeed; what it printed.
    pub fn compose<'a>(
        &self,
        project: &str,
        file: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        ensure!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing; `cargo xtask setup` installs it");
        let mut command = self.client(PROGRAM);
        command.args(["--project-name", project, "--file"]).arg(file).args(arguments);
        // It would otherwise read a `.env` of the folder that the tests run in.
        command.current_dir(file.parent().unwrap_or(Path::new("/")));
        Output::of(command, None)?.ok()
    }
}
