//! Attempts on their way into the database: packed into one blob, which the statement takes
//! apart with `substr`. It is the statement that runs for every attempt, and this way takes a
//! third of what the same rows take as JSON.

use super::values::{push_number, push_padded, rows};
use crate::Result;
use sqlx::SqliteConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// A row of `postrider_attempts`.
pub(super) struct AttemptRow<'a> {
    pub day: i32,
    pub delivery_id: Uuid,
    pub id: Uuid,
    pub event_id: Uuid,
    pub hook_id: Uuid,
    pub number: u32,
    pub at: i64,
    pub duration_ms: u32,
    pub outcome: &'static str,
    pub status: Option<u16>,
    pub error: Option<String>,
    /// Nothing is kept of an empty one.
    pub response: &'a [u8],
}

/// What the names of outcomes are padded to.
const OUTCOME_BYTES: usize = 16;

impl AttemptRow<'_> {
    /// Writes the row as the statement below reads it: where in it the error begins and where
    /// it ends, the ids, the numbers, the outcome, the response, the error.
    fn pack(&self, blob: &mut Vec<u8>) {
        const FIXED_BYTES: usize = 2 * 10 + 4 * 16 + 20 + 3 * 10 + OUTCOME_BYTES;
        let error = self.error.as_deref().unwrap_or_default();
        let error_at = FIXED_BYTES + self.response.len();
        push_number::<10>(blob, error_at);
        push_number::<10>(blob, error_at + error.len());
        for id in [self.delivery_id, self.id, self.event_id, self.hook_id] {
            blob.extend_from_slice(id.as_bytes());
        }
        push_number::<20>(blob, self.at);
        push_number::<10>(blob, self.number);
        push_number::<10>(blob, self.duration_ms);
        push_number::<10>(blob, self.status.unwrap_or_default());
        push_padded::<OUTCOME_BYTES>(blob, self.outcome);
        blob.extend_from_slice(self.response);
        blob.extend_from_slice(error.as_bytes());
    }
}

/// Records attempts. One that was recorded before is left as it is: the attempt itself, or
/// another with its number, unless it is late.
pub(super) async fn insert_attempts(
    tx: &mut SqliteConnection,
    mut attempts: Vec<AttemptRow<'_>>,
    late: bool,
) -> Result<()> {
    // In the order of the keys, which is nearly that of time: the database then adds at the end.
    attempts.sort_unstable_by_key(|row| (row.day, row.delivery_id));
    for of_day in attempts.chunk_by(|a, b| a.day == b.day) {
        let mut packed = Vec::with_capacity(of_day.len() * 192);
        of_day.iter().for_each(|row| row.pack(&mut packed));
        sqlx::query(
            "-- postrider: settle_attempts
            WITH RECURSIVE packed (at, error_at, next) AS (
                SELECT 1, 1 + CAST(substr(?1, 1, 10) AS INTEGER),
                    1 + CAST(substr(?1, 11, 10) AS INTEGER)
                UNION ALL
                SELECT next, next + CAST(substr(?1, next, 10) AS INTEGER),
                    next + CAST(substr(?1, next + 10, 10) AS INTEGER)
                FROM packed WHERE next < length(?1)
            )
            INSERT INTO postrider_attempts
                (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms, outcome,
                 status, late, error, response)
            SELECT 0, ?2, substr(?1, at + 20, 16), substr(?1, at + 36, 16),
                substr(?1, at + 52, 16), substr(?1, at + 68, 16),
                CAST(substr(?1, at + 104, 10) AS INTEGER),
                CAST(substr(?1, at + 84, 20) AS INTEGER),
                CAST(substr(?1, at + 114, 10) AS INTEGER),
                rtrim(substr(?1, at + 134, 16)),
                nullif(CAST(substr(?1, at + 124, 10) AS INTEGER), 0), ?3,
                iif(error_at < next, CAST(substr(?1, error_at, next - error_at) AS TEXT), NULL),
                iif(at + 150 < error_at, substr(?1, at + 150, error_at - at - 150), NULL)
            FROM packed WHERE true
            ON CONFLICT DO NOTHING",
        )
        .bind(packed)
        .bind(of_day.first().map(|row| row.day))
        .bind(late)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Which of these attempts have been recorded before.
pub(super) async fn recorded_before(
    tx: &mut SqliteConnection,
    attempts: &[AttemptRow<'_>],
) -> Result<HashSet<Uuid>> {
    if attempts.is_empty() {
        return Ok(HashSet::new());
    }
    let keys = attempts
        .iter()
        .map(|row| (row.day, row.delivery_id.simple(), row.id.simple()));
    let recorded: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: settle_repeated
        WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        SELECT a.id FROM s CROSS JOIN postrider_attempts AS a
        ON a.slot = 0 AND a.day = v ->> 0 AND a.delivery_id = unhex(v ->> 1)
            AND a.id = unhex(v ->> 2)",
    )
    .bind(rows(keys))
    .fetch_all(tx)
    .await?;
    Ok(recorded.into_iter().collect())
}
