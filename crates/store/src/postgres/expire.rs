//! Deliveries of events that are past their retention end as expired.
//!
//! All deliveries are read in the order of their ids, in stretches: an index by day would cost
//! every waiting delivery, and this is done once a day. The rows of a stretch are named by their
//! `ctid`: a join of ids is planned by statistics, which do not know a backlog that has just
//! arrived, and took a minute.

use super::batches::replace_leaders;
use super::connection::Connection;
use super::prune::slots;
use crate::Result;
use chrono::NaiveDate;
use postrider_core::{Reason, Timestamp};
use uuid::Uuid;

/// Makes the statements use the primary key in its order, whatever the statistics are.
const PLANS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; \
                     SET random_page_cost = 0.001";

const NO_PLANS: &str = "RESET enable_seqscan; RESET enable_bitmapscan; RESET enable_sort; \
                        RESET random_page_cost";

/// The deliveries of past events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExpireResult {
    pub(super) ended: u64,
    /// Leased ones, which stay until they have ended.
    pub(super) in_flight: u64,
}

/// Ends all deliveries of days before `first_kept` that are not leased.
pub(super) async fn expire(
    connection: &mut Connection,
    first_kept: NaiveDate,
    now: Timestamp,
    batch: u32,
) -> Result<ExpireResult> {
    let mut done = ExpireResult::default();
    sqlx::raw_sql(PLANS).execute(&mut *connection).await?;
    for slot in slots(connection).await? {
        let mut after = Some(Uuid::nil());
        while let Some(from) = after {
            type Done = (Option<Uuid>, i64, i64, Vec<Uuid>);
            let (last, ended, in_flight, led): Done = sqlx::query_as(
                "-- postrider: expire
                WITH stretch AS MATERIALIZED (
                    SELECT ctid AS place, id, day FROM postrider_deliveries
                    WHERE slot = $1 AND id > $2 ORDER BY id LIMIT $3
                ), doomed AS MATERIALIZED (
                    SELECT ctid AS place FROM postrider_deliveries
                    WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM stretch WHERE day < $4))
                      AND day < $4 AND lease_token IS NULL
                    FOR UPDATE SKIP LOCKED
                ), gone AS (
                    DELETE FROM postrider_deliveries
                    WHERE slot = $1 AND ctid = ANY(ARRAY(SELECT place FROM doomed))
                    RETURNING day, id, event_id, hook_id, attempts, batch_id
                ), ended AS (
                    INSERT INTO postrider_ended
                        (slot, day, delivery_id, event_id, hook_id, state, reason, attempts,
                         ended_at)
                    SELECT $1, day, id, event_id, hook_id, 'expired', $5, attempts, $6 FROM gone
                    ON CONFLICT (slot, day, delivery_id) DO UPDATE
                    SET state = excluded.state, reason = excluded.reason,
                        attempts = excluded.attempts, ended_at = excluded.ended_at
                    RETURNING delivery_id
                )
                SELECT (SELECT id FROM stretch ORDER BY id DESC LIMIT 1),
                       (SELECT count(*) FROM ended),
                       (SELECT count(*) FROM stretch WHERE day < $4)
                           - (SELECT count(*) FROM ended),
                       ARRAY(SELECT id FROM gone WHERE batch_id = id)",
            )
            .bind(slot)
            .bind(from)
            .bind(i64::from(batch))
            .bind(first_kept)
            .bind(Reason::Expired.name())
            .bind(now)
            .fetch_one(&mut *connection)
            .await?;
            replace_leaders(connection, slot, &led).await?;
            done.ended += ended.unsigned_abs();
            done.in_flight += in_flight.unsigned_abs();
            after = last;
        }
    }
    sqlx::raw_sql(NO_PLANS).execute(&mut *connection).await?;
    let started: i64 = sqlx::query_scalar(
        "-- postrider: expire_leases
        SELECT coalesce(sum(open), 0) FROM postrider_leases WHERE day < $1",
    )
    .bind(first_kept)
    .fetch_one(connection)
    .await?;
    done.in_flight += started.unsigned_abs();
    Ok(done)
}
