//! Hooks: registered, changed, removed and shown.

use super::SqliteStore;
use super::hook_cache::hook_columns;
use super::hook_history::hook_history;
use super::registered::{note_latest, registered};
use super::values::micros;
use crate::hook_change::{
    HookStatements, PreparedHook, change_hook, create_hook, found, remove_hook,
};
use crate::hook_row::hook_report;
use crate::{
    HistoryFilter, HookChange, HookChangeReport, HookFilter, HookReport, Hooks, LatestAnswer,
    RegisteredFilter, RegisteredHook, Result,
};
use async_trait::async_trait;
use postrider_core::{DisabledReason, Hook, HookId, NewHook, OURSELVES, Timestamp};
use sqlx::SqliteConnection;

/// Deliveries that are held for a hook are counted up to this number.
const HELD_COUNTED: u32 = 10_000;

/// Reads hooks as they are shown. `?1` is [`HELD_COUNTED`].
macro_rules! select_reports {
    () => {
        concat!(
            "SELECT ",
            hook_columns!(),
            ", health.fail_count, health.first_failure_at, health.last_error, health.not_before,
             latest.at AS latest_sent_at, latest.status AS latest_status,
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
             FROM postrider_hooks AS h
             LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
             LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id\n"
        )
    };
}

#[async_trait]
impl Hooks for SqliteStore {
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport> {
        let hook = PreparedHook::of(hook, &self.keys, now)?;
        let mut tx = self.writer.begin().await?;
        let report = create_hook(&mut *tx, &hook, by, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport> {
        let mut tx = self.writer.begin().await?;
        let report = change_hook(&mut *tx, &self.keys, id, change, by, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport> {
        let mut tx = self.writer.begin().await?;
        let report = remove_hook(&mut *tx, id, by, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn hook(&self, id: HookId) -> Result<HookReport> {
        let mut connection = self.readers.acquire().await?;
        found(report_hook(&mut connection, id).await?, id)
    }

    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        let mut connection = self.readers.acquire().await?;
        let row = found(connection.find_hook(id).await?, id)?;
        Ok(row.opened_hook(&self.keys)?)
    }

    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        let after = filter.after.map(|id| id.0.as_bytes().to_vec());
        // Each is one walk along an index.
        let statement = match filter.account {
            Some(_) => concat!(
                "-- postrider: hooks_of_account\n",
                select_reports!(),
                "WHERE h.account = ?4 AND h.id > ?2 AND h.deleted_at IS NULL
                   AND (?5 IS NULL OR h.profile = ?5)
                 ORDER BY h.id LIMIT ?3"
            ),
            None => concat!(
                "-- postrider: hooks\n",
                select_reports!(),
                "WHERE ?4 IS NULL AND h.id > ?2 AND h.deleted_at IS NULL
                   AND (?5 IS NULL OR h.profile = ?5)
                 ORDER BY h.id LIMIT ?3"
            ),
        };
        let rows = sqlx::query(statement)
            .bind(HELD_COUNTED)
            .bind(after.unwrap_or_default())
            .bind(filter.limit)
            .bind(&filter.account)
            .bind(&filter.profile)
            .fetch_all(&self.readers)
            .await?;
        let reports = rows.iter().map(hook_report);
        Ok(reports.collect::<sqlx::Result<_>>()?)
    }

    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        hook_history(&self.readers, id, filter).await
    }

    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>> {
        registered(&self.readers, &self.keys, &filter).await
    }

    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
        note_latest(&self.writer, latest).await
    }
}

/// Reads a hook that is not deleted as it is shown.
pub(super) async fn report_hook(
    connection: &mut SqliteConnection,
    id: HookId,
) -> Result<Option<HookReport>> {
    let row = sqlx::query(concat!(
        "-- postrider: hook\n",
        select_reports!(),
        "WHERE h.id = ?2 AND h.deleted_at IS NULL"
    ))
    .bind(HELD_COUNTED)
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    Ok(row.as_ref().map(hook_report).transpose()?)
}

/// Takes the next version of the hooks.
pub(super) async fn next_version(tx: &mut SqliteConnection) -> Result<i64> {
    sqlx::query_scalar(
        "-- postrider: next_version
        UPDATE postrider_meta SET hooks_version = hooks_version + 1 RETURNING hooks_version",
    )
    .fetch_one(tx)
    .await
    .map_err(Into::into)
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
        let version = next_version(tx).await?;
        sqlx::query(
            "-- postrider: settle_disable
            UPDATE postrider_hooks
            SET status = 'disabled', disabled_reason = ?2, disabled_at = ?3, disabled_by = ?4,
                updated_at = ?3, version = ?5
            WHERE id = ?1",
        )
        .bind(id.0)
        .bind(reason.name())
        .bind(micros(now))
        .bind(OURSELVES)
        .bind(version)
        .execute(tx)
        .await?;
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
