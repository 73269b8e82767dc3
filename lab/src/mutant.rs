//! Running the same tests against programs with one fault built in.

/// Names the fault that daemons of the lab shall have built in; their binary must be built with the `mutants` feature.
pub const MUTANT_VARIABLE: &str = "DATAPATH_TEST_MUTANT";

/// What the daemon itself reads.
const DAEMON_VARIABLE: &str = "DATAPATH_MUTANT";

/// The environment of a daemon: the fault to build in, if one was asked for.
pub(crate) fn environment() -> Option<(&'static str, String)> {
    std::env::var(MUTANT_VARIABLE).ok().map(|name| (DAEMON_VARIABLE, name))
}
