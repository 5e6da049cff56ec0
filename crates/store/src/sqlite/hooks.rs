//! Registering, changing and showing hooks.
//!
//! Every change raises `hooks_version` in its own transaction and stands under that number, so
//! that a cache is brought up to date by reading what is newer than it.

use super::SqliteStore;
use super::aliases::{check_room, next_number};
use super::hook_history::record;
use super::hook_rows::{HookRow, PURPOSE};
use super::operational_events::{announce, is_watched};
use super::values::{micros, moment, rows};
use crate::audit_entry::{AuditEntry, Made};
use crate::error::{alias_taken, not_understood};
use crate::operational_events::{OperationalEvent, notice_of};
use crate::{Error, HookChange, HookFilter, HookReport, Result};
use postrider_core::{
    DeliveryId, DisabledReason, HOOK_DISABLED, HOOK_ENABLED, Hook, HookAction, HookCredentials,
    HookEdit, HookId, HookNotice, HookSettings, HookStatus, NewAlias, NewHook, OURSELVES, Phase,
    Timestamp,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

/// How far the deliveries that wait for a hook are counted.
const HELD_COUNTED: u32 = 10_000;

/// A hook with what is known of it elsewhere. ?1 bounds the counting.
macro_rules! report_columns {
    () => {
        "SELECT h.id, h.alias, h.account, h.url, h.events, h.profile, h.status, h.disabled_reason,
             h.disabled_at, h.disabled_by, h.settings, h.credentials, h.created_at,
             h.updated_at, h.deleted_at, h.version, f.fail_count, f.first_failure_at, f.last_error,
             f.phase, f.not_before, l.at AS latest_sent_at, l.status AS latest_status,
             CASE WHEN h.status = 'active' THEN 0 ELSE (
                 SELECT count(*) FROM (
                     SELECT 1 FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                     WHERE d.slot = 0 AND d.hook_id = h.id AND d.lease_token IS NULL LIMIT ?1
                 )
             ) END AS held,
             CASE WHEN h.status <> 'active' THEN (
                 SELECT min(id) FROM (
                     SELECT d.id
                     FROM postrider_deliveries AS d INDEXED BY postrider_deliveries_waiting
                     WHERE d.slot = 0 AND d.hook_id = h.id AND d.lease_token IS NULL
                     ORDER BY d.next_attempt_at LIMIT 100
                 )
             ) END AS oldest_held
         FROM postrider_hooks AS h LEFT JOIN postrider_hook_health AS f ON f.hook_id = h.id
         LEFT JOIN postrider_hook_latest AS l ON l.hook_id = h.id\n"
    };
}

impl SqliteStore {
    pub(super) async fn insert_hook(
        &self,
        hook: NewHook,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        hook.check()?;
        let id = HookId::draw(now);
        let credentials = self.seal(id, &hook.credentials)?;
        let mut tx = self.writer.begin().await?;
        let version = next_version(&mut tx).await?;
        check_room(&mut tx, &hook).await?;
        let alias = match &hook.alias {
            None => None,
            Some(NewAlias::Given(alias)) => Some(alias.clone()),
            Some(NewAlias::NextNumber) => Some(next_number(&mut tx, &hook.profile).await?),
        };
        let inserted = sqlx::query(
            "-- postrider: create_hook
            INSERT INTO postrider_hooks
                (id, account, url, events, profile, status, settings, credentials,
                 created_at, updated_at, version, alias)
            VALUES (?1, ?2, ?3, ?4, ?5, 'active', ?6, ?7, ?8, ?8, ?9, ?10)
            ON CONFLICT (profile, alias) WHERE alias IS NOT NULL DO NOTHING",
        )
        .bind(id.0)
        .bind(&hook.account)
        .bind(&hook.url)
        .bind(rows(&hook.events))
        .bind(&hook.profile)
        .bind(sqlx::types::Json(&hook.settings))
        .bind(credentials)
        .bind(micros(now))
        .bind(version)
        .bind(&alias)
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(alias_taken(&hook.profile, alias.as_deref()));
        }
        let entry = AuditEntry::new(id, HookAction::Created, by);
        record(&mut tx, &[entry], now).await?;
        let mut report = report(&mut tx, id).await?;
        tx.commit().await?;
        report.secret = hook.credentials.secrets.first().map(|s| s.secret.reveal());
        Ok(report)
    }

    pub(super) async fn update_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        let mut tx = self.writer.begin().await?;
        let row = find(&mut tx, id).await?;
        let before = report(&mut tx, id).await?;
        let (mut secret, mut made) = (None, Vec::new());
        match change {
            HookChange::Enable => {
                forget_failures(&mut tx, &row, now).await?;
                set_status(&mut tx, id, HookStatus::Active, None, now).await?;
                made.push(Made::status(HookStatus::Active));
            }
            HookChange::Pause => {
                made.extend(move_to(&mut tx, &before, HookStatus::Paused, by, now).await?);
            }
            HookChange::Disable => {
                made.extend(move_to(&mut tx, &before, HookStatus::Disabled, by, now).await?);
            }
            HookChange::Set(change) => {
                made.push(Made::changed(change.names()));
                let settings = serde_json::from_str(&row.settings);
                let mut settings: HookSettings = settings.map_err(|_| not_understood(id))?;
                settings.apply(change);
                settings.check()?;
                set_settings(&mut tx, id, &settings, now).await?;
            }
            HookChange::Edit(edit) => {
                let (status, names) = (edit.status, edit.names());
                self.edit(&mut tx, &row, *edit, now).await?;
                if !names.is_empty() {
                    made.push(Made::changed(names));
                }
                if status == Some(HookStatus::Active) {
                    forget_failures(&mut tx, &row, now).await?;
                }
                if let Some(status) = status {
                    made.extend(move_to(&mut tx, &before, status, by, now).await?);
                }
            }
            HookChange::Rotate {
                secret: new,
                overlap_until,
            } => {
                let mut credentials = row.open(&self.keys)?;
                secret = Some(new.reveal());
                credentials.rotate(new, now, overlap_until);
                let sealed = self.seal(id, &credentials)?;
                set_credentials(&mut tx, id, sealed, now).await?;
                made.push(Made::of(HookAction::SecretRotated));
            }
        }
        for made in made {
            announce_change(&mut tx, &before, made.action, by, now).await?;
            let entry = AuditEntry {
                reason: made.reason,
                fail_count: before.fail_count,
                last_error: before.last_error.clone(),
                ..AuditEntry::new(id, made.action, by)
            };
            record(&mut tx, &[entry], now).await?;
        }
        let mut report = report(&mut tx, id).await?;
        tx.commit().await?;
        report.secret = secret;
        Ok(report)
    }

    pub(super) async fn delete_hook(
        &self,
        id: HookId,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        let mut tx = self.writer.begin().await?;
        let report = report(&mut tx, id).await?;
        let version = next_version(&mut tx).await?;
        sqlx::query(
            "-- postrider: remove_hook
            UPDATE postrider_hooks SET deleted_at = ?2, updated_at = ?2, version = ?3
            WHERE id = ?1 AND deleted_at IS NULL",
        )
        .bind(id.0)
        .bind(micros(now))
        .bind(version)
        .execute(&mut *tx)
        .await?;
        let entry = AuditEntry {
            fail_count: report.fail_count,
            last_error: report.last_error.clone(),
            ..AuditEntry::new(id, HookAction::Removed, by)
        };
        record(&mut tx, &[entry], now).await?;
        tx.commit().await?;
        Ok(report)
    }

    pub(super) async fn find_hook(&self, id: HookId) -> Result<HookReport> {
        let mut connection = self.readers.acquire().await?;
        report(&mut connection, id).await
    }

    pub(super) async fn open_hook(&self, id: HookId) -> Result<Hook> {
        let mut connection = self.readers.acquire().await?;
        let row = find(&mut connection, id).await?;
        let credentials = row.open(&self.keys)?;
        Ok(row.into_hook(Some(credentials)))
    }

    pub(super) async fn list_hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        let after = filter.after.map(|id| id.0.as_bytes().to_vec());
        let found: Vec<ReportRow> = match &filter.account {
            Some(account) => {
                sqlx::query_as(concat!(
                    "-- postrider: hooks_of_account\n",
                    report_columns!(),
                    "WHERE h.account = ?4 AND h.id > ?2 AND h.deleted_at IS NULL
                       AND (?5 IS NULL OR h.profile = ?5)
                     ORDER BY h.id LIMIT ?3"
                ))
                .bind(HELD_COUNTED)
                .bind(after.unwrap_or_default())
                .bind(filter.limit)
                .bind(account)
                .bind(&filter.profile)
                .fetch_all(&self.readers)
                .await
            }
            None => {
                sqlx::query_as(concat!(
                    "-- postrider: hooks\n",
                    report_columns!(),
                    "WHERE h.id > ?2 AND h.deleted_at IS NULL
                       AND (?4 IS NULL OR h.profile = ?4)
                     ORDER BY h.id LIMIT ?3"
                ))
                .bind(HELD_COUNTED)
                .bind(after.unwrap_or_default())
                .bind(filter.limit)
                .bind(&filter.profile)
                .fetch_all(&self.readers)
                .await
            }
        }?;
        Ok(found.into_iter().map(ReportRow::into_report).collect())
    }

    async fn edit(
        &self,
        tx: &mut SqliteConnection,
        row: &HookRow,
        edit: HookEdit,
        now: Timestamp,
    ) -> Result<()> {
        let mut sealed = row.credentials.clone();
        let concerns_credentials = edit.concerns_credentials();
        let credentials = match concerns_credentials {
            true => row.open(&self.keys)?,
            false => HookCredentials::default(),
        };
        let mut hook = row.clone().into_hook(Some(credentials));
        if hook.locked {
            return Err(not_understood(row.id));
        }
        edit.apply(&mut hook)?;
        if concerns_credentials {
            sealed = self.seal(row.id, &hook.credentials)?;
        }
        let version = next_version(tx).await?;
        sqlx::query(
            "-- postrider: edit_hook
            UPDATE postrider_hooks
            SET url = ?2, events = ?3, settings = ?4, credentials = ?5, updated_at = ?6,
                version = ?7
            WHERE id = ?1",
        )
        .bind(row.id.0)
        .bind(&hook.url)
        .bind(rows(&hook.events))
        .bind(sqlx::types::Json(&hook.settings))
        .bind(sealed)
        .bind(micros(now))
        .bind(version)
        .execute(tx)
        .await?;
        Ok(())
    }

    fn seal(&self, id: HookId, credentials: &HookCredentials) -> Result<String> {
        let json = serde_json::to_vec(credentials)
            .map_err(|error| Error::Refused(sqlx::Error::Encode(error.into())))?;
        Ok(self.keys.seal(PURPOSE, id.0, &json)?)
    }
}

struct ReportRow {
    hook: HookRow,
    fail_count: u32,
    first_failure_at: Option<i64>,
    last_error: Option<String>,
    not_before: Option<i64>,
    latest_sent_at: Option<i64>,
    latest_status: Option<u16>,
    held: u32,
    oldest_held: Option<Uuid>,
}

impl FromRow<'_, SqliteRow> for ReportRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            hook: HookRow::from_row(row)?,
            fail_count: row.try_get::<Option<u32>, _>("fail_count")?.unwrap_or(0),
            first_failure_at: row.try_get("first_failure_at")?,
            last_error: row.try_get("last_error")?,
            not_before: row.try_get("not_before")?,
            latest_sent_at: row.try_get("latest_sent_at")?,
            latest_status: row.try_get("latest_status")?,
            held: row.try_get("held")?,
            oldest_held: row.try_get("oldest_held")?,
        })
    }
}

impl ReportRow {
    fn into_report(self) -> HookReport {
        let hook = self.hook;
        let mut settings: HookSettings = serde_json::from_str(&hook.settings).unwrap_or_default();
        HookReport {
            id: hook.id,
            alias: hook.alias,
            account: hook.account,
            url: hook.url,
            events: serde_json::from_str(&hook.events).unwrap_or_default(),
            filter: settings.filter.take(),
            profile: hook.profile,
            secret: None,
            status: hook.status,
            fail_count: self.fail_count,
            first_failure_at: self.first_failure_at.map(moment),
            last_error: self.last_error,
            phase: hook.phase.as_deref().and_then(Phase::from_name),
            not_before: self.not_before.map(moment),
            disabled_reason: hook.disabled_reason,
            disabled_at: hook.disabled_at.map(moment),
            disabled_by: hook.disabled_by,
            latest_sent_at: self.latest_sent_at.map(moment),
            latest_status: self.latest_status,
            held: self.held,
            oldest_held_at: self.oldest_held.map(|id| DeliveryId(id).event_made_at()),
            settings,
            created_at: moment(hook.created_at),
            updated_at: moment(hook.updated_at),
        }
    }
}

pub(super) async fn report(connection: &mut SqliteConnection, id: HookId) -> Result<HookReport> {
    let found: Option<ReportRow> = sqlx::query_as(concat!(
        "-- postrider: hook\n",
        report_columns!(),
        "WHERE h.id = ?2 AND h.deleted_at IS NULL"
    ))
    .bind(HELD_COUNTED)
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    found.map(ReportRow::into_report).ok_or(not_found(id))
}

async fn find(connection: &mut SqliteConnection, id: HookId) -> Result<HookRow> {
    sqlx::query_as(
        "-- postrider: hook_with_credentials
        SELECT id, alias, account, url, events, profile, status, disabled_reason, disabled_at,
            disabled_by, settings, credentials, created_at, updated_at, deleted_at, version, phase
        FROM postrider_hooks LEFT JOIN postrider_hook_health ON hook_id = id
        WHERE id = ?1 AND deleted_at IS NULL",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?
    .ok_or(not_found(id))
}

/// Announces that a hook was disabled or is active again, where another hook asks for it.
async fn announce_change(
    tx: &mut SqliteConnection,
    before: &HookReport,
    action: HookAction,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    let was_active = before.status == HookStatus::Active.name();
    let (event_type, reason) = match action {
        HookAction::Enabled if !was_active => (HOOK_ENABLED, None),
        HookAction::Disabled => (HOOK_DISABLED, Some(DisabledReason::Manual.name())),
        _ => return Ok(()),
    };
    if !is_watched(tx, &before.account, event_type, before.id).await? {
        return Ok(());
    }
    let notice = HookNotice {
        reason,
        fail_count: before.fail_count,
        first_failure_at: before.first_failure_at,
        last_error: before.last_error.clone(),
        ..notice_of(before.id, &before.url, by, now)
    };
    let made = OperationalEvent::new(&before.account, event_type, before.id, &notice);
    announce(tx, &[made], now).await
}

/// The number under which a change of a hook stands.
pub(super) async fn next_version(tx: &mut SqliteConnection) -> Result<i64> {
    sqlx::query_scalar(
        "-- postrider: next_version
        UPDATE postrider_meta SET hooks_version = hooks_version + 1 RETURNING hooks_version",
    )
    .fetch_one(tx)
    .await
    .map_err(Into::into)
}

/// Sets the status of a hook that has another one; tells what that is, if it is anything.
async fn move_to(
    tx: &mut SqliteConnection,
    before: &HookReport,
    status: HookStatus,
    by: &str,
    now: Timestamp,
) -> Result<Option<Made>> {
    if before.status == status.name() {
        return Ok(None);
    }
    let why = (status == HookStatus::Disabled).then_some((DisabledReason::Manual, by));
    set_status(tx, before.id, status, why, now).await?;
    Ok(Some(Made::status(status)))
}

/// Sets the status of an existing hook, and why it is disabled.
async fn set_status(
    tx: &mut SqliteConnection,
    id: HookId,
    status: HookStatus,
    disabled: Option<(DisabledReason, &str)>,
    now: Timestamp,
) -> Result<()> {
    let version = next_version(tx).await?;
    sqlx::query(
        "-- postrider: change_hook
        UPDATE postrider_hooks
        SET status = ?2, disabled_reason = ?3, disabled_by = ?4,
            disabled_at = CASE WHEN ?3 IS NOT NULL THEN ?5 END, updated_at = ?5, version = ?6
        WHERE id = ?1",
    )
    .bind(id.0)
    .bind(status.name())
    .bind(disabled.map(|(reason, _)| reason.name()))
    .bind(disabled.map(|(_, by)| by))
    .bind(micros(now))
    .bind(version)
    .execute(tx)
    .await?;
    Ok(())
}

async fn set_settings(
    tx: &mut SqliteConnection,
    id: HookId,
    settings: &HookSettings,
    now: Timestamp,
) -> Result<()> {
    let version = next_version(tx).await?;
    sqlx::query(
        "-- postrider: set_hook
        UPDATE postrider_hooks SET settings = ?2, updated_at = ?3, version = ?4 WHERE id = ?1",
    )
    .bind(id.0)
    .bind(sqlx::types::Json(settings))
    .bind(micros(now))
    .bind(version)
    .execute(tx)
    .await?;
    Ok(())
}

async fn set_credentials(
    tx: &mut SqliteConnection,
    id: HookId,
    sealed: String,
    now: Timestamp,
) -> Result<()> {
    let version = next_version(tx).await?;
    sqlx::query(
        "-- postrider: rotate_secret
        UPDATE postrider_hooks SET credentials = ?2, updated_at = ?3, version = ?4 WHERE id = ?1",
    )
    .bind(id.0)
    .bind(sealed)
    .bind(micros(now))
    .bind(version)
    .execute(tx)
    .await?;
    Ok(())
}

/// A hook that was not active, or is held back, begins with a probe.
async fn forget_failures(tx: &mut SqliteConnection, row: &HookRow, now: Timestamp) -> Result<()> {
    let probes = row.status != HookStatus::Active.name()
        || row.phase.as_deref() == Some(Phase::BackedOff.name());
    let phase = match probes {
        true => Some(Phase::BackedOff.name()),
        false => row.phase.as_deref(),
    };
    sqlx::query(
        "-- postrider: forget_failures
        REPLACE INTO postrider_hook_health (hook_id, phase, not_before) VALUES (?1, ?2, ?3)",
    )
    .bind(row.id.0)
    .bind(phase)
    .bind(probes.then_some(micros(now)))
    .execute(tx)
    .await?;
    Ok(())
}

/// Disables a hook because of its failures, if it is active. Returns whether it was.
pub(super) async fn disable(
    tx: &mut SqliteConnection,
    id: HookId,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<bool> {
    let active = is_active(tx, id).await?;
    if active {
        let why = Some((reason, OURSELVES));
        set_status(tx, id, HookStatus::Disabled, why, now).await?;
    }
    Ok(active)
}

pub(super) async fn is_active(tx: &mut SqliteConnection, id: HookId) -> Result<bool> {
    sqlx::query_scalar(
        "-- postrider: is_active
        SELECT EXISTS (
            SELECT 1 FROM postrider_hooks
            WHERE id = ?1 AND status = 'active' AND deleted_at IS NULL
        )",
    )
    .bind(id.0)
    .fetch_one(tx)
    .await
    .map_err(Into::into)
}

pub(super) fn not_found(id: HookId) -> Error {
    Error::NotFound {
        what: "hook",
        id: id.to_string(),
    }
}
