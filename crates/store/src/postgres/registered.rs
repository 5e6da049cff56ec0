//! Hooks as their profile's own API shows them: by alias, with credentials and the latest answer.

use super::hook_cache::hook_columns;
use super::pool::Pool;
use crate::hook_row::registered_hook;
use crate::{LatestAnswer, RegisteredFilter, RegisteredHook, Result};
use postrider_core::KeyRing;
use sqlx::postgres::PgBindIterExt;

/// Reads hooks with their credentials, the last alias first.
pub(super) async fn registered(
    pool: &Pool,
    keys: &KeyRing,
    filter: &RegisteredFilter,
) -> Result<Vec<RegisteredHook>> {
    let rows = sqlx::query(concat!(
        "-- postrider: registered
        SELECT ",
        hook_columns!(),
        ", health.fail_count, latest.at AS latest_sent_at,
           latest.status AS latest_status
        FROM postrider_hooks AS h
        LEFT JOIN postrider_hook_health AS health ON health.hook_id = h.id
        LEFT JOIN postrider_hook_latest AS latest ON latest.hook_id = h.id
        WHERE h.account = $1 AND h.profile = $2 AND h.deleted_at IS NULL
          AND h.alias IS NOT NULL AND ($3::text IS NULL OR h.alias = $3)
          AND ($4::text IS NULL OR h.alias <= $4)
        ORDER BY h.alias DESC LIMIT $5",
    ))
    .bind(&filter.account)
    .bind(&filter.profile)
    .bind(&filter.only)
    .bind(&filter.up_to)
    .bind(i64::from(filter.limit))
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| registered_hook(row, keys)).collect()
}

/// Records the latest answers of hooks, where they are newer than those on record.
pub(super) async fn note_latest(pool: &Pool, latest: &[LatestAnswer]) -> Result<()> {
    if latest.is_empty() {
        return Ok(());
    }
    let status =
        |latest: &LatestAnswer| latest.status.and_then(|status| i16::try_from(status).ok());
    sqlx::query(
        "-- postrider: note_latest
        INSERT INTO postrider_hook_latest AS known (hook_id, at, status)
        SELECT DISTINCT ON (hook_id) hook_id, at, status
        FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[]) AS l (hook_id, at, status)
        ORDER BY hook_id, at DESC
        ON CONFLICT (hook_id) DO UPDATE SET at = excluded.at, status = excluded.status
        WHERE known.at <= excluded.at",
    )
    .bind(latest.iter().map(|latest| latest.hook.0).bind_iter())
    .bind(latest.iter().map(|latest| latest.at).bind_iter())
    .bind(latest.iter().map(status).bind_iter())
    .execute(pool)
    .await?;
    Ok(())
}
