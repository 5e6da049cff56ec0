//! Lease groups: deliveries that started when their events were fanned out. One row is the lease of
//! all that started together, and a member has no row of its own until it has to wait.
//!
//! A member is open until it is settled or released; the row has a bit for each. Whoever sets
//! bits holds the row's lock. The transaction that turns members of an expired group into
//! deliveries deletes the row or gives it another token, so the old token is valid for none.

use super::connection::Connection;
use super::days::literal;
use crate::Result;
use crate::count::count;
use crate::delivery_change::GroupMembership;
use chrono::NaiveDate;
use postrider_core::{DeliveryId, LeaseToken, Timestamp};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Rows of expired leases taken at once.
const EXPIRED_AT_ONCE: i64 = 16;

/// Which open members of a lease become deliveries that wait.
struct Expansion<'a> {
    slot: i16,
    token: Uuid,
    /// The day of the lease.
    day: NaiveDate,
    /// Only these, if given.
    only: Option<&'a [Uuid]>,
    /// When they are due.
    due: Timestamp,
    /// Leases in a row that ended without a settlement.
    lost_leases: i16,
    limit: i64,
}

impl Expansion<'_> {
    /// Makes the deliveries, and returns which. The caller holds the row's lock.
    async fn run(&self, connection: &mut Connection) -> Result<Vec<Uuid>> {
        // Each day has a statement of its own, so that its plan knows no other partition.
        let day = literal(self.day);
        let expanded = sqlx::query_scalar(AssertSqlSafe(format!(
            "-- postrider: expand
            INSERT INTO postrider_deliveries
                (slot, day, id, event_id, hook_id, event_seq, ordering_key, next_attempt_at,
                 lost_leases)
            SELECT $1, {day}, m.id, m.event_id, m.hook_id, e.seq, e.ordering_key, $4, $5
            FROM (
                SELECT u.id, u.event_id, u.hook_id
                FROM postrider_leases AS l
                CROSS JOIN LATERAL unnest(l.deliveries, l.events, l.hooks) WITH ORDINALITY
                    AS u (id, event_id, hook_id, nth)
                WHERE l.slot = $1 AND l.token = $2 AND get_bit(l.closed, u.nth::integer - 1) = 0
                  AND ($3::uuid[] IS NULL OR u.id = ANY($3))
            ) AS m CROSS JOIN LATERAL (
                SELECT seq, ordering_key FROM postrider_events
                WHERE slot = $1 AND day = {day} AND id = m.event_id LIMIT 1
            ) AS e
            LIMIT $6
            RETURNING id"
        )))
        .bind(self.slot)
        .bind(self.token)
        .bind(self.only)
        .bind(self.due)
        .bind(self.lost_leases)
        .bind(self.limit)
        .fetch_all(connection)
        .await?;
        Ok(expanded)
    }
}

/// Sets the bits of members, gives the row the token `now_under`, and deletes the row when no
/// member is open any more.
async fn close(
    connection: &mut Connection,
    slot: i16,
    token: Uuid,
    members: &[Uuid],
    now_under: Uuid,
) -> Result<()> {
    let open: Option<i32> = sqlx::query_scalar(
        "-- postrider: close_members
        UPDATE postrider_leases SET open = open - cardinality($3::uuid[]), token = $4,
            closed = closed | (
                SELECT string_agg(CASE WHEN (m.id = ANY($3)) THEN '1' ELSE '0' END, ''
                                  ORDER BY m.nth)::varbit
                FROM unnest(deliveries) WITH ORDINALITY AS m (id, nth)
            )
        WHERE slot = $1 AND token = $2
        RETURNING open",
    )
    .bind(slot)
    .bind(token)
    .bind(members)
    .bind(now_under)
    .fetch_optional(&mut *connection)
    .await?;
    match open {
        Some(open) if open <= 0 => finish(connection, slot, &[now_under]).await,
        _ => Ok(()),
    }
}

/// Makes members due for anyone: neither an attempt nor a lost lease is counted.
pub(super) async fn release(
    connection: &mut Connection,
    slot: i16,
    token: LeaseToken,
    deliveries: &[DeliveryId],
    now: Timestamp,
) -> Result<u32> {
    let day: Option<NaiveDate> = sqlx::query_scalar(
        "-- postrider: release_lock
        SELECT day FROM postrider_leases WHERE slot = $1 AND token = $2 FOR UPDATE",
    )
    .bind(slot)
    .bind(token.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(day) = day else { return Ok(0) };
    let ids: Vec<_> = deliveries.iter().map(|id| id.0).collect();
    let expansion = Expansion {
        slot,
        token: token.0,
        day,
        only: Some(&ids),
        due: now,
        lost_leases: 0,
        limit: i64::MAX,
    };
    let released = expansion.run(connection).await?;
    close(connection, slot, token.0, &released, token.0).await?;
    Ok(count(released.len()))
}

/// Deletes the rows that have no open member.
pub(super) async fn finish(connection: &mut Connection, slot: i16, tokens: &[Uuid]) -> Result<()> {
    sqlx::query(
        "-- postrider: finish_leases
        DELETE FROM postrider_leases WHERE slot = $1 AND token = ANY($2)",
    )
    .bind(slot)
    .bind(tokens)
    .execute(connection)
    .await?;
    Ok(())
}

/// Turns the open members of leases that ended before `now` into deliveries that are due, at
/// most `limit`, and returns how many.
pub(super) async fn recover(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let expired: Vec<(Uuid, NaiveDate)> = sqlx::query_as(
        "-- postrider: recover_leases
        SELECT token, day FROM postrider_leases
        WHERE slot = $1 AND expires_at <= $2
        ORDER BY token LIMIT $3
        FOR UPDATE SKIP LOCKED",
    )
    .bind(slot)
    .bind(now)
    .bind(EXPIRED_AT_ONCE)
    .fetch_all(&mut *connection)
    .await?;
    let mut recovered = 0;
    let mut done = Vec::with_capacity(expired.len());
    for (token, day) in expired {
        let left = limit - recovered;
        if left == 0 {
            break;
        }
        let expansion = Expansion {
            slot,
            token,
            day,
            only: None,
            due: now,
            lost_leases: 1,
            limit: i64::from(left),
        };
        let expanded = expansion.run(connection).await?;
        recovered += count(expanded.len());
        match count(expanded.len()) < left {
            true => done.push(token),
            false => {
                let now_under = LeaseToken::draw(now).0;
                close(connection, slot, token, &expanded, now_under).await?;
            }
        }
    }
    if !done.is_empty() {
        finish(connection, slot, &done).await?;
    }
    Ok(recovered)
}

/// Finds a delivery among open group members, under a lock. One whose lease expired gets a row.
pub(super) async fn leave_group(
    connection: &mut Connection,
    slot: i16,
    id: DeliveryId,
    now: Timestamp,
) -> Result<GroupMembership> {
    let row: Option<(Uuid, NaiveDate, Timestamp)> = sqlx::query_as(
        "-- postrider: redeliver_lease
        SELECT token, day, expires_at FROM postrider_leases
        WHERE slot = $1 AND $2 = ANY(deliveries)
          AND get_bit(closed, array_position(deliveries, $2) - 1) = 0
        FOR UPDATE",
    )
    .bind(slot)
    .bind(id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((token, day, expires_at)) = row else {
        return Ok(GroupMembership::None);
    };
    if expires_at > now {
        return Ok(GroupMembership::InFlight);
    }
    let expansion = Expansion {
        slot,
        token,
        day,
        only: Some(&[id.0]),
        due: now,
        lost_leases: 0,
        limit: 1,
    };
    let expanded = expansion.run(connection).await?;
    close(connection, slot, token, &expanded, LeaseToken::draw(now).0).await?;
    Ok(GroupMembership::MadeDue)
}
