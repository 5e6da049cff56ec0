//! Logs: sentences with fields, on standard error.

use crate::failure::{Misuse, Result};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `POSTRIDER_LOG`, else `RUST_LOG`, says what is logged, such as `debug` or
/// `warn,postrider_worker=debug`; else it is everything from `default` on.
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
    // Nobody may read what is logged any more: that must stop nothing, and a complaint about it
    // would go to the same place, and panic.
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
