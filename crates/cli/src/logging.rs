//! Starts the log: sentences with fields, on standard error.

use crate::failure::{Misuse, Result};
use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Sentences, one a line
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging. The filter is the value of `POSTRIDER_LOG`, or of `RUST_LOG`, or `default`; for
/// example `debug` or `warn,postrider_worker=debug`.
///
/// # Errors
/// [`Misuse`] when the filter cannot be parsed.
pub fn start(format: LogFormat, default: &str) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let filter = match ["POSTRIDER_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| set(name).map(|value| (*name, value)))
    {
        None => EnvFilter::new(default),
        Some((name, value)) => EnvFilter::try_new(&value).map_err(|error| {
            Misuse::new(format!(
                "{name} {value:?} is not a log filter ({error}): write a level such as debug, or \
                 levels by target such as warn,postrider_worker=debug"
            ))
        })?,
    };
    // Standard error may be closed. Logging must then not fail: an internal error of the subscriber
    // would be written to standard error as well, and panic.
    let lines = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => {
            use std::io::IsTerminal;
            let colours = std::io::stderr().is_terminal();
            lines.with_target(false).with_ansi(colours).init();
        }
    }
    Ok(())
}
