//! `postrider event`: sending, listing, showing and erasing events.

use super::erase::EraseEvent;
use super::event_file::{self, FileArgs, check_deliver_after};
use super::paging::{Listing, SHOWN};
use super::show;
use super::value_parsers::{Moment, id, text_argument};
use crate::config::Settings;
use crate::failure::{Misuse, Result};
use crate::globals::Globals;
use crate::secrets::Need;
use clap::{Args, Subcommand};
use postrider_core::{EventId, NewEvent, Timestamp};
use postrider_store::{EventFilter, EventReport};
use serde::Serialize;

/// Send and show events.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    Send(Box<Send>),
    List(ListEvents),
    /// Show one event with its payload
    Show(OneEvent),
    Erase(EraseEvent),
}

/// Put one event, or a file of events, into the outbox.
///
/// The command returns when the event is committed; workers deliver it from there. The payload
/// is stored, signed and sent byte for byte as given.
#[derive(Debug, Args)]
#[command(override_usage = "\
postrider event send --type <TYPE> --payload <JSON> [OPTIONS]
       postrider event send --file <FILE> [OPTIONS]")]
#[command(after_long_help = "\
Examples:
  postrider event send --type invoice.paid --payload '{\"id\":1}'
  postrider event send --type invoice.paid --payload @invoice.json --account acme
  echo '{\"id\":1}' | postrider event send --type invoice.paid --payload @-
  postrider event send --file events.ndjson
  produce | postrider event send --file -

A file has one event a line: {\"event_type\": \"invoice.paid\", \"payload\": {\"id\": 1}}, optionally
with account, ordering_key, dedup_key, deliver_after, occurred_at and headers. Lines are sent in
order, up to 500 in a transaction. A line that cannot be sent ends the command: the lines before
it are committed. Correct it and continue with --from-line.")]
pub struct Send {
    /// The event type, such as invoice.paid
    #[arg(
        long = "type",
        value_name = "TYPE",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    event_type: Option<String>,
    /// The payload: JSON, @FILE, or @- for standard input
    #[arg(
        long,
        value_name = "JSON",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    payload: Option<String>,
    /// The account whose hooks receive it; with --file, for lines without an account
    #[arg(long, default_value = "default")]
    account: String,
    /// Ordered hooks receive the events of one key in order
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    ordering_key: Option<String>,
    /// A second event of the account with this key is dropped
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    dedup_key: Option<String>,
    /// Deliver not before this time: 2030-01-31T18:00:00Z, or a duration from now such as 10m
    #[arg(long, value_name = "TIME", conflicts_with = "file", value_parser = Moment::parse)]
    deliver_after: Option<Moment>,
    /// When it happened: 2030-01-31T18:00:00Z [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "file", value_parser = Moment::parse)]
    occurred_at: Option<Moment>,
    /// A file of events.
    #[command(flatten)]
    file: FileArgs,
}

/// List events, newest first, including those in the outbox.
#[derive(Debug, Args)]
pub struct ListEvents {
    /// Only events of this account
    #[arg(long)]
    account: Option<String>,
    /// Only events of this exact type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// At most this many [default: 100; with --json all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The event that a command is about.
#[derive(Debug, Args)]
pub struct OneEvent {
    /// The event's id, which receivers see as webhook-id
    #[arg(value_parser = id::<EventId>)]
    id: EventId,
}

#[derive(Serialize)]
struct Sent {
    id: EventId,
}

impl EventCommand {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        match self {
            Self::Send(command) => command.run(globals).await,
            Self::List(command) => command.run(globals).await,
            Self::Erase(command) => command.run(globals).await,
            Self::Show(OneEvent { id }) => {
                let store = globals.store(Need::Nothing).await?;
                let report = store.event(id).await?;
                globals.output().result(&report, || show::event(&report))
            }
        }
    }
}

impl Send {
    async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        if self.file.is_given() {
            return event_file::send(globals, &settings, self.file, &self.account).await;
        }
        let event = self.event()?;
        let store = globals.store_with(&settings, Need::Nothing).await?;
        let event = self.timed(event, &settings, store.now().await?)?;
        let ids = store.enqueue(&[event]).await?;
        let id = ids
            .first()
            .copied()
            .ok_or_else(|| anyhow::anyhow!("the database accepted the event but returned no id"))?;
        globals
            .output()
            .result(&Sent { id }, || format!("Sent event {id}."))
    }

    /// The checked event, without its times.
    fn event(&self) -> Result<NewEvent> {
        let payload = text_argument(self.payload.as_deref().unwrap_or_default())?;
        let event_type = self.event_type.as_deref().unwrap_or_default();
        let mut event = NewEvent::from_json(event_type, payload).map_err(refused)?;
        event.account.clone_from(&self.account);
        event.ordering_key.clone_from(&self.ordering_key);
        event.dedup_key.clone_from(&self.dedup_key);
        event.check().map_err(refused)?;
        Ok(event)
    }

    fn timed(&self, mut event: NewEvent, settings: &Settings, now: Timestamp) -> Result<NewEvent> {
        event.deliver_after = self.deliver_after.map(|moment| moment.from(now));
        event.occurred_at = self.occurred_at.map(|moment| moment.from(now));
        check_deliver_after(&event, settings, now).map_err(Misuse::new)?;
        Ok(event)
    }
}

fn refused(error: postrider_core::EventError) -> anyhow::Error {
    Misuse::new(error.to_string())
}

impl ListEvents {
    async fn run(self, globals: &Globals) -> Result<()> {
        let store = globals.store(Need::Nothing).await?;
        let listing = Listing {
            output: globals.output(),
            limit: self.limit,
            shown: SHOWN,
            human: show::events,
            none: match (&self.account, &self.event_type) {
                (None, None) => {
                    "No events. Send one: postrider event send --type TYPE --payload JSON"
                }
                _ => "No matching events.",
            },
        };
        let page = async |before, limit| {
            let filter = EventFilter {
                account: self.account.clone(),
                event_type: self.event_type.clone(),
                before,
                limit,
                ..EventFilter::default()
            };
            Ok(store.events(filter).await?)
        };
        listing.write(|event: &EventReport| event.id, page).await
    }
}
