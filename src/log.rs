//! The log: where it goes, how it looks, and how its level changes while the server runs.

use std::io::{self, IsTerminal as _};

use hearth_core::config::{Log, LogFormat};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::ParseError,
    fmt,
    layer::SubscriberExt as _,
    reload,
    util::{SubscriberInitExt as _, TryInitError},
};

/// Changes the level of the log.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Takes the level of `log` into force.
    ///
    /// # Errors
    ///
    /// It is not a level.
    pub fn set(&self, log: &Log) -> Result<(), ParseError> {
        let filter = filter(log)?;
        if let Err(error) = self.0.reload(filter) {
            tracing::warn!("cannot change the level of the log: {error}");
        }
        Ok(())
    }
}

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is malformed.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// Something in this process writes a log already.
    #[error(transparent)]
    Started(#[from] TryInitError),
}

/// Libraries that tell at `info` what they do for each event; what the operator sets comes later and wins.
const QUIET: &str = "ruma_state_res=warn,sqlx=warn";

/// Reads `log.level`.
///
/// # Errors
///
/// It is not a level.
pub fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{}", log.level))
}

/// Begins to write the log to the error output.
///
/// # Errors
///
/// The level is malformed, or there is a log already.
pub fn start(log: &Log) -> Result<Level, LogError> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let lines = match log.format {
        LogFormat::Json => fmt::layer().json().with_writer(io::stderr).boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!("panic: {panic}\n{trace}");
    }));
    Ok(Level(handle))
}
