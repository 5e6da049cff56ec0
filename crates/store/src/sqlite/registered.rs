//! Hooks as their profile's own API shows them: by alias, with credentials and the latest answer.

use super::hook_cache::hook_columns;
use super::values::{hex, micros, rows};
use super::writer::Writer;
use crate::hook_row::registered_hook;
use crate::{LatestAnswer, RegisteredFilter, RegisteredHook, Result};
use postrider_core::KeyRing;
use sqlx::SqlitePool;

/// Reads hooks with their credentials, the last alias first.
pub(super) async fn registered(
    pool: &SqlitePool,
    keys: &KeyRing,
    filter: &RegisteredFilter,
) -> Result<Vec<RegisteredHook>> {
    let rows = sqlx::query(concat!(
        "-- postrider: registered
        SELECT ",
        hook_columns!(),
        ", health.fail_count, latest.at AS latest_sent_at, latest.status AS latest_status
        FROM postrider_hooks AS h
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id
        WHERE h.account = ?1 AND h.profile = ?2 AND h.deleted_at IS NULL
          AND h.alias IS NOT NULL AND (?3 IS NULL OR h.alias = ?3)
          AND (?4 IS NULL OR h.alias <= ?4)
        ORDER BY h.alias DESC LIMIT ?5",
    ))
    .bind(&filter.account)
    .bind(&filter.profile)
    .bind(&filter.only)
    .bind(&filter.up_to)
    .bind(filter.limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| registered_hook(row, keys)).collect()
}

/// Records the latest answers of hooks, where they are newer than those on record.
pub(super) async fn note_latest(writer: &Writer, latest: &[LatestAnswer]) -> Result<()> {
    if latest.is_empty() {
        return Ok(());
    }
    let latest = latest.iter().map(|latest| {
        let hook = hex(latest.hook.0.as_bytes());
        (hook, micros(latest.at), latest.status)
    });
    let mut tx = writer.begin().await?;
    sqlx::query(
        "-- postrider: note_latest
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        INSERT INTO postrider_hook_latest (hook_id, at, status)
        SELECT unhex(v ->> 0), v ->> 1, v ->> 2 FROM s WHERE true
        ON CONFLICT (hook_id) DO UPDATE SET at = excluded.at, status = excluded.status
        WHERE at <= excluded.at",
    )
    .bind(rows(latest))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
