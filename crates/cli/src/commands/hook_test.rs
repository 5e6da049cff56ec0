//! `postrider hook test`: sends a test event to a hook.

use super::show;
use super::value_parsers::id;
use crate::config::Settings;
use crate::failure::{Result, Silent};
use crate::globals::Globals;
use crate::output::{notice, shortened};
use crate::secrets::Need;
use anyhow::Context;
use clap::Args;
use postrider_core::{Attempt, HookId, HookStatus};
use postrider_store::AttemptReport;
use postrider_worker::{AddressGuard, Client, DatabaseClock, Metrics, Names, Sender};
use std::sync::Arc;

/// Send a test event to a hook now, and show the answer.
///
/// The request is made by this command, signed like any delivery, with an event of the type
/// postrider.test. Nothing is recorded and no failure is counted, whatever the hook's status.
/// Exit code 0 when the receiver accepts it, otherwise 1.
#[derive(Debug, Args)]
pub struct Test {
    /// The hook's id
    #[arg(value_parser = id::<HookId>)]
    id: HookId,
}

impl Test {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let store = globals.store_with(&settings, Need::Secrets).await?;
        let hook = store.hook_with_credentials(self.id).await?;
        let clock = DatabaseClock::start(store.clone()).await?;
        let sender = sender(&settings, clock, Arc::new(Metrics::new()))?;
        let attempt = sender.send_test(&hook).await?;
        let accepted = attempt.outcome.is_accepted();
        let report = report_of(attempt);
        globals.output().result(&report, || {
            let result = match (&report.error, accepted) {
                (Some(error), false) => format!("Not accepted: {}.", shortened(error, 500)),
                _ => "Accepted.".to_owned(),
            };
            format!(
                "{}\n\n{result}",
                show::attempts(std::slice::from_ref(&report))
            )
        })?;
        if accepted && hook.status == HookStatus::Disabled {
            notice(format_args!(
                "Hook {} accepts events again but is disabled: enable it with\n  postrider hook enable {}",
                hook.id, hook.id
            ));
        }
        match accepted {
            true => Ok(()),
            false => Err(Silent.into()),
        }
    }
}

/// A sender of test events.
pub(super) fn sender(
    settings: &Settings,
    clock: Arc<DatabaseClock>,
    metrics: Arc<Metrics>,
) -> Result<Sender> {
    let guard = AddressGuard::new(&settings.worker.allow_addresses);
    let names = Names::new(&settings.worker.name_servers);
    Ok(Sender::new(
        Client::new(guard, names).context("the HTTP client cannot be set up")?,
        clock,
        Arc::new(settings.hook_defaults()),
        settings.worker.request_timeout.get(),
        metrics,
        None,
    ))
}

fn report_of(attempt: Attempt) -> AttemptReport {
    let body = String::from_utf8_lossy(&attempt.response);
    AttemptReport {
        id: attempt.id,
        number: attempt.number,
        at: attempt.at,
        outcome: attempt.outcome.name().into(),
        status: attempt.outcome.status(),
        error: attempt.error(),
        duration_ms: u32::try_from(attempt.duration.as_millis()).unwrap_or(u32::MAX),
        response: (!body.is_empty()).then(|| body.into_owned()),
        late: false,
    }
}
