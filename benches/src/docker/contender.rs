//! A host that is measured.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::docker::{DockerHost, DockerdOptions, Rules, image};
use lab::lan::{self, Lan};
use lab::{Namespace, Protocol};
use nix::sys::resource::{Resource, getrlimit};

use super::{Limits, Memory};

/// The first host port, far below those of outgoing connections.
const FIRST_PORT: u16 = 2_000;
/// The first of a container's ports; the last published one is served, or this.
const FIRST_PRIVATE: u16 = 1_000;
/// Files that dockerd opens for other things than published ports.
const OTHER_FILES: usize = 1_000;
/// Of the container that is measured.
const PROBE: &str = "probe";
/// One attempt to reach it. dockerd listens without answering on a port that nobody translates yet.
const ATTEMPT: Duration = Duration::from_millis(3);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(1);
/// A container that is not reached so long never will be.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before each measurement, for what the one before has left to do.
const REST: Duration = Duration::from_millis(200);
/// So many containers tell what more of them cost; their processes are looked at again after as many.
const ENOUGH_TO_TELL: usize = 5;

/// Who makes the network of a host's containers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Who {
    /// dockerd, by iptables, ip6tables and docker-proxy.
    Stock,
    /// Nobody: dockerd is told as for the datapath.
    Bare,
    /// The datapath.
    Datapath,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stock, Self::Bare, Self::Datapath];

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Bare => "bare",
            Self::Datapath => "datapath",
        }
    }
}

/// What one `docker run` took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The command itself.
    pub run: Duration,
    /// The first answer of the container; none where nobody leads to it.
    pub answer: Option<Answer>,
}

/// When a container answered first. It was not asked before `docker run` returned.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Since dockerd started it, by dockerd's word.
    pub since_start: Duration,
    /// Since `docker run` returned.
    pub since_return: Duration,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}", self.run)?;
        match self.answer {
            Some(answer) => write!(f, ", answers {:.1?} later", answer.since_return),
            None => Ok(()),
        }
    }
}

/// A host with containers that publish so many ports each. The order is that of dropping.
pub struct Contender {
    /// Who makes its network.
    pub who: Who,
    host: DockerHost,
    lan: Lan,
    ports: u16,
    /// The ports of each container that is there.
    standing: Vec<u16>,
}

impl Contender {
    /// Starts a host without containers.
    pub fn start(who: Who, datapath: &Path, ports: u16) -> Result<Self> {
        let lan = Lan::new()?;
        let namespace = Namespace::new("host")?;
        lan.join(&namespace)?;
        let options = DockerdOptions::new(if who == Who::Stock { Rules::Stock } else { Rules::Datapath });
        let host = DockerHost::start_in(namespace, options, (who == Who::Datapath).then_some(datapath))?;
        Ok(Self { who, host, lan, ports, standing: Vec::new() })
    }

    /// How many ports its containers publish.
    pub fn published(&self) -> usize {
        self.standing.iter().copied().map(usize::from).sum()
    }

    /// What its network weighs.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(&self.host)
    }

    /// Starts containers until there are so many. Returns why not, where that costs more than it may.
    pub fn fill(&mut self, containers: usize, limits: &Limits) -> Result<Option<String>> {
        let (began, mut last) = (Instant::now(), Duration::ZERO);
        while self.standing.len() < containers {
            let remaining = containers - self.standing.len();
            let expected = began.elapsed() + last * u32::try_from(remaining)?;
            if expected > limits.filling {
                return Ok(Some(format!(
                    "{containers} containers would take {} s to start, after {} of them",
                    expected.as_secs(),
                    self.standing.len()
                )));
            }
            if !self.standing.is_empty() && self.standing.len().is_multiple_of(ENOUGH_TO_TELL) {
                let expected = self.memory()?.of_more(self.standing.len(), containers);
                if let Some(cause) = expected.exceeds(limits.memory)? {
                    return Ok(Some(format!("{containers} containers would need {cause}")));
                }
            }
            let started = Instant::now();
            self.run(&format!("c{}", self.standing.len()), self.share(remaining)?)?;
            self.standing.push(self.share(remaining)?);
            last = started.elapsed();
        }
        Ok(None)
    }

    /// Ports for each of the containers that remain to be started: as wanted, as far as dockerd may have files.
    fn share(&self, remaining: usize) -> Result<u16> {
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let taken = OTHER_FILES + self.published() + usize::from(self.ports);
        let room = usize::try_from(files)?.saturating_sub(taken) / remaining;
        Ok(self.ports.min(u16::try_from(room).unwrap_or(u16::MAX)))
    }

    /// `docker run` with so many ports, from the first that is free.
    fn run(&self, name: &str, ports: u16) -> Result<()> {
        let served = served(ports).to_string();
        let mut arguments = vec!["run".to_owned(), "--detach".to_owned(), "--name".to_owned(), name.to_owned()];
        if ports > 0 {
            let first = self.first_free_port()?;
            let (last, last_private) = (first + (ports - 1), FIRST_PRIVATE + (ports - 1));
            arguments
                .extend(["--publish".to_owned(), format!("0.0.0.0:{first}-{last}:{FIRST_PRIVATE}-{last_private}")]);
        }
        arguments.extend([image::NAME, "serve", name, &served].map(str::to_owned));
        self.host.docker.command(arguments).map(drop)
    }

    fn first_free_port(&self) -> Result<u16> {
        u16::try_from(usize::from(FIRST_PORT) + self.published()).context("there are no more ports")
    }

    /// Runs one more container until it answers, and removes it.
    pub fn measure(&self) -> Result<Sample> {
        std::thread::sleep(REST);
        let began = Instant::now();
        self.run(PROBE, self.ports)?;
        let run = began.elapsed();
        let returned = SystemTime::now();
        let answer = match self.first_answer()? {
            Some(answered) => {
                let container = self.host.docker.inspected(PROBE)?;
                let started = humantime::parse_rfc3339(container.started()?)?;
                let since = |moment| answered.duration_since(moment).context("the clock was set meanwhile");
                Some(Answer { since_start: since(started)?, since_return: since(returned)? })
            }
            None => None,
        };
        self.host.docker.command(["rm", "--force", PROBE])?;
        Ok(Sample { run, answer })
    }

    /// When a machine on the LAN was first answered through the last published port; without ports, when the host was
    /// at the container's address. None where nobody translates.
    fn first_answer(&self) -> Result<Option<SystemTime>> {
        let (from, target) = match self.ports {
            0 => {
                let addresses = self.host.docker.inspected(PROBE)?.addresses("bridge");
                let address = *addresses.first().context("a container has an address")?;
                (self.host.namespace(), SocketAddr::new(address, served(0)))
            }
            _ if self.who == Who::Bare => return Ok(None),
            ports => {
                let port = self.first_free_port()? + (ports - 1);
                (&self.lan.machine, SocketAddr::new(lan::address(Lan::HOST[0]), port))
            }
        };
        let client = Client::new(from).timeout(ATTEMPT);
        let end = Instant::now() + PATIENCE;
        loop {
            match client.exchange(Protocol::Tcp, target) {
                Ok(exchange) => {
                    let now = SystemTime::now();
                    ensure!(exchange.server == PROBE, "{} answers at {target}", exchange.server);
                    return Ok(Some(now));
                }
                Err(error) => ensure!(Instant::now() < end, "{}: no answer at {target}: {error}", self.who.name()),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The one port that a container with so many published ports serves: the last of them.
fn served(ports: u16) -> u16 {
    FIRST_PRIVATE + ports.saturating_sub(1)
}
