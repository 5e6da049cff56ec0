//! Hooks as the API of their profile counts them: their aliases, their number, their latest answer.

use super::PostgresStore;
use crate::LatestAnswer;
use crate::Result;
use postrider_core::{HookError, NewHook};
use sqlx::PgConnection;
use sqlx::postgres::PgBindIterExt;

impl PostgresStore {
    pub(super) async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()> {
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
        .execute(&self.calm)
        .await?;
        Ok(())
    }
}

/// Refuses a hook that would be one too many of its profile in its account.
pub(super) async fn check_room(connection: &mut PgConnection, new: &NewHook) -> Result<()> {
    let Some(at_most) = new.at_most else {
        return Ok(());
    };
    let taken: i64 = sqlx::query_scalar(
        "-- postrider: hooks_of_profile
        SELECT count(*) FROM postrider_hooks
        WHERE account = $1 AND profile = $2 AND deleted_at IS NULL",
    )
    .bind(&new.account)
    .bind(&new.profile)
    .fetch_one(connection)
    .await?;
    match taken >= i64::from(at_most) {
        true => Err(HookError::TooMany(u32::try_from(taken).unwrap_or(at_most)).into()),
        false => Ok(()),
    }
}

/// Draws the next number of a profile whose aliases are numbers.
pub(super) async fn next_number(connection: &mut PgConnection, profile: &str) -> Result<String> {
    let number: i64 = sqlx::query_scalar(
        "-- postrider: next_alias
        INSERT INTO postrider_aliases AS a (profile, last) VALUES ($1, 1)
        ON CONFLICT (profile) DO UPDATE SET last = a.last + 1
        RETURNING last",
    )
    .bind(profile)
    .fetch_one(connection)
    .await?;
    Ok(number.to_string())
}
