//! A scenario: what is done with Docker, and who can reach whom after each step. Run as it is against dockerd with its
//! own rules, which is the control of the tests themselves, and against dockerd with the datapath.

use crate::attempt::Attempt;

/// Something that happens.
pub enum Step {
    /// `docker …`
    Docker(&'static str),
    /// A container of this name with the echo server on these ports, and these options of `docker run`.
    Run(&'static str, &'static str, &'static [u16]),
    /// All of these at once.
    Try(Vec<Attempt>),
    /// A process in the first container resolves a name to an address of the second one on this network.
    Resolve(&'static str, &'static str, (&'static str, &'static str)),
    /// A process in the container cannot resolve this name.
    Unknown(&'static str, &'static str),
    /// `docker-compose …` with the file of this scenario.
    Compose(&'static str),
    /// A neighbour on the LAN sends frames for 127.0.0.1 to this port, where this server listens. One arrives with
    /// stock dockerd before 28 (moby 45610), and none may with the datapath.
    LoopbackFromNeighbour(u16, &'static str),
}

/// A list of steps from an empty dockerd.
pub struct Scenario {
    pub name: &'static str,
    /// The compose file, if it has one.
    pub compose: &'static str,
    /// Whether a network of it leaves the host by its own addresses, as it was told to.
    pub routes_outside: bool,
    /// Whether no question for a name may leave the host.
    pub silent_names: bool,
    pub steps: Vec<Step>,
}

impl Scenario {
    pub fn new(name: &'static str, steps: Vec<Step>) -> Self {
        Self { name, compose: "", routes_outside: false, silent_names: false, steps }
    }

    pub fn with_compose(mut self, file: &'static str) -> Self {
        self.compose = file;
        self
    }

    /// What it does is allowed to show container addresses on the uplink.
    pub fn routing_outside(mut self) -> Self {
        self.routes_outside = true;
        self
    }

    /// All its questions for names are those of an internal network.
    pub fn keeping_names_inside(mut self) -> Self {
        self.silent_names = true;
        self
    }
}

/// A container with the usual ports.
pub fn run(name: &'static str, options: &'static str) -> Step {
    Step::Run(name, options, &[80, 81])
}
