//! Hooks as the API of their profile counts them: their aliases, their number, their latest answer.

use super::SqliteStore;
use super::values::{hex, micros, rows};
use crate::{LatestAnswer, Result};
use postrider_core::{HookError, NewHook};
use sqlx::SqliteConnection;

impl SqliteStore {
    pub(super) async fn record_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
        if latest.is_empty() {
            return Ok(());
        }
        let latest = latest.iter().map(|latest| {
            let hook = hex(latest.hook.0.as_bytes());
            (hook, micros(latest.at), latest.status)
        });
        let mut tx = self.writer.begin().await?;
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
}

/// Refuses a hook that would be one too many of its profile in its account.
pub(super) async fn check_room(tx: &mut SqliteConnection, new: &NewHook) -> Result<()> {
    let Some(at_most) = new.at_most else {
        return Ok(());
    };
    let taken: u32 = sqlx::query_scalar(
        "-- postrider: hooks_of_profile
        SELECT count(*) FROM postrider_hooks
        WHERE account = ?1 AND profile = ?2 AND deleted_at IS NULL",
    )
    .bind(&new.account)
    .bind(&new.profile)
    .fetch_one(tx)
    .await?;
    match taken >= at_most {
        true => Err(HookError::TooMany(taken).into()),
        false => Ok(()),
    }
}

/// Draws the next number of a profile whose aliases are numbers.
pub(super) async fn next_number(tx: &mut SqliteConnection, profile: &str) -> Result<String> {
    let number: i64 = sqlx::query_scalar(
        "-- postrider: next_alias
        INSERT INTO postrider_aliases (profile, last) VALUES (?1, 1)
        ON CONFLICT (profile) DO UPDATE SET last = last + 1
        RETURNING last",
    )
    .bind(profile)
    .fetch_one(tx)
    .await?;
    Ok(number.to_string())
}
