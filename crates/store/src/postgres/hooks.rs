//! Hooks: registered, changed, removed and shown.

use super::PostgresStore;
use super::connection::Connection;
use super::hook_cache::hook_columns;
use super::hook_history::hook_history;
use super::registered::{note_latest, registered};
use crate::hook_change::{
    HookStatements, PreparedHook, change_hook, create_hook, found, remove_hook,
};
use crate::hook_row::hook_report;
use crate::{
    HistoryFilter, HookChange, HookChangeReport, HookFilter, HookReport, Hooks, LatestAnswer,
    RegisteredFilter, RegisteredHook, Result,
};
use async_trait::async_trait;
use postrider_core::{Hook, HookId, NewHook, Timestamp};

#[async_trait]
impl Hooks for PostgresStore {
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport> {
        let hook = PreparedHook::of(hook, &self.keys, now)?;
        let mut tx = self.calm.begin().await?;
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
        let mut tx = self.calm.begin().await?;
        let report = change_hook(&mut *tx, &self.keys, id, change, by, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport> {
        let mut tx = self.calm.begin().await?;
        let report = remove_hook(&mut *tx, id, by, now).await?;
        tx.commit().await?;
        Ok(report)
    }

    async fn hook(&self, id: HookId) -> Result<HookReport> {
        let mut connection = self.calm.acquire().await?;
        found(report_hook(&mut connection, id).await?, id)
    }

    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook> {
        let mut connection = self.calm.acquire().await?;
        let row = found(connection.find_hook(id).await?, id)?;
        Ok(row.opened_hook(&self.keys)?)
    }

    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>> {
        let mut connection = self.calm.acquire().await?;
        report_hooks(&mut connection, None, &filter).await
    }

    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>> {
        hook_history(&self.calm, id, filter).await
    }

    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>> {
        registered(&self.calm, &self.keys, &filter).await
    }

    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
        note_latest(&self.calm, latest).await
    }
}

/// Reads a hook that is not deleted as it is shown.
pub(super) async fn report_hook(
    connection: &mut Connection,
    id: HookId,
) -> Result<Option<HookReport>> {
    let filter = HookFilter {
        limit: 1,
        ..HookFilter::default()
    };
    let mut reports = report_hooks(connection, Some(id), &filter).await?;
    Ok(reports.pop())
}

/// Reads the hooks that a filter lets through, or `only` one of them, in the order of their ids.
async fn report_hooks(
    connection: &mut Connection,
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
        ", health.fail_count, health.first_failure_at,
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
    let reports = rows.iter().map(hook_report);
    Ok(reports.collect::<sqlx::Result<_>>()?)
}
