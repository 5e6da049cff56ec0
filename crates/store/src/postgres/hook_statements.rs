//! The statements of a transaction that changes a hook.
//!
//! Such a transaction holds the one row of `postrider_meta` until it commits.

use super::connection::Connection;
use super::hook_cache::hook_columns;
use super::hook_history::record;
use super::hooks::report_hook;
use super::operational_events::{announce, is_watched};
use crate::audit_entry::AuditEntry;
use crate::count::count;
use crate::hook_change::{HookFailures, HookPatch, HookStatements, PreparedHook};
use crate::hook_row::{HookRow, settings_text};
use crate::operational_events::OperationalEvent;
use crate::{HookReport, Result};
use async_trait::async_trait;
use postrider_core::{HookId, HookStatus, Timestamp};

/// The slot of the operational events of changes by a person.
const ANNOUNCED_IN: i16 = 0;

#[async_trait]
impl HookStatements for Connection {
    async fn lock_hooks(&mut self) -> Result<()> {
        sqlx::query(
            "-- postrider: lock_hooks
            SELECT FROM postrider_meta WHERE singleton FOR NO KEY UPDATE",
        )
        .execute(self)
        .await?;
        Ok(())
    }

    async fn count_hooks(&mut self, account: &str, profile: &str) -> Result<u32> {
        let hooks: i64 = sqlx::query_scalar(
            "-- postrider: hooks_of_profile
            SELECT count(*) FROM postrider_hooks
            WHERE account = $1 AND profile = $2 AND deleted_at IS NULL",
        )
        .bind(account)
        .bind(profile)
        .fetch_one(self)
        .await?;
        Ok(count(hooks))
    }

    async fn next_alias(&mut self, profile: &str) -> Result<i64> {
        let number = sqlx::query_scalar(
            "-- postrider: next_alias
            INSERT INTO postrider_aliases AS a (profile, last) VALUES ($1, 1)
            ON CONFLICT (profile) DO UPDATE SET last = a.last + 1
            RETURNING last",
        )
        .bind(profile)
        .fetch_one(self)
        .await?;
        Ok(number)
    }

    async fn insert_hook(
        &mut self,
        hook: &PreparedHook,
        alias: Option<&str>,
        now: Timestamp,
    ) -> Result<bool> {
        let new = &hook.new;
        let events: Vec<_> = new.events.iter().map(ToString::to_string).collect();
        let inserted = sqlx::query(
            "-- postrider: create_hook
            WITH next AS (
                UPDATE postrider_meta SET hooks_version = hooks_version + 1 WHERE singleton
                RETURNING hooks_version
            )
            INSERT INTO postrider_hooks
                (id, account, url, events, profile, status, settings, limited, ordered,
                 credentials, created_at, updated_at, version, alias)
            SELECT $1, $2, $3, $4, $5, 'active', $6::json, $7, $8, $9, $10, $10, hooks_version, $11
            FROM next
            ON CONFLICT (profile, alias) WHERE alias IS NOT NULL DO NOTHING",
        )
        .bind(hook.id.0)
        .bind(&new.account)
        .bind(&new.url)
        .bind(events)
        .bind(&new.profile)
        .bind(settings_text(&new.settings))
        .bind(new.settings.is_limited())
        .bind(new.settings.ordered.is_some())
        .bind(&hook.credentials)
        .bind(now)
        .bind(alias)
        .execute(self)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn find_hook(&mut self, id: HookId) -> Result<Option<HookRow>> {
        let row = sqlx::query(concat!(
            "-- postrider: hook_with_credentials
            SELECT ",
            hook_columns!(),
            " FROM postrider_hooks AS h
            LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
            WHERE h.id = $1 AND h.deleted_at IS NULL",
        ))
        .bind(id.0)
        .fetch_optional(self)
        .await?;
        Ok(row.as_ref().map(HookRow::read).transpose()?)
    }

    async fn lock_failures(&mut self, id: HookId) -> Result<HookFailures> {
        let row = sqlx::query(
            "-- postrider: lock_failures
            SELECT fail_count, first_failure_at, last_error FROM postrider_hook_health
            WHERE hook_id = $1 FOR UPDATE",
        )
        .bind(id.0)
        .fetch_optional(self)
        .await?;
        let failures = row.as_ref().map(HookFailures::read).transpose()?;
        Ok(failures.unwrap_or_default())
    }

    async fn forget_failures(&mut self, id: HookId, now: Timestamp) -> Result<()> {
        sqlx::query(
            "-- postrider: forget_failures
            INSERT INTO postrider_hook_health (hook_id, phase, not_before)
            SELECT id, 'backed_off', $2 FROM postrider_hooks WHERE id = $1 AND status <> 'active'
            ON CONFLICT (hook_id) DO UPDATE SET phase = 'backed_off'",
        )
        .bind(id.0)
        .bind(now)
        .execute(&mut *self)
        .await?;
        sqlx::query(
            "-- postrider: forget_failures_of_known
            UPDATE postrider_hook_health
            SET fail_count = 0, first_failure_at = NULL, last_failure_at = NULL, last_error = NULL,
                not_before = CASE WHEN phase = 'backed_off' THEN $2 END, probes = 0,
                warned_at = NULL, recent_requests = DEFAULT
            WHERE hook_id = $1",
        )
        .bind(id.0)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn update_hook(
        &mut self,
        id: HookId,
        patch: &HookPatch,
        by: &str,
        now: Timestamp,
    ) -> Result<()> {
        sqlx::query(
            "-- postrider: change_hook
            WITH next AS (
                UPDATE postrider_meta SET hooks_version = hooks_version + 1 WHERE singleton
                RETURNING hooks_version
            )
            UPDATE postrider_hooks
            SET url = coalesce($2, url), events = coalesce($3, events),
                settings = coalesce($4::json, settings), limited = coalesce($5, limited),
                ordered = coalesce($6, ordered), credentials = coalesce($7, credentials),
                status = coalesce($8, status),
                disabled_reason = CASE WHEN $8 IS NULL THEN disabled_reason
                                       WHEN $8 = 'disabled' THEN 'manual' END,
                disabled_at = CASE WHEN $8 IS NULL THEN disabled_at
                                   WHEN $8 = 'disabled' THEN $10 END,
                disabled_by = CASE WHEN $8 IS NULL THEN disabled_by
                                   WHEN $8 = 'disabled' THEN $9 END,
                updated_at = $10, version = next.hooks_version
            FROM next WHERE id = $1",
        )
        .bind(id.0)
        .bind(&patch.url)
        .bind(&patch.events)
        .bind(patch.settings.as_ref().map(settings_text))
        .bind(patch.is_limited())
        .bind(patch.is_ordered())
        .bind(&patch.credentials)
        .bind(patch.status.map(HookStatus::name))
        .bind(by)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn mark_deleted(&mut self, id: HookId, now: Timestamp) -> Result<()> {
        sqlx::query(
            "-- postrider: remove_hook
            WITH next AS (
                UPDATE postrider_meta SET hooks_version = hooks_version + 1 WHERE singleton
                RETURNING hooks_version
            )
            UPDATE postrider_hooks
            SET deleted_at = $2, updated_at = $2, version = next.hooks_version
            FROM next WHERE id = $1",
        )
        .bind(id.0)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn report_hook(&mut self, id: HookId) -> Result<Option<HookReport>> {
        report_hook(self, id).await
    }

    async fn record(&mut self, entries: &[AuditEntry], now: Timestamp) -> Result<()> {
        record(self, entries, now).await
    }

    async fn announce_if_watched(
        &mut self,
        event: &OperationalEvent,
        now: Timestamp,
    ) -> Result<()> {
        if is_watched(self, &event.account, event.event_type, event.about).await? {
            announce(self, ANNOUNCED_IN, std::slice::from_ref(event), now).await?;
        }
        Ok(())
    }
}
