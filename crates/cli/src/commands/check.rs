//! `postrider check`: finds what would prevent Postrider from working.
//!
//! Changes nothing: it neither creates nor migrates a database.

use super::check_database::diagnose;
use super::check_report::CheckReport;
use crate::clock::wall_clock;
use crate::config::{Settings, sqlite_file};
use crate::database::{connect, try_write};
use crate::failure::{self, Result, Silent};
use crate::globals::Globals;
use crate::output::{moment, shortened};
use crate::secrets::{Need, key_file};
use clap::Args;
use postrider_core::{SealError, parse_hook_url};
use postrider_store::{Backend, Error, HookFilter, SchemaState, Store};
use std::path::Path;
use std::time::Duration;

/// A larger difference between the clocks is a warning.
const SKEW: Duration = Duration::from_secs(2);

/// Number of hooks whose secrets are opened.
const HOOKS_TRIED: u32 = 200;

/// Hooks read at a time.
const PAGE: u32 = 500;

/// Number of hooks with a URL that cannot be used that are listed.
const URLS_SHOWN: usize = 10;

/// Number of rejected outbox rows that are listed.
const REJECTED_SHOWN: u32 = 10;

/// Check the configuration and the database.
///
/// Prints a line for each check: ok, warning or problem. Changes nothing. Exit code 1 when
/// there is a problem, 0 when there are only warnings.
#[derive(Debug, Args)]
pub struct Check {}

impl Check {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let mut report = CheckReport::new(globals.output());
        match globals.settings() {
            Err(error) => report.problem("configuration", failure::sentence(&error))?,
            Ok(settings) => {
                configuration(&mut report, &settings)?;
                database(&mut report, &settings).await?;
            }
        }
        match report.has_problems() {
            false => Ok(()),
            true => Err(Silent.into()),
        }
    }
}

fn configuration(report: &mut CheckReport, settings: &Settings) -> Result<()> {
    report.ok("configuration", "can be used")?;
    let waits = settings.hooks.retry_schedule.delays();
    let longest: Duration = waits.iter().map(|span| span.get()).sum();
    let kept = settings.retention.events;
    if longest > kept.get() {
        report.warning(
            "configuration",
            format!(
                "retention.events ({kept}) is shorter than the sum of hooks.retry_schedule ({}): \
                 deliveries expire before their last attempt",
                postrider_core::Span::from(longest)
            ),
        )?;
    }
    for network in &settings.worker.allow_addresses {
        if network.prefix_len() == 0 {
            report.warning(
                "configuration",
                format!(
                    "worker.allow_addresses contains {network}: hooks may reach every address of \
                     your network; list only what they must reach"
                ),
            )?;
        }
    }
    Ok(())
}

async fn database(report: &mut CheckReport, settings: &Settings) -> Result<()> {
    let file = sqlite_file(&settings.database.url);
    if let Some(path) = file.filter(|path| !path.exists()) {
        return missing_file(report, &path);
    }
    let store = match connect(settings, Need::Nothing).await {
        Ok(store) => store,
        Err(error) => return report.problem("database", failure::sentence(&error)),
    };
    let outcome = opened(report, settings, store.as_ref()).await;
    store.close().await;
    match outcome {
        Err(error) if error.is::<Error>() => report.problem("database", failure::sentence(&error)),
        outcome => outcome,
    }
}

/// Checks the folder of a SQLite database that does not exist yet.
fn missing_file(report: &mut CheckReport, path: &Path) -> Result<()> {
    let shown = path.display();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => report.problem(
            "database",
            format!(
                "{shown} cannot be created: there is no folder {}",
                folder.display()
            ),
        ),
        None => report.ok(
            "database",
            format!("{shown} does not exist yet: the first command that needs it creates it"),
        ),
    }
}

async fn opened(report: &mut CheckReport, settings: &Settings, store: &dyn Store) -> Result<()> {
    let before = wall_clock();
    let now = match store.now().await {
        Ok(now) => now,
        Err(error) => return report.problem("database", error.to_string()),
    };
    let asked = wall_clock() - before;
    report.ok("database", store.describe())?;
    let apart = (now - before - asked / 2)
        .abs()
        .to_std()
        .unwrap_or_default();
    match apart > SKEW {
        true => report.warning(
            "clock",
            format!(
                "the database's clock ({}) and this machine's are {} s apart: receivers refuse \
                 signatures that are 5 minutes old; set both by NTP",
                moment(now),
                apart.as_secs()
            ),
        )?,
        false => report.ok("clock", "agrees with the database's")?,
    }
    if !tables(report, settings, store).await? {
        return Ok(());
    }
    match try_write(store).await {
        Ok(()) => report.ok("writing", "the database accepts writes")?,
        Err(error) => report.problem("writing", failure::sentence(&error))?,
    }
    secrets(report, settings, store).await?;
    urls(report, store).await?;
    rejected(report, store).await?;
    diagnose(report, store, now).await
}

/// Checks the migrations; returns whether the tables can be used.
async fn tables(report: &mut CheckReport, settings: &Settings, store: &dyn Store) -> Result<bool> {
    let state = store.schema().await?;
    let is_automatic = settings.backend()? == Backend::Sqlite
        && matches!(state, SchemaState::Empty | SchemaState::Behind { .. });
    match (state.problem(), state) {
        _ if is_automatic => {
            report.ok("migrations", "missing: the next command applies them")?;
            Ok(false)
        }
        (Some(problem), _) => {
            report.problem("migrations", problem)?;
            Ok(false)
        }
        (None, SchemaState::Current { slots }) if slots > 1 => {
            report.ok("migrations", format!("current, {slots} slots"))?;
            Ok(true)
        }
        (None, _) => {
            report.ok("migrations", "current")?;
            Ok(true)
        }
    }
}

async fn secrets(report: &mut CheckReport, settings: &Settings, store: &dyn Store) -> Result<()> {
    let file = key_file(settings)?.filter(|path| path.exists());
    if let Some(path) = &file {
        check_mode(report, path)?;
    }
    let configured = &settings.secrets;
    let filter = HookFilter {
        limit: HOOKS_TRIED,
        ..HookFilter::default()
    };
    let hooks = store.hooks(filter).await?;
    let (mut sealed, mut why) = (0_u32, None);
    for hook in &hooks {
        match store.hook_with_credentials(hook.id).await {
            Ok(hook) if !hook.locked => {}
            Ok(_) => sealed += 1,
            Err(Error::Seal(error)) => {
                sealed += 1;
                why.get_or_insert(error.to_string());
            }
            // The hook was deleted meanwhile.
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if sealed > 0 {
        let why = why.unwrap_or_else(|| "their key is not configured".into());
        let count = format!("{sealed} of {} tested hooks", hooks.len());
        return report.problem(
            "secrets",
            format!("the secrets of {count} cannot be opened, so nothing is sent to them: {why}"),
        );
    }
    match (&configured.key, &file, settings.backend()?) {
        (Some(_), ..) => report.ok("secrets", "secrets.key is set"),
        (None, Some(path), _) => report.ok("secrets", format!("key file {}", path.display())),
        (None, None, Backend::Sqlite) => report.ok(
            "secrets",
            "no key yet: a key file is created when the first hook is registered",
        ),
        (None, None, Backend::Postgres) => report.problem("secrets", SealError::NoKey.to_string()),
    }
}

#[cfg(unix)]
fn check_mode(report: &mut CheckReport, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let is_open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    match is_open {
        true => report.warning(
            "secrets",
            format!(
                "other users can read {}: run chmod 600 on it",
                path.display()
            ),
        ),
        false => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_mode(_: &mut CheckReport, _: &Path) -> Result<()> {
    Ok(())
}

/// Names hooks whose URL was accepted by an older release and cannot be sent to.
async fn urls(report: &mut CheckReport, store: &dyn Store) -> Result<()> {
    let mut filter = HookFilter {
        limit: PAGE,
        ..HookFilter::default()
    };
    let mut unusable = 0;
    loop {
        let hooks = store.hooks(filter.clone()).await?;
        for hook in &hooks {
            let Err(error) = parse_hook_url(&hook.url) else {
                continue;
            };
            unusable += 1;
            if unusable <= URLS_SHOWN {
                report.warning(
                    "hooks",
                    format!("nothing can be delivered to hook {}: {error}", hook.id),
                )?;
            }
        }
        match hooks.last() {
            Some(last) if hooks.len() == PAGE as usize => filter.after = Some(last.id),
            _ => break,
        }
    }
    match unusable {
        0 => report.ok("hooks", "every URL can be sent to"),
        1..=URLS_SHOWN => Ok(()),
        _ => report.warning(
            "hooks",
            format!(
                "nothing can be delivered to {} more hooks",
                unusable - URLS_SHOWN
            ),
        ),
    }
}

async fn rejected(report: &mut CheckReport, store: &dyn Store) -> Result<()> {
    let rows = store.rejected(REJECTED_SHOWN + 1).await?;
    if rows.is_empty() {
        return report.ok("outbox", "no rejected rows");
    }
    for row in rows.iter().take(REJECTED_SHOWN as usize) {
        let event_type = row.event_type.as_deref().unwrap_or("unknown type");
        report.warning(
            "outbox",
            format!(
                "event {} ({}) was rejected at {}: {}",
                row.id,
                shortened(event_type, 60),
                moment(row.rejected_at),
                shortened(&row.reason, 300)
            ),
        )?;
    }
    if rows.len() > REJECTED_SHOWN as usize {
        report.warning(
            "outbox",
            "more rows were rejected: see the table postrider_rejected",
        )?;
    }
    Ok(())
}
