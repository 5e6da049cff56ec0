//! Lease groups: deliveries that started when their events were fanned out. One row is the lease of
//! all that started together, and a member has no row of its own until it has to wait.
//!
//! A member is open until it is settled or released; the lease has a byte for each. Once a
//! lease has run out and the first member was taken from it, it holds for none.

use super::values::{day_number, micros, moment, rows};
use crate::count::count;
use crate::delivery_change::GroupMembership;
use crate::fan_out::Plan;
use crate::settlement::DeliverySettlement;
use crate::{FanOutRequest, Result};
use postrider_core::{DeliveryId, EventId, HookId, LeaseToken, Timestamp};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// Expired leases that are taken apart at once.
const EXPIRED_AT_ONCE: u32 = 16;

/// A member of a lease group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub id: DeliveryId,
    pub event: EventId,
    pub hook: HookId,
}

/// A lease group.
pub(super) struct LeaseGroup {
    pub token: Uuid,
    pub day: i32,
    expires_at: Timestamp,
    /// Members neither settled nor released; 0 when the lease holds for none any more.
    open: u32,
    members: Vec<Member>,
    /// A byte for each member, 0 while it is open.
    closed: Vec<u8>,
}

impl FromRow<'_, SqliteRow> for LeaseGroup {
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
            closed: row.try_get("closed")?,
        })
    }
}

impl LeaseGroup {
    /// All that there are.
    pub(super) async fn all(tx: &mut SqliteConnection) -> Result<Vec<Self>> {
        sqlx::query_as(
            "-- postrider: lease_groups
            SELECT l.token, l.day, l.expires_at, l.open, l.closed, m.members
            FROM postrider_leases AS l CROSS JOIN postrider_lease_members AS m
            ON m.slot = 0 AND m.token = l.token
            WHERE l.slot = 0",
        )
        .fetch_all(tx)
        .await
        .map_err(Into::into)
    }

    async fn read(tx: &mut SqliteConnection, token: Uuid) -> Result<Option<Self>> {
        sqlx::query_as(
            "-- postrider: read_lease
            SELECT l.token, l.day, l.expires_at, l.open, l.closed, m.members
            FROM postrider_leases AS l CROSS JOIN postrider_lease_members AS m
            ON m.slot = 0 AND m.token = l.token
            WHERE l.slot = 0 AND l.token = ?1",
        )
        .bind(token)
        .fetch_optional(tx)
        .await
        .map_err(Into::into)
    }

    /// The members that are open, in their order.
    pub(super) fn open_members(&self) -> impl Iterator<Item = Member> {
        let members = self.members.iter().zip(&self.closed);
        members.filter(|(_, closed)| **closed == 0).map(|(m, _)| *m)
    }

    fn close(&mut self, members: &[Member]) {
        let closing: HashSet<_> = members.iter().map(|member| member.id).collect();
        for (member, closed) in self.members.iter().zip(&mut self.closed) {
            *closed |= u8::from(closing.contains(&member.id));
        }
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
        .await?;
        Ok(count(expanded.rows_affected()))
    }

    /// From now on the lease, which has run out, holds for none of its members.
    async fn let_go(&self, tx: &mut SqliteConnection) -> Result<()> {
        write(tx, self.token, 0, &self.closed).await
    }
}

/// Keeps which deliveries of the plan start, under the lease of the request.
pub(super) async fn insert_group(
    tx: &mut SqliteConnection,
    plan: &Plan,
    request: &FanOutRequest,
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
        "-- postrider: fan_out_group
        INSERT INTO postrider_leases (slot, token, day, expires_at, open, closed)
        VALUES (0, ?1, ?2, ?3, ?4, zeroblob(?4))",
    )
    .bind(request.token.0)
    .bind(day_number(request.now.date_naive()))
    .bind(micros(request.until))
    .bind(plan.starting())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "-- postrider: fan_out_members
        INSERT INTO postrider_lease_members (slot, token, members) VALUES (0, ?1, ?2)",
    )
    .bind(request.token.0)
    .bind(members)
    .execute(tx)
    .await?;
    Ok(())
}

/// Closes the members that are settled now, and returns those that were open under a lease that
/// holds: of two settlements of one member the first counts.
pub(super) async fn take_settled(
    tx: &mut SqliteConnection,
    settlements: &[DeliverySettlement<'_>],
) -> Result<HashSet<Uuid>> {
    let mut by_lease: BTreeMap<Uuid, Vec<(Uuid, usize)>> = BTreeMap::new();
    for settled in settlements {
        let lease = &settled.request().lease;
        if let Some(member) = lease.group_member() {
            let members = by_lease.entry(lease.token.0).or_default();
            members.push((settled.delivery.id.0, member.place as usize));
        }
    }
    let mut taken = HashSet::with_capacity(settlements.len());
    for (token, members) in by_lease {
        let lease: Option<(u32, Vec<u8>)> = sqlx::query_as(
            "-- postrider: settle_lease
            SELECT open, closed FROM postrider_leases
            WHERE slot = 0 AND token = ?1 AND open > 0",
        )
        .bind(token)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((mut open, mut closed)) = lease else {
            continue;
        };
        for (id, place) in members {
            if let Some(byte) = closed.get_mut(place).filter(|byte| **byte == 0) {
                *byte = 1;
                open -= 1;
                taken.insert(id);
            }
        }
        settle_lease(tx, token, open, &closed).await?;
    }
    Ok(taken)
}

/// Writes which members are closed, or takes the lease away when all are.
async fn settle_lease(
    tx: &mut SqliteConnection,
    token: Uuid,
    open: u32,
    closed: &[u8],
) -> Result<()> {
    match open {
        0 => finish(tx, token).await,
        open => write(tx, token, open, closed).await,
    }
}

async fn write(tx: &mut SqliteConnection, token: Uuid, open: u32, closed: &[u8]) -> Result<()> {
    sqlx::query(
        "-- postrider: close_members
        UPDATE postrider_leases SET open = ?2, closed = ?3 WHERE slot = 0 AND token = ?1",
    )
    .bind(token)
    .bind(open)
    .bind(closed)
    .execute(tx)
    .await?;
    Ok(())
}

async fn finish(tx: &mut SqliteConnection, token: Uuid) -> Result<()> {
    for statement in [
        "-- postrider: finish_lease
        DELETE FROM postrider_leases WHERE slot = 0 AND token = ?1",
        "-- postrider: finish_members
        DELETE FROM postrider_lease_members WHERE slot = 0 AND token = ?1",
    ] {
        sqlx::query(statement).bind(token).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Makes open members due for anyone: neither an attempt nor a lost lease is counted.
pub(super) async fn release(
    tx: &mut SqliteConnection,
    token: LeaseToken,
    deliveries: &[DeliveryId],
    now: Timestamp,
) -> Result<u32> {
    let named: HashSet<_> = deliveries.iter().collect();
    let group = LeaseGroup::read(tx, token.0).await?;
    let Some(mut group) = group.filter(|group| group.open > 0) else {
        return Ok(0);
    };
    let mut members: Vec<_> = group.open_members().collect();
    members.retain(|member| named.contains(&member.id));
    let released = group.expand(tx, &members, now, 0).await?;
    group.close(&members);
    let open = count(group.open_members().count());
    settle_lease(tx, token.0, open, &group.closed).await?;
    Ok(released)
}

/// Turns the open members of leases that have ended by `now` into deliveries that are due, at
/// most `limit`, and returns how many.
pub(super) async fn recover(tx: &mut SqliteConnection, now: Timestamp, limit: u32) -> Result<u32> {
    let expired: Vec<LeaseGroup> = sqlx::query_as(
        "-- postrider: recover_leases
        SELECT l.token, l.day, l.expires_at, l.open, l.closed, m.members
        FROM postrider_leases AS l CROSS JOIN postrider_lease_members AS m
        ON m.slot = 0 AND m.token = l.token
        WHERE l.slot = 0 AND l.expires_at <= ?1 ORDER BY l.token LIMIT ?2",
    )
    .bind(micros(now))
    .bind(EXPIRED_AT_ONCE)
    .fetch_all(&mut *tx)
    .await?;
    let mut recovered = 0;
    for mut group in expired {
        let left = (limit - recovered) as usize;
        let mut members: Vec<_> = group.open_members().collect();
        let more = members.len() > left;
        members.truncate(left);
        recovered += group.expand(tx, &members, now, 1).await?;
        if more {
            group.close(&members);
            group.let_go(tx).await?;
            break;
        }
        finish(tx, group.token).await?;
    }
    Ok(recovered)
}

/// Finds a delivery among open group members. One whose lease expired gets a row.
pub(super) async fn leave_group(
    tx: &mut SqliteConnection,
    id: DeliveryId,
    now: Timestamp,
) -> Result<GroupMembership> {
    for mut group in LeaseGroup::all(tx).await? {
        let Some(member) = group.open_members().find(|member| member.id == id) else {
            continue;
        };
        if group.expires_at > now {
            return Ok(GroupMembership::InFlight);
        }
        group.expand(tx, &[member], now, 0).await?;
        group.close(&[member]);
        group.let_go(tx).await?;
        return Ok(GroupMembership::MadeDue);
    }
    Ok(GroupMembership::None)
}
