//! Deliveries that started when their events were fanned out: one row stands for all that
//! started together, and a member has no row of its own until it has to wait.
//!
//! A member is open until it has an attempt that counts, a row of its own or a row of history.
//! As long as a lease holds, everyone who settles its members goes by it alone. Once it has run
//! out and the first member was taken from it, it holds for none.

use super::errors::from_sqlx;
use super::values::{day_number, micros, moment, rows};
use crate::fan_out::Plan;
use crate::{FanOut, Result, Settlement};
use postrider_core::{DeliveryId, EventId, HookId, LeaseToken, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// Expired leases that are taken apart at once.
const EXPIRED_AT_ONCE: u32 = 16;

/// A delivery that started with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub id: DeliveryId,
    pub event: EventId,
    pub hook: HookId,
}

/// The one row that stands for deliveries that started together.
pub(super) struct Started {
    pub token: Uuid,
    pub day: i32,
    expires_at: Timestamp,
    /// Members neither settled nor given back; 0 when the lease holds for none any more.
    open: u32,
    pub members: Vec<Member>,
}

impl FromRow<'_, SqliteRow> for Started {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (ids, _) = row.try_get::<&[u8], _>("members")?.as_chunks::<16>();
        let (members, _) = ids.as_chunks::<3>();
        let members = members.iter().map(|[id, event, hook]| Member {
            id: DeliveryId(Uuid::from_bytes(*id)),
            event: EventId(Uuid::from_bytes(*event)),
            hook: HookId(Uuid::from_bytes(*hook)),
        });
        Ok(Self {
            token: row.try_get("token")?,
            day: row.try_get("day")?,
            expires_at: moment(row.try_get("expires_at")?),
            open: row.try_get("open")?,
            members: members.collect(),
        })
    }
}

impl Started {
    /// All that there are.
    pub(super) async fn all(tx: &mut SqliteConnection) -> Result<Vec<Self>> {
        sqlx::query_as(
            "-- postrider: started
            SELECT token, day, expires_at, open, members FROM postrider_leases",
        )
        .fetch_all(tx)
        .await
        .map_err(from_sqlx)
    }

    async fn read(tx: &mut SqliteConnection, token: Uuid) -> Result<Option<Self>> {
        sqlx::query_as(
            "-- postrider: read_lease
            SELECT token, day, expires_at, open, members FROM postrider_leases
            WHERE slot = 0 AND token = ?1",
        )
        .bind(token)
        .fetch_optional(tx)
        .await
        .map_err(from_sqlx)
    }

    /// The members that are open, of those that `wanted` names, in their order.
    pub(super) async fn open_members(
        &self,
        tx: &mut SqliteConnection,
        wanted: impl Fn(&Member) -> bool,
    ) -> Result<Vec<Member>> {
        let mut members = self.members.clone();
        members.retain(wanted);
        let open = open_among(tx, members.iter().map(|m| (self.day, m.id.0))).await?;
        members.retain(|member| open.contains(&member.id.0));
        Ok(members)
    }

    /// Makes members deliveries that are due, and returns how many: those whose event is gone
    /// are none any more.
    async fn expand(
        &self,
        tx: &mut SqliteConnection,
        members: &[Member],
        due: Timestamp,
        lost_leases: u32,
    ) -> Result<u32> {
        let members = members
            .iter()
            .map(|m| (m.id.0.simple(), m.event.0.simple(), m.hook.0.simple()));
        let expanded = sqlx::query(
            "-- postrider: expand
            WITH s (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
            INSERT INTO postrider_deliveries
                (slot, id, day, event_id, hook_id, event_seq, ordering_key, next_attempt_at,
                 lost_leases)
            SELECT 0, unhex(v ->> 0), e.day, e.id, unhex(v ->> 2), e.seq, e.ordering_key, ?3, ?4
            FROM s CROSS JOIN postrider_events AS e
            ON e.slot = 0 AND e.day = ?2 AND e.id = unhex(v ->> 1)",
        )
        .bind(rows(members))
        .bind(self.day)
        .bind(micros(due))
        .bind(lost_leases)
        .execute(tx)
        .await
        .map_err(from_sqlx)?;
        Ok(u32::try_from(expanded.rows_affected()).unwrap_or(u32::MAX))
    }

    /// From now on the lease, which has run out, holds for none of its members.
    async fn let_go(&self, tx: &mut SqliteConnection) -> Result<()> {
        sqlx::query(
            "-- postrider: let_go
            UPDATE postrider_leases SET open = 0 WHERE slot = 0 AND token = ?1",
        )
        .bind(self.token)
        .execute(tx)
        .await
        .map_err(from_sqlx)?;
        Ok(())
    }
}

/// Keeps which deliveries of the plan start, under the lease of the request.
pub(super) async fn keep_started(
    tx: &mut SqliteConnection,
    plan: &Plan,
    request: &FanOut,
) -> Result<()> {
    let starting = plan.deliveries.iter().filter(|planned| planned.starts);
    let members: Vec<u8> = starting
        .flat_map(|planned| [planned.id.0, planned.event.id.0, planned.hook.id.0])
        .flat_map(Uuid::into_bytes)
        .collect();
    if members.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- postrider: fan_out_started
        INSERT INTO postrider_leases (slot, token, day, expires_at, open, members)
        VALUES (0, ?1, ?2, ?3, ?4, ?5)",
    )
    .bind(request.token.0)
    .bind(day_number(request.now.date_naive()))
    .bind(micros(request.until))
    .bind(plan.starting())
    .bind(members)
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

/// Takes the members that are settled now off the count of their leases, and returns those
/// whose lease holds. With `each` it is looked at every member, whether it is still open.
pub(super) async fn take_settled(
    tx: &mut SqliteConnection,
    fresh: &[&Settlement],
    each: bool,
) -> Result<HashSet<Uuid>> {
    let mut by_lease: BTreeMap<Uuid, HashSet<Uuid>> = BTreeMap::new();
    for leased in fresh.iter().map(|settlement| &settlement.leased) {
        let members = by_lease.entry(leased.token.0).or_default();
        members.insert(leased.id.0);
    }
    let mut held = HashSet::with_capacity(fresh.len());
    for (token, mut members) in by_lease {
        let lease: Option<(i32, u32, bool)> = sqlx::query_as(
            "-- postrider: settle_lease
            SELECT day, open, given_back FROM postrider_leases
            WHERE slot = 0 AND token = ?1 AND open > 0",
        )
        .bind(token)
        .fetch_optional(&mut *tx)
        .await
        .map_err(from_sqlx)?;
        let Some((day, open, given_back)) = lease else {
            continue;
        };
        if each || given_back {
            members = open_among(tx, members.into_iter().map(|id| (day, id))).await?;
        }
        count_down(tx, token, open, members.len()).await?;
        held.extend(members);
    }
    Ok(held)
}

/// Takes members off the count, and the row away when that was the last of them.
async fn count_down(
    tx: &mut SqliteConnection,
    token: Uuid,
    open: u32,
    members: usize,
) -> Result<()> {
    let open = open.saturating_sub(u32::try_from(members).unwrap_or(u32::MAX));
    if open == 0 {
        return finish(tx, token).await;
    }
    sqlx::query(
        "-- postrider: settle_count
        UPDATE postrider_leases SET open = ?2 WHERE slot = 0 AND token = ?1",
    )
    .bind(token)
    .bind(open)
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

async fn finish(tx: &mut SqliteConnection, token: Uuid) -> Result<()> {
    sqlx::query(
        "-- postrider: finish_lease
        DELETE FROM postrider_leases WHERE slot = 0 AND token = ?1",
    )
    .bind(token)
    .execute(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

/// Which of these members, each with the day of its lease, are open.
pub(super) async fn open_among(
    tx: &mut SqliteConnection,
    members: impl IntoIterator<Item = (i32, Uuid)>,
) -> Result<HashSet<Uuid>> {
    let open: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: open_members
        WITH m (day, id) AS MATERIALIZED (
            SELECT value ->> 0, unhex(value ->> 1) FROM json_each(?1)
        )
        SELECT id FROM m
        WHERE NOT EXISTS (SELECT 1 FROM postrider_attempts AS a
                WHERE a.slot = 0 AND a.day = m.day AND a.delivery_id = m.id AND NOT a.late)
            AND NOT EXISTS (SELECT 1 FROM postrider_deliveries AS d
                WHERE d.slot = 0 AND d.id = m.id)
            AND NOT EXISTS (SELECT 1 FROM postrider_ended AS e
                WHERE e.slot = 0 AND e.day = m.day AND e.delivery_id = m.id)",
    )
    .bind(rows(
        members.into_iter().map(|(day, id)| (day, id.simple())),
    ))
    .fetch_all(tx)
    .await
    .map_err(from_sqlx)?;
    Ok(open.into_iter().collect())
}

/// Makes open members due for anyone: neither an attempt nor a lost lease is counted.
pub(super) async fn give_back_started(
    tx: &mut SqliteConnection,
    token: LeaseToken,
    deliveries: &[DeliveryId],
    now: Timestamp,
) -> Result<u32> {
    let named: HashSet<_> = deliveries.iter().collect();
    let Some(started) = Started::read(tx, token.0).await?.filter(|s| s.open > 0) else {
        return Ok(0);
    };
    let members = started.open_members(tx, |m| named.contains(&m.id)).await?;
    let released = started.expand(tx, &members, now, 0).await?;
    sqlx::query(
        "-- postrider: release_started
        UPDATE postrider_leases SET given_back = 1 WHERE slot = 0 AND token = ?1",
    )
    .bind(token.0)
    .execute(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    count_down(tx, token.0, started.open, members.len()).await?;
    Ok(released)
}

/// Turns the open members of leases that have ended by `now` into deliveries that are due, at
/// most `limit`, and returns how many.
pub(super) async fn recover_started(
    tx: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<u32> {
    let expired: Vec<Started> = sqlx::query_as(
        "-- postrider: recover_started
        SELECT token, day, expires_at, open, members FROM postrider_leases
        WHERE slot = 0 AND expires_at <= ?1 ORDER BY token LIMIT ?2",
    )
    .bind(micros(now))
    .bind(EXPIRED_AT_ONCE)
    .fetch_all(&mut *tx)
    .await
    .map_err(from_sqlx)?;
    let mut recovered = 0;
    for started in expired {
        let left = (limit - recovered) as usize;
        let mut members = started.open_members(tx, |_| true).await?;
        let more = members.len() > left;
        members.truncate(left);
        recovered += started.expand(tx, &members, now, 1).await?;
        if more {
            started.let_go(tx).await?;
            break;
        }
        finish(tx, started.token).await?;
    }
    Ok(recovered)
}

/// Makes an open member wait as a delivery of its own, due now. Returns whether it did: not as
/// long as the lease lasts.
pub(super) async fn take_out(
    tx: &mut SqliteConnection,
    token: Uuid,
    member: Member,
    now: Timestamp,
) -> Result<bool> {
    match Started::read(tx, token).await? {
        Some(started) if started.expires_at <= now => {
            started.expand(tx, &[member], now, 0).await?;
            started.let_go(tx).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
