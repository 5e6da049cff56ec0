//! `postrider event send --file`: one event a line, in batches.
//!
//! Lines are sent in order up to the first that cannot be sent: all lines before it are committed,
//! it and the lines after it are not. A line number is therefore enough to continue.

use super::event_lines::{Batches, End, Lines};
use crate::config::Settings;
use crate::failure::Result;
use crate::globals::Globals;
use crate::secrets::Need;
use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use postrider_core::{NewEvent, Timestamp};
use serde::Serialize;
use std::fs::File;
use std::io::Read;

/// A file of events.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Send the events of a file, one a line; - for standard input
    #[arg(long)]
    file: Option<String>,
    /// Start at this line of the file
    #[arg(long, value_name = "N", default_value_t = 1, requires = "file",
          value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
}

#[derive(Serialize)]
struct SentFile {
    sent: u64,
}

impl FileArgs {
    /// Whether `--file` is given.
    pub fn is_given(&self) -> bool {
        self.file.is_some()
    }
}

/// Sends a file of events.
pub async fn send(
    globals: &Globals,
    settings: &Settings,
    args: FileArgs,
    account: &str,
) -> Result<()> {
    let name = args.file.unwrap_or_default();
    let (reader, progress) = open(&name)?;
    let store = globals.store_with(settings, Need::Nothing).await?;
    let now = store.now().await?;
    let check = |event: &NewEvent| {
        event.check().map_err(|error| error.to_string())?;
        check_deliver_after(event, settings, now)
    };
    // Reading blocks this thread, which has no other work.
    let lines = Lines::new(progress.wrap_read(reader), account, args.from_line);
    let mut batches = Batches { lines, check };
    let mut sent = 0;
    let outcome = loop {
        let (batch, end) = batches.next();
        if let Some(first) = batch.first_line {
            let count = batch.events.len() as u64;
            if let Err(error) = store.enqueue(&batch.events).await {
                break Err(not_committed(error, sent, first));
            }
            sent += count;
            progress.set_message(format!("{sent} events"));
        }
        match end {
            Some(End::OfFile) => break Ok(()),
            Some(End::Bad { line, problem }) => break Err(bad_line(&name, line, &problem, sent)),
            None => {}
        }
    };
    progress.finish_and_clear();
    outcome?;
    let said = || match sent {
        1 => "Sent 1 event.".to_owned(),
        sent => format!("Sent {sent} events."),
    };
    globals.output().result(&SentFile { sent }, said)
}

/// Checks that the event is due before its history is pruned; otherwise fan-out would reject it.
pub(super) fn check_deliver_after(
    event: &NewEvent,
    settings: &Settings,
    now: Timestamp,
) -> std::result::Result<(), String> {
    event
        .check_due(now, settings.retention.events)
        .map_err(|error| error.to_string())
}

fn open(name: &str) -> Result<(Box<dyn Read>, ProgressBar)> {
    if name == "-" {
        let style = ProgressStyle::with_template("{spinner} {bytes} {msg}")?;
        let bar = ProgressBar::no_length().with_style(style);
        return Ok((Box::new(std::io::stdin()), bar));
    }
    let file = File::open(name).with_context(|| format!("cannot open {name}"))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {msg}")?;
    Ok((
        Box::new(file),
        ProgressBar::new(size)
            .with_style(style)
            .with_message("0 events"),
    ))
}

fn bad_line(name: &str, line: u64, problem: &str, sent: u64) -> anyhow::Error {
    let name = if name == "-" { "standard input" } else { name };
    anyhow!(
        "{name}, line {line}: {problem}; {} before it, none from line {line} on: correct it and \
         continue with --from-line {line}",
        count_sent(sent)
    )
}

fn not_committed(error: postrider_store::Error, sent: u64, first: u64) -> anyhow::Error {
    let doubt = match error.is_passing() {
        // The connection may have broken while the commit was under way.
        true => {
            " (if the connection broke during the commit, the batch from that line on may be \
             committed: see `postrider event list`)"
        }
        false => "",
    };
    anyhow!(
        "{error}; {}: continue with --from-line {first}{doubt}",
        count_sent(sent)
    )
}

fn count_sent(sent: u64) -> String {
    match sent {
        0 => "no event was sent".into(),
        1 => "1 event was sent".into(),
        sent => format!("{sent} events were sent"),
    }
}
