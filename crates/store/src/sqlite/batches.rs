//! Batches: cut by a lease, leased as a whole, and given a new leader.
//!
//! There is one writer, so what is cut in a transaction is cut by it alone.

use super::leased_rows::leased_columns;
use super::values::{micros, rows};
use crate::batch::{BatchKey, Candidate, Unit, cut, looked_at};
use crate::lease::LeasedRow;
use crate::{LeaseRequest, Result};
use postrider_core::{Batching, DeliveryId, HookId};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashMap;
use uuid::Uuid;

/// Leases from a hook whose deliveries are batched: new batches, leaders of earlier ones, and
/// deliveries that are in none.
pub(super) async fn lease_batches(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    batching: &Batching,
    request: &LeaseRequest,
) -> Result<Vec<LeasedRow>> {
    let found = due_or_batching(tx, hook, limit, batching, request).await?;
    let all = found.len() < looked_at(limit, batching) as usize;
    let units = cut(&found, batching.most, limit, all);
    lease_units(tx, &units, request).await
}

/// Deliveries of the hook that are due or may go in a batch with one that is, the longest due first.
async fn due_or_batching(
    tx: &mut SqliteConnection,
    hook: HookId,
    limit: u32,
    batching: &Batching,
    request: &LeaseRequest,
) -> Result<Vec<Candidate>> {
    let candidates = sqlx::query(
        "-- postrider: lease_batching
        SELECT due.id, due.event_seq, due.next_attempt_at <= ?2 AS is_due, e.event_type, e.headers,
            length(CAST(e.payload AS BLOB)) AS bytes
        FROM (
            SELECT id, day, event_id, event_seq, next_attempt_at,
                batch_id IS NULL AND attempts = 0 AND lost_leases = 0 AS uncut
            FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
            WHERE slot = 0 AND hook_id = ?1 AND lease_token IS NULL AND next_attempt_at <= ?3
                AND (next_attempt_at <= ?2
                     OR (turn_at <= ?2 AND batch_id IS NULL AND attempts = 0 AND lost_leases = 0))
            ORDER BY next_attempt_at LIMIT ?4
        ) AS due LEFT JOIN postrider_events AS e
        ON due.uncut AND e.slot = 0 AND e.day = due.day AND e.id = due.event_id
            AND e.erased_at IS NULL
        ORDER BY due.next_attempt_at, due.event_seq",
    )
    .bind(hook.0)
    .bind(micros(request.now))
    .bind(micros(request.now + batching.window))
    .bind(looked_at(limit, batching))
    .try_map(|row: SqliteRow| candidate(&row))
    .fetch_all(tx)
    .await?;
    Ok(candidates)
}

/// Only deliveries that may be cut are joined with their events.
fn candidate(row: &SqliteRow) -> sqlx::Result<Candidate> {
    let key = match row.try_get("event_type")? {
        None => None,
        Some(event_type) => Some(BatchKey {
            event_type,
            headers: row.try_get("headers")?,
            bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
        }),
    };
    Ok(Candidate {
        id: DeliveryId(row.try_get("id")?),
        seq: row.try_get("event_seq")?,
        due: row.try_get("is_due")?,
        key,
    })
}

async fn lease_units(
    tx: &mut SqliteConnection,
    units: &[Unit],
    request: &LeaseRequest,
) -> Result<Vec<LeasedRow>> {
    let mut deliveries = Vec::new();
    for unit in units {
        match unit {
            Unit::Found(id) => deliveries.push((id.0.simple(), None)),
            Unit::Cut(ids) => {
                let batch = ids.first().map(|first| first.0.simple());
                deliveries.extend(ids.iter().map(|id| (id.0.simple(), batch)));
            }
        }
    }
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let mut leased: Vec<LeasedRow> = sqlx::query_as(concat!(
        "-- postrider: lease_cut
        WITH t (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        s AS MATERIALIZED (
            SELECT unhex(v ->> 0) AS delivery, unhex(v ->> 1) AS batch FROM t
        )
        UPDATE postrider_deliveries AS d
        SET lease_token = ?2, lease_expires_at = ?3, batch_id = coalesce(d.batch_id, s.batch)
        FROM s
        WHERE d.slot = 0 AND d.id IN (SELECT delivery FROM s) AND s.delivery = d.id
        RETURNING ",
        leased_columns!(),
    ))
    .bind(rows(deliveries))
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await?;
    leased.sort_by_key(|row| (row.due, row.id));
    Ok(leased)
}

/// Leases the members of the batches whose leaders are leased.
pub(super) async fn lease_batch_members(
    tx: &mut SqliteConnection,
    due: &mut Vec<LeasedRow>,
    request: &LeaseRequest,
) -> Result<()> {
    let leaders = rows(
        due.iter()
            .filter(|row| row.is_leader())
            .map(|row| row.id.0.simple()),
    );
    if leaders.is_empty() {
        return Ok(());
    }
    let members: Vec<LeasedRow> = sqlx::query_as(concat!(
        "-- postrider: lease_batch_members
        UPDATE postrider_deliveries INDEXED BY postrider_deliveries_batched
        SET lease_token = ?2, lease_expires_at = ?3
        WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
            AND batch_id IS NOT NULL AND lease_token IS NULL
        RETURNING ",
        leased_columns!(),
    ))
    .bind(leaders)
    .bind(request.token.0)
    .bind(micros(request.until))
    .fetch_all(tx)
    .await?;
    due.extend(members);
    Ok(())
}

/// Where one of these deliveries, which have ended or left their batches, was a leader, the first
/// remaining member becomes the leader.
pub(super) async fn replace_leaders(
    tx: &mut SqliteConnection,
    left: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    let left = rows(left.into_iter().map(Uuid::simple));
    if left.is_empty() {
        return Ok(());
    }
    let firsts: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "-- postrider: batch_rest
        SELECT batch_id, id FROM postrider_deliveries INDEXED BY postrider_deliveries_batched
        WHERE slot = 0 AND batch_id IN (SELECT unhex(value) FROM json_each(?1))
            AND batch_id IS NOT NULL
        ORDER BY event_seq DESC, id DESC",
    )
    .bind(left)
    .fetch_all(&mut *tx)
    .await?;
    // Of each the last one that is read comes first in the order of the outbox.
    let firsts: HashMap<_, _> = firsts.into_iter().collect();
    if firsts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: batch_lead
        WITH t (v) AS MATERIALIZED (SELECT value FROM json_each(?1)),
        s AS MATERIALIZED (
            SELECT unhex(v ->> 0) AS batch, unhex(v ->> 1) AS first FROM t
        )
        UPDATE postrider_deliveries AS d INDEXED BY postrider_deliveries_batched
        SET batch_id = s.first,
            next_attempt_at = CASE WHEN d.id = s.first
                THEN coalesce(d.turn_at, d.next_attempt_at) ELSE d.next_attempt_at END,
            turn_at = CASE WHEN d.id = s.first THEN NULL ELSE d.turn_at END
        FROM s
        WHERE d.slot = 0 AND d.batch_id IN (SELECT batch FROM s) AND d.batch_id IS NOT NULL
            AND s.batch = d.batch_id",
    )
    .bind(rows(
        firsts
            .iter()
            .map(|(batch, first)| (batch.simple(), first.simple())),
    ))
    .execute(tx)
    .await?;
    Ok(())
}
