//! Whether a daemon of ours serves Docker's networks here.

use std::path::Path;

use super::processes::{self, Process};
use crate::config;

/// What to do so that it does.
pub const REMEDY: &str = "start the datapath's service (`systemctl start datapath`) and `datapath docker enable`, or start `datapath daemon --docker`";

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It does.
    Yes,
    /// A daemon runs, but without Docker.
    WithoutDocker,
    /// No daemon runs in this network namespace.
    NotRunning,
}

impl Serving {
    /// Looks at the daemons of this network namespace: how they were started, and with which configuration.
    #[must_use]
    pub fn find() -> Self {
        let daemons = processes::named("datapath");
        let mut daemons =
            daemons.iter().filter(|process| process.arguments.iter().skip(1).any(|word| word == "daemon"));
        let Some(first) = daemons.next() else { return Self::NotRunning };
        let serves = serves_docker(first) || daemons.any(serves_docker);
        if serves { Self::Yes } else { Self::WithoutDocker }
    }

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "the daemon serves Docker's networks",
            Self::WithoutDocker => "the daemon runs, but does not serve Docker's networks",
            Self::NotRunning => "no datapath daemon runs here",
        }
    }
}

fn serves_docker(daemon: &Process) -> bool {
    let file = daemon.value("config").map_or(Path::new(config::DEFAULT_FILE), Path::new);
    daemon.option("docker").is_some() || configured(&std::fs::read_to_string(file).unwrap_or_default())
}

/// `docker = true`, or a socket. That the rest is right is the daemon's business: it runs.
fn configured(text: &str) -> bool {
    let file: toml::Table = toml::from_str(text).unwrap_or_default();
    file.get("docker").is_some_and(|value| value.as_bool() != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_command_line_or_in_the_file() {
        let process =
            |line: &str| Process { pid: 1, arguments: line.split(' ').map(str::to_owned).collect(), started: None };
        assert!(serves_docker(&process("datapath daemon --config /nowhere --docker")));
        assert!(serves_docker(&process("datapath daemon --config=/nowhere --docker=/x.sock")));
        assert!(!serves_docker(&process("datapath daemon --config /nowhere")));
        assert!(configured("docker = true") && configured("docker = \"/x\""));
        assert!(!configured("") && !configured("docker = false") && !configured("# docker = true"));
    }
}
