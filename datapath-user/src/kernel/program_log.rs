//! What the programs log of their slow path, carried on to the daemon's own log.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::SchedClassifier;
use aya_log::EbpfLogger;
use datapath_common::abi::program_log;
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The ring buffer that aya-log defines.
pub const MAP: &str = "AYA_LOGS";

/// How much the programs log. It is fixed when they are loaded: the verifier removes what is off.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgramLog {
    /// Nothing.
    #[default]
    Off,
    /// How each packet that the slow path dropped came to that.
    Debug,
    /// How each packet went through the slow path.
    Trace,
}

impl ProgramLog {
    /// As the programs have it.
    #[must_use]
    pub fn setting(self) -> u32 {
        match self {
            Self::Off => program_log::OFF,
            Self::Debug => program_log::DEBUG,
            Self::Trace => program_log::TRACE,
        }
    }
}

impl FromStr for ProgramLog {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => bail!("`{text}` is no level of what programs log; use off, debug or trace"),
        }
    }
}

/// The reader of what the programs log.
pub struct Lines {
    logger: AsyncFd<EbpfLogger<Forward>>,
}

impl Lines {
    /// Begins to read what all programs log, that were loaded with this one. Needs a tokio runtime.
    pub fn of(program: &SchedClassifier) -> Result<Self> {
        let logger = EbpfLogger::init_from_id_with_logger(program.info()?.id(), Forward);
        let logger = logger.context("what the programs log cannot be read")?;
        // SAFETY: the logger keeps its one descriptor open as long as it lives.
        let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let logger = logger.map_err(|error| anyhow!("what the programs log cannot be waited for: {error}"))?;
        Ok(Self { logger })
    }

    /// Carries lines on as long as there are some to come.
    pub async fn forward(mut self) -> Result<()> {
        loop {
            let mut ready = self.logger.readable_mut().await.context("what the programs log cannot be waited for")?;
            // The readiness is an edge: lines that come while these are read make another.
            ready.clear_ready();
            ready.get_inner_mut().flush();
        }
    }
}

/// Hands lines to tracing. They were asked for, so no filter of levels shall lose them.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(target: "datapath::programs", "{}", record.args());
    }

    fn flush(&self) {}
}
