//! Hooks: registered, changed, removed and listed.
//!
//! Every change of a hook holds the one row of `postrider_meta` until it commits, so that the
//! versions of hooks become visible in their order and no cache can miss one.

use super::PostgresStore;
use super::aliases::{check_room, next_number};
use super::hook_history::record;
use super::hook_rows::{hook_columns, hook_from, open, seal};
use super::operational_events::{announce, is_watched};
use crate::Result;
use crate::audit_entry::{AuditEntry, Made};
use crate::error::{alias_taken, not_understood};
use crate::operational_events::{OperationalEvent, notice_of};
use crate::{Error, HookChange, HookFilter, HookReport};
use postrider_core::{
    DeliveryId, DisabledReason, HOOK_DISABLED, HOOK_ENABLED, Hook, HookAction, HookCredentials,
    HookEdit, HookId, HookNotice, HookSettings, HookStatus, NewAlias, NewHook, Timestamp,
};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// The slot of what is announced of a change by a person.
const ANNOUNCED_IN: i16 = 0;

impl PostgresStore {
    pub(super) async fn create_hook(
        &self,
        new: &NewHook,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        new.check()?;
        let id = HookId::draw(now);
        let credentials = seal(&self.keys, id, &new.credentials)?;
        let mut tx = self.calm.begin().await?;
        // From here on nobody else registers a hook until this transaction ends.
        let version = next_version(&mut tx).await?;
        check_room(&mut tx, new).await?;
        let alias = match &new.alias {
            None => None,
            Some(NewAlias::Given(alias)) => Some(alias.clone()),
            Some(NewAlias::NextNumber) => Some(next_number(&mut tx, &new.profile).await?),
        };
        let inserted = sqlx::query(
            "-- postrider: create_hook
            INSERT INTO postrider_hooks
                (id, account, url, events, profile, status, settings, credentials, created_at,
                 updated_at, version, limited, alias, ordered)
            VALUES ($1, $2, $3, $4, $5, 'active', $6::json, $7, $8, $8, $9, $10, $11, $12)
            ON CONFLICT (profile, alias) WHERE alias IS NOT NULL DO NOTHING",
        )
        .bind(id.0)
        .bind(&new.account)
        .bind(&new.url)
        .bind(
            new.events
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
        .bind(&new.profile)
        .bind(settings_text(&new.settings))
        .bind(credentials)
        .bind(now)
        .bind(version)
        .bind(new.settings.is_limited())
        .bind(&alias)
        .bind(new.settings.ordered.is_some())
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(alias_taken(&new.profile, alias.as_deref()));
        }
        let entry = AuditEntry::new(id, HookAction::Created, by);
        record(&mut tx, &[entry], now).await?;
        let mut report = report(&mut tx, id).await?;
        tx.commit().await?;
        let secret = new.credentials.secrets.first();
        report.secret = secret.map(|current| current.secret.reveal());
        Ok(report)
    }

    pub(super) async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        let mut tx = self.calm.begin().await?;
        let failures = lock_failures(&mut tx, id).await?;
        if change.forgets_failures() {
            // Before the version: settling locks the health first too.
            forget_failures(&mut tx, id, now).await?;
        }
        let version = next_version(&mut tx).await?;
        let before = standing(&mut tx, id).await?;
        let (mut revealed, mut made) = (None, Vec::new());
        let moving = Moving {
            id,
            before: &before,
            by,
            now,
            version,
        };
        match change {
            HookChange::Enable => {
                moving.set(&mut tx, HookStatus::Active).await?;
                made.push(Made::status(HookStatus::Active));
            }
            HookChange::Pause => made.extend(moving.to(&mut tx, HookStatus::Paused).await?),
            HookChange::Disable => made.extend(moving.to(&mut tx, HookStatus::Disabled).await?),
            HookChange::Set(change) => {
                made.push(Made::changed(change.names()));
                let mut settings = settings(&mut tx, id).await?;
                settings.apply(change);
                settings.check()?;
                set_settings(&mut tx, id, &settings, now, version).await?;
            }
            HookChange::Edit(edit) => {
                let (status, names) = (edit.status, edit.names());
                self.edit(&mut tx, id, *edit, now, version).await?;
                if !names.is_empty() {
                    made.push(Made::changed(names));
                }
                if let Some(status) = status {
                    made.extend(moving.to(&mut tx, status).await?);
                }
            }
            HookChange::Rotate {
                secret,
                overlap_until,
            } => {
                revealed = Some(secret.reveal());
                let mut credentials = self.credentials(&mut tx, id).await?;
                credentials.rotate(secret, now, overlap_until);
                let sealed = seal(&self.keys, id, &credentials)?;
                set_credentials(&mut tx, id, sealed, now, version).await?;
                made.push(Made::of(HookAction::SecretRotated));
            }
        }
        for made in made {
            moving.announce(&mut tx, made.action, &failures).await?;
            let entry = AuditEntry {
                reason: made.reason,
                fail_count: failures.count,
                last_error: failures.last_error.clone(),
                ..AuditEntry::new(id, made.action, by)
            };
            record(&mut tx, &[entry], now).await?;
        }
        let mut report = report(&mut tx, id).await?;
        tx.commit().await?;
        report.secret = revealed;
        Ok(report)
    }

    pub(super) async fn remove_hook(
        &self,
        id: HookId,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        let mut tx = self.calm.begin().await?;
        let version = next_version(&mut tx).await?;
        let report = report(&mut tx, id).await?;
        sqlx::query(
            "-- postrider: remove_hook
            UPDATE postrider_hooks SET deleted_at = $2, updated_at = $2, version = $3
            WHERE id = $1",
        )
        .bind(id.0)
        .bind(now)
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

    pub(super) async fn hook(&self, id: HookId) -> Result<HookReport> {
        report(&mut *self.calm.acquire().await?, id).await
    }

    pub(super) async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        let row = find(&mut *self.calm.acquire().await?, id).await?;
        let mut hook = hook_from(&row)?;
        hook.credentials = open(&self.keys, id, row.try_get("credentials")?)?;
        Ok(hook)
    }

    pub(super) async fn hooks(&self, filter: &HookFilter) -> Result<Vec<HookReport>> {
        list(&mut *self.calm.acquire().await?, None, filter).await
    }

    async fn edit(
        &self,
        connection: &mut PgConnection,
        id: HookId,
        edit: HookEdit,
        now: Timestamp,
        version: i64,
    ) -> Result<()> {
        let row = find(connection, id).await?;
        let mut sealed: String = row.try_get("credentials")?;
        let mut hook = hook_from(&row)?;
        if hook.locked {
            return Err(not_understood(id));
        }
        let concerns_credentials = edit.concerns_credentials();
        if concerns_credentials {
            hook.credentials = open(&self.keys, id, &sealed)?;
        }
        edit.apply(&mut hook)?;
        if concerns_credentials {
            sealed = seal(&self.keys, id, &hook.credentials)?;
        }
        sqlx::query(
            "-- postrider: edit_hook
            UPDATE postrider_hooks
            SET url = $2, events = $3, settings = $4::json, credentials = $5, updated_at = $6,
                version = $7, limited = $8, ordered = $9
            WHERE id = $1",
        )
        .bind(id.0)
        .bind(&hook.url)
        .bind(
            hook.events
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
        .bind(settings_text(&hook.settings))
        .bind(sealed)
        .bind(now)
        .bind(version)
        .bind(hook.settings.is_limited())
        .bind(hook.settings.ordered.is_some())
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn credentials(
        &self,
        connection: &mut PgConnection,
        id: HookId,
    ) -> Result<HookCredentials> {
        let sealed: Option<String> = sqlx::query_scalar(
            "-- postrider: credentials
            SELECT credentials FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
        Ok(open(&self.keys, id, &sealed.ok_or_else(|| not_found(id))?)?)
    }
}

/// One hook as it is stored; unknown and deleted ones are not found.
async fn find(connection: &mut PgConnection, id: HookId) -> Result<PgRow> {
    let row = sqlx::query(concat!(
        "-- postrider: hook_with_credentials
        SELECT ",
        hook_columns!(),
        " FROM postrider_hooks AS h
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        WHERE h.id = $1 AND h.deleted_at IS NULL",
    ))
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    row.ok_or_else(|| not_found(id))
}

/// Takes the next version of the hooks, and with it the turn to change them.
async fn next_version(connection: &mut PgConnection) -> Result<i64> {
    let version = sqlx::query_scalar(
        "-- postrider: next_version
        UPDATE postrider_meta SET hooks_version = hooks_version + 1 WHERE singleton
        RETURNING hooks_version",
    )
    .fetch_one(connection)
    .await?;
    Ok(version)
}

pub(super) fn not_found(id: HookId) -> Error {
    Error::NotFound {
        what: "hook",
        id: id.to_string(),
    }
}

fn settings_text(settings: &HookSettings) -> String {
    serde_json::to_string(settings).unwrap_or_else(|_| "{}".into())
}

async fn settings(connection: &mut PgConnection, id: HookId) -> Result<HookSettings> {
    let text: Option<String> = sqlx::query_scalar(
        "-- postrider: hook_settings
        SELECT settings::text FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    let settings = serde_json::from_str(&text.ok_or_else(|| not_found(id))?);
    settings.map_err(|_| not_understood(id))
}

/// How a hook stands, as nobody else can change it before this transaction ends.
struct Before {
    status: String,
    account: String,
    url: String,
}

async fn standing(connection: &mut PgConnection, id: HookId) -> Result<Before> {
    let row: Option<(String, String, String)> = sqlx::query_as(
        "-- postrider: hook_standing
        SELECT status, account, url FROM postrider_hooks WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    let (status, account, url) = row.ok_or_else(|| not_found(id))?;
    Ok(Before {
        status,
        account,
        url,
    })
}

/// A hook's failures in a row.
#[derive(Default)]
struct Failures {
    count: u32,
    first_at: Option<Timestamp>,
    last_error: Option<String>,
}

/// Reads a hook's failures, and keeps settlements from adding to them.
async fn lock_failures(connection: &mut PgConnection, id: HookId) -> Result<Failures> {
    let row: Option<(i32, Option<Timestamp>, Option<String>)> = sqlx::query_as(
        "-- postrider: lock_failures
        SELECT fail_count, first_failure_at, last_error FROM postrider_hook_health
        WHERE hook_id = $1 FOR UPDATE",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    let of_row = |(count, first_at, last_error): (i32, _, _)| Failures {
        count: count.unsigned_abs(),
        first_at,
        last_error,
    };
    Ok(row.map(of_row).unwrap_or_default())
}

/// A person's change of a hook's status.
struct Moving<'a> {
    id: HookId,
    before: &'a Before,
    by: &'a str,
    now: Timestamp,
    version: i64,
}

impl Moving<'_> {
    /// Sets the status of a hook that has another one; tells what that is, if it is anything.
    async fn to(&self, connection: &mut PgConnection, status: HookStatus) -> Result<Option<Made>> {
        if self.before.status == status.name() {
            return Ok(None);
        }
        self.set(connection, status).await?;
        Ok(Some(Made::status(status)))
    }

    async fn set(&self, connection: &mut PgConnection, status: HookStatus) -> Result<()> {
        sqlx::query(
            "-- postrider: change_hook
            UPDATE postrider_hooks SET
                status = $2,
                disabled_reason = CASE WHEN $2 = 'disabled' THEN 'manual' END,
                disabled_at = CASE WHEN $2 = 'disabled' THEN $3 END,
                disabled_by = CASE WHEN $2 = 'disabled' THEN $4 END,
                updated_at = $3,
                version = $5
            WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(self.id.0)
        .bind(status.name())
        .bind(self.now)
        .bind(self.by)
        .bind(self.version)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Announces that the hook was disabled or is active again, where another hook asks for it.
    async fn announce(
        &self,
        connection: &mut PgConnection,
        action: HookAction,
        failures: &Failures,
    ) -> Result<()> {
        let was_active = self.before.status == HookStatus::Active.name();
        let (event_type, reason) = match action {
            HookAction::Enabled if !was_active => (HOOK_ENABLED, None),
            HookAction::Disabled => (HOOK_DISABLED, Some(DisabledReason::Manual.name())),
            _ => return Ok(()),
        };
        let account = &self.before.account;
        if !is_watched(connection, account, event_type, self.id).await? {
            return Ok(());
        }
        let notice = HookNotice {
            reason,
            fail_count: failures.count,
            first_failure_at: failures.first_at,
            last_error: failures.last_error.clone(),
            ..notice_of(self.id, &self.before.url, self.by, self.now)
        };
        let made = OperationalEvent::new(account, event_type, self.id, &notice);
        announce(connection, ANNOUNCED_IN, &[made], self.now).await
    }
}

async fn set_settings(
    connection: &mut PgConnection,
    id: HookId,
    settings: &HookSettings,
    now: Timestamp,
    version: i64,
) -> Result<()> {
    sqlx::query(
        "-- postrider: set_hook
        UPDATE postrider_hooks
        SET settings = $2::json, limited = $3, updated_at = $4, version = $5, ordered = $6
        WHERE id = $1",
    )
    .bind(id.0)
    .bind(settings_text(settings))
    .bind(settings.is_limited())
    .bind(now)
    .bind(version)
    .bind(settings.ordered.is_some())
    .execute(connection)
    .await?;
    Ok(())
}

async fn set_credentials(
    connection: &mut PgConnection,
    id: HookId,
    sealed: String,
    now: Timestamp,
    version: i64,
) -> Result<()> {
    sqlx::query(
        "-- postrider: rotate_secret
        UPDATE postrider_hooks SET credentials = $2, updated_at = $3, version = $4
        WHERE id = $1",
    )
    .bind(id.0)
    .bind(sealed)
    .bind(now)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

/// A hook that was not active, or was held back, begins with a probe.
async fn forget_failures(connection: &mut PgConnection, id: HookId, now: Timestamp) -> Result<()> {
    sqlx::query(
        "-- postrider: forget_failures
        INSERT INTO postrider_hook_health AS health (hook_id, phase, not_before)
        SELECT id, 'backed_off', $2 FROM postrider_hooks WHERE id = $1 AND status <> 'active'
        ON CONFLICT (hook_id) DO UPDATE
        SET phase = 'backed_off', not_before = $2, probes = 0, fail_count = 0,
            first_failure_at = NULL, last_failure_at = NULL, last_error = NULL,
            warned_at = NULL",
    )
    .bind(id.0)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "-- postrider: forget_failures_of_active
        UPDATE postrider_hook_health
        SET fail_count = 0, first_failure_at = NULL, last_failure_at = NULL, last_error = NULL,
            not_before = CASE WHEN phase = 'backed_off' THEN $2 END, probes = 0,
            warned_at = NULL
        WHERE hook_id = $1",
    )
    .bind(id.0)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// One hook as it is shown; unknown and deleted ones are not found.
pub(super) async fn report(connection: &mut PgConnection, id: HookId) -> Result<HookReport> {
    let filter = HookFilter {
        limit: 1,
        ..HookFilter::default()
    };
    let mut reports = list(connection, Some(id), &filter).await?;
    reports.pop().ok_or_else(|| not_found(id))
}

async fn list(
    connection: &mut PgConnection,
    only: Option<HookId>,
    filter: &HookFilter,
) -> Result<Vec<HookReport>> {
    let rows = sqlx::query(concat!(
        "-- postrider: hooks
        WITH RECURSIVE occupied AS (
            (SELECT slot FROM postrider_deliveries ORDER BY slot LIMIT 1)
            UNION ALL
            SELECT (SELECT d.slot FROM postrider_deliveries AS d
                    WHERE d.slot > o.slot ORDER BY d.slot LIMIT 1)
            FROM occupied AS o WHERE o.slot IS NOT NULL
        ), listed AS MATERIALIZED (
            SELECT * FROM postrider_hooks
            WHERE deleted_at IS NULL
              AND ($1::uuid IS NULL OR id = $1) AND ($2::text IS NULL OR account = $2)
              AND ($3::uuid IS NULL OR id > $3) AND ($5::text IS NULL OR profile = $5)
            ORDER BY id LIMIT $4
        )
        SELECT ",
        hook_columns!(),
        ", coalesce(health.fail_count, 0) AS fail_count, health.first_failure_at,
               health.last_error, health.not_before, latest.at AS latest_sent_at,
               latest.status AS latest_status,
               CASE WHEN h.status = 'active' THEN 0 ELSE (
                   SELECT count(*) FROM (
                       SELECT FROM occupied AS o CROSS JOIN LATERAL (
                           SELECT FROM postrider_deliveries AS d
                           WHERE d.slot = o.slot AND d.hook_id = h.id AND d.lease_token IS NULL
                           LIMIT 10000
                       ) AS waiting
                       LIMIT 10000
                   ) AS counted
               ) END AS held,
               CASE WHEN h.status <> 'active' THEN (
                   SELECT min(longest_due.id::text COLLATE \"C\")::uuid
                   FROM occupied AS o CROSS JOIN LATERAL (
                       SELECT d.id FROM postrider_deliveries AS d
                       WHERE d.slot = o.slot AND d.hook_id = h.id AND d.lease_token IS NULL
                       ORDER BY d.next_attempt_at LIMIT 100
                   ) AS longest_due
               ) END AS oldest_held
        FROM listed AS h LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id
        ORDER BY h.id",
    ))
    .bind(only.map(|id| id.0))
    .bind(&filter.account)
    .bind(filter.after.map(|id| id.0))
    .bind(i64::from(filter.limit))
    .bind(&filter.profile)
    .fetch_all(connection)
    .await?;
    let reports = rows.iter().map(report_from);
    Ok(reports.collect::<std::result::Result<_, _>>()?)
}

fn report_from(row: &PgRow) -> std::result::Result<HookReport, sqlx::Error> {
    let mut hook = hook_from(row)?;
    let (fail_count, held): (i32, i64) = (row.try_get("fail_count")?, row.try_get("held")?);
    let oldest: Option<Uuid> = row.try_get("oldest_held")?;
    let latest_status: Option<i16> = row.try_get("latest_status")?;
    Ok(HookReport {
        id: hook.id,
        alias: hook.alias,
        account: hook.account,
        url: hook.url,
        events: row.try_get("events")?,
        filter: hook.settings.filter.take(),
        profile: hook.profile,
        secret: None,
        status: hook.status.name().to_owned(),
        fail_count: u32::try_from(fail_count).unwrap_or_default(),
        first_failure_at: row.try_get("first_failure_at")?,
        last_error: row.try_get("last_error")?,
        phase: hook.phase,
        not_before: row.try_get("not_before")?,
        disabled_reason: row.try_get("disabled_reason")?,
        disabled_at: row.try_get("disabled_at")?,
        disabled_by: row.try_get("disabled_by")?,
        latest_sent_at: row.try_get("latest_sent_at")?,
        latest_status: latest_status.and_then(|status| u16::try_from(status).ok()),
        held: u32::try_from(held).unwrap_or_default(),
        oldest_held_at: oldest.map(|id| DeliveryId(id).event_made_at()),
        settings: hook.settings,
        created_at: hook.created_at,
        updated_at: hook.updated_at,
    })
}
