//! Deliveries that started when their events were fanned out: one row stands for all that
//! started together, and a member has no row of its own until it has to wait.
//!
//! A member is open until it has an attempt, a row of its own or a row of history. Whoever
//! counts members down or turns them into deliveries holds the lock of their one row.

use super::errors::Result;
use postrider_core::{DeliveryId, LeaseToken, Timestamp};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Rows of expired leases taken at once.
const EXPIRED_AT_ONCE: i64 = 16;

/// Which open members become deliveries that wait.
struct Expansion<'a> {
    slot: i16,
    token: Uuid,
    /// Only these, if given.
    only: Option<&'a [Uuid]>,
    /// When they are due.
    due: Timestamp,
    /// Leases in a row that ended without a settlement.
    lost_leases: i16,
    limit: i64,
}

impl Expansion<'_> {
    /// Makes the deliveries, and returns how many. The caller holds the row's lock.
    async fn run(&self, connection: &mut PgConnection) -> Result<u32> {
        let expanded = sqlx::query(
            "-- postrider: expand
            INSERT INTO postrider_deliveries
                (slot, day, id, event_id, hook_id, event_seq, ordering_key, next_attempt_at,
                 lost_leases)
            SELECT $1, m.day, m.id, m.event_id, m.hook_id, e.seq, e.ordering_key, $4, $5
            FROM (
                SELECT l.day, u.id, u.event_id, u.hook_id
                FROM postrider_leases AS l
                CROSS JOIN LATERAL unnest(l.deliveries, l.events, l.hooks)
                    AS u (id, event_id, hook_id)
                WHERE l.slot = $1 AND l.token = $2 AND ($3::uuid[] IS NULL OR u.id = ANY($3))
            ) AS m CROSS JOIN LATERAL (
                SELECT seq, ordering_key FROM postrider_events
                WHERE slot = $1 AND day = m.day AND id = m.event_id LIMIT 1
            ) AS e
            -- Looked up one by one: never a join with all of history.
            WHERE (SELECT a.id FROM postrider_attempts AS a
                   WHERE a.slot = $1 AND a.day = m.day AND a.delivery_id = m.id LIMIT 1) IS NULL
              AND (SELECT d.id FROM postrider_deliveries AS d
                   WHERE d.slot = $1 AND d.id = m.id LIMIT 1) IS NULL
              AND (SELECT n.delivery_id FROM postrider_ended AS n
                   WHERE n.slot = $1 AND n.day = m.day AND n.delivery_id = m.id LIMIT 1) IS NULL
            LIMIT $6",
        )
        .bind(self.slot)
        .bind(self.token)
        .bind(self.only)
        .bind(self.due)
        .bind(self.lost_leases)
        .bind(self.limit)
        .execute(connection)
        .await?;
        Ok(u32::try_from(expanded.rows_affected()).unwrap_or(u32::MAX))
    }
}

/// Makes members due for anyone: neither an attempt nor a lost lease is counted.
pub(super) async fn give_back(
    connection: &mut PgConnection,
    slot: i16,
    token: LeaseToken,
    deliveries: &[DeliveryId],
    now: Timestamp,
) -> Result<u32> {
    let held = sqlx::query(
        "-- postrider: release_lock
        SELECT FROM postrider_leases WHERE slot = $1 AND token = $2 FOR NO KEY UPDATE",
    )
    .bind(slot)
    .bind(token.0)
    .fetch_optional(&mut *connection)
    .await?;
    if held.is_none() {
        return Ok(0);
    }
    let ids: Vec<_> = deliveries.iter().map(|id| id.0).collect();
    let expansion = Expansion {
        slot,
        token: token.0,
        only: Some(&ids),
        due: now,
        lost_leases: 0,
        limit: i64::MAX,
    };
    let released = expansion.run(connection).await?;
    count_down(connection, slot, token.0, released).await?;
    Ok(released)
}

/// Takes members off the count, and the row away when that was the last of them.
async fn count_down(
    connection: &mut PgConnection,
    slot: i16,
    token: Uuid,
    members: u32,
) -> Result<()> {
    let open: Option<i32> = sqlx::query_scalar(
        "-- postrider: release_count
        UPDATE postrider_leases SET open = open - $3 WHERE slot = $1 AND token = $2
        RETURNING open",
    )
    .bind(slot)
    .bind(token)
    .bind(i32::try_from(members).unwrap_or(i32::MAX))
    .fetch_optional(&mut *connection)
    .await?;
    match open {
        Some(open) if open <= 0 => finish(connection, slot, &[token]).await,
        _ => Ok(()),
    }
}

/// Takes the rows away that have no open member.
pub(super) async fn finish(
    connection: &mut PgConnection,
    slot: i16,
    tokens: &[Uuid],
) -> Result<()> {
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
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let expired: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: recover_leases
        SELECT token FROM postrider_leases
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
    for token in expired {
        let left = limit - recovered;
        if left == 0 {
            break;
        }
        let expansion = Expansion {
            slot,
            token,
            only: None,
            due: now,
            lost_leases: 1,
            limit: i64::from(left),
        };
        let expanded = expansion.run(connection).await?;
        recovered += expanded;
        if expanded < left {
            done.push(token);
        }
    }
    if !done.is_empty() {
        finish(connection, slot, &done).await?;
    }
    Ok(recovered)
}

/// What is known of a member that is asked for by name.
pub(super) enum Membership {
    /// It is in flight. What the transaction has done is to be undone.
    InFlight,
    /// Its lease had run out: it has become a delivery that waits.
    Expanded,
    /// It is no open member of anything.
    None,
}

/// Where a delivery without a row of its own stands; what races with it is waited for.
pub(super) async fn membership(
    connection: &mut PgConnection,
    slot: i16,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Membership> {
    let held = sqlx::query(
        "-- postrider: redeliver_lease
        SELECT token, expires_at FROM postrider_leases
        WHERE slot = $1 AND $2 = ANY(deliveries)
        ORDER BY token FOR UPDATE",
    )
    .bind(slot)
    .bind(id.0)
    .fetch_all(&mut *connection)
    .await?;
    for row in held {
        let (token, expires_at): (Uuid, Timestamp) = (row.try_get(0)?, row.try_get(1)?);
        let expansion = Expansion {
            slot,
            token,
            only: Some(&[id.0]),
            due: now,
            lost_leases: 0,
            limit: 1,
        };
        if expansion.run(connection).await? == 0 {
            continue;
        }
        if expires_at > now {
            return Ok(Membership::InFlight);
        }
        count_down(connection, slot, token, 1).await?;
        return Ok(Membership::Expanded);
    }
    Ok(Membership::None)
}
