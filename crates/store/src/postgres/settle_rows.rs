//! The rows that settling writes: attempts, deliveries that wait, and deliveries that have ended.

use super::connection::Connection;
use super::days::literal;
use super::lease_group::finish;
use super::row_state::{no_time, with_leader};
use crate::Result;
use crate::Step;
use crate::settlement::DeliverySettlement;
use chrono::NaiveDate;
use postrider_core::Timestamp;
use sqlx::postgres::{PgArguments, PgBindIterExt, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// The error that is recorded in place of a text that the database refuses.
const REFUSED_TEXT: &str = "the database refused the response text";

/// The settlements of a statement, as [`with_settlements`] binds them to `$1` (the slot) and
/// `$2` to `$15`.
macro_rules! settlements {
    () => {
        "unnest($2::uuid[], $3::uuid[], $4::date[], $5::uuid[], $6::uuid[], $7::uuid[],
                $8::integer[], $9::timestamptz[], $10::integer[], $11::text[], $12::smallint[],
                $13::text[], $14::bytea[], $15::timestamptz[])
         AS i (delivery_id, token, day, event_id, hook_id, id, number, at, duration_ms, outcome,
               status, error, response, next_attempt_at)"
    };
}

/// Records the attempts of settlements `i`; what follows says which.
macro_rules! record_attempts {
    ($late:literal) => {
        concat!(
            "INSERT INTO postrider_attempts
                 (slot, day, delivery_id, id, event_id, hook_id, number, at, duration_ms,
                  outcome, status, error, response, late)
             SELECT $1, i.day, i.delivery_id, i.id, i.event_id, i.hook_id, i.number, i.at,
                    i.duration_ms, i.outcome, i.status, i.error, i.response, ",
            $late,
            " "
        )
    };
}

/// The settlements that were written, and the health of their hooks before.
#[derive(Default)]
pub(super) struct Written<'a> {
    /// Settlements that took effect.
    pub effective: Vec<DeliverySettlement<'a>>,
    /// Settlements whose delivery is not under their token.
    pub lost: Vec<DeliverySettlement<'a>>,
    /// Hooks that had a row of health.
    pub with_health: HashSet<Uuid>,
    /// Hooks that were failing: [`is_failing`](crate::hook_health::is_failing), in SQL.
    pub failing: HashSet<Uuid>,
}

/// The result of [`settle_fresh`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupSettling {
    /// All is written.
    Written,
    /// Some member of a lease group is not open: the caller rolls the transaction back, and
    /// settles again with those that [`open_members`] returns.
    NotAllOpen,
}

/// Settles members of lease groups, which have no row of their own. One that was delivered leaves
/// only its attempt; one that has to wait gets a row.
pub(super) async fn settle_fresh<'a>(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    part: Vec<DeliverySettlement<'a>>,
    scrubbed: bool,
    written: &mut Written<'a>,
) -> Result<GroupSettling> {
    let members = Members::of(&part);
    if members.repeated {
        return Ok(GroupSettling::NotAllOpen);
    }
    // A group that is settled as a whole is one row to delete; of any other the bits of its members
    // are set, unless one is set already. Under the lease no attempt can have been recorded before,
    // so there is no ON CONFLICT: it costs more than the row.
    let query = sqlx::query(concat!(
        "-- postrider: settle_fresh
        WITH whole AS (
            DELETE FROM postrider_leases
            WHERE slot = $1 AND token = ANY($16) AND bit_count(closed) = 0
            RETURNING token
        ), part AS (
            UPDATE postrider_leases AS l
            SET open = l.open - p.members, closed = l.closed | p.places::varbit
            FROM unnest($17::uuid[], $18::integer[], $19::text[]) AS p (token, members, places)
            WHERE l.slot = $1 AND l.token = p.token AND l.token = ANY($17)
              AND bit_count(l.closed & p.places::varbit) = 0
            RETURNING l.token, l.open
        ), held AS MATERIALIZED (
            SELECT token FROM whole UNION ALL SELECT token FROM part
        ), recorded AS (",
        record_attempts!("false"),
        "FROM ",
        settlements!(),
        " WHERE (i.token IN (SELECT token FROM held)) IS TRUE
        )
        SELECT ARRAY(SELECT hook_id FROM postrider_hook_health WHERE hook_id = ANY($20))
                   AS with_health,
               ARRAY(SELECT hook_id FROM postrider_hook_health
                     WHERE hook_id = ANY($20)
                       AND (fail_count <> 0 OR phase = 'backed_off')) AS failing,
               ARRAY(SELECT token FROM held) AS held,
               ARRAY(SELECT token FROM part WHERE open <= 0) AS finished,
               EXISTS (SELECT FROM postrider_leases
                       WHERE slot = $1 AND token = ANY($16 || $17)
                         AND token NOT IN (SELECT token FROM held)) AS some_not_open",
    ));
    let row = with_settlements(query, slot, &part, scrubbed)
        .bind(members.of_whole_leases) // $16 whole leases
        .bind(members.of_others.keys().copied().bind_iter()) // $17 token
        .bind(members.of_others.values().map(Places::count).bind_iter()) // $18 members
        .bind(members.of_others.values().map(Places::bits).bind_iter()) // $19 places
        .bind(hooks_of(&part)) // $20 hooks
        .fetch_one(&mut *connection)
        .await?;
    written.with_health.extend(ids(&row, "with_health")?);
    written.failing.extend(ids(&row, "failing")?);
    let held = ids(&row, "held")?;
    let finished: Vec<Uuid> = row.try_get("finished")?;
    if row.try_get("some_not_open")? {
        return Ok(GroupSettling::NotAllOpen);
    }
    let (effective, lost): (Vec<_>, Vec<_>) = part
        .into_iter()
        .partition(|settlement| held.contains(&settlement.request().lease.token.0));
    make_wait(connection, slot, &effective).await?;
    keep_ended(connection, slot, now, &effective).await?;
    if !finished.is_empty() {
        finish(connection, slot, &finished).await?;
    }
    written.effective.extend(effective);
    written.lost.extend(lost);
    Ok(GroupSettling::Written)
}

/// Splits settlements into those whose member is open and the others, and locks their lease groups.
/// Of two settlements of one member the first counts.
pub(super) async fn open_members<'a>(
    connection: &mut Connection,
    slot: i16,
    part: Vec<DeliverySettlement<'a>>,
) -> Result<(Vec<DeliverySettlement<'a>>, Vec<DeliverySettlement<'a>>)> {
    let tokens: BTreeSet<_> = part.iter().map(|s| s.request().lease.token.0).collect();
    let rows: Vec<(Uuid, String)> = sqlx::query_as(
        "-- postrider: settle_members
        SELECT token, closed::text FROM postrider_leases
        WHERE slot = $1 AND token = ANY($2)
        ORDER BY token FOR UPDATE",
    )
    .bind(slot)
    .bind(tokens.into_iter().bind_iter())
    .fetch_all(connection)
    .await?;
    let mut closed: HashMap<_, _> = rows
        .into_iter()
        .map(|(token, bits)| (token, bits.into_bytes()))
        .collect();
    let is_open = |settlement: &DeliverySettlement<'_>| {
        let place = settlement
            .request()
            .lease
            .group_member()
            .map(|fresh| fresh.place as usize);
        let bits = closed.get_mut(&settlement.request().lease.token.0);
        let bit = bits.and_then(|bits| bits.get_mut(place?));
        bit.is_some_and(|bit| std::mem::replace(bit, b'1') == b'0')
    };
    Ok(part.into_iter().partition(is_open))
}

/// Settles deliveries that have a row of their own.
pub(super) async fn settle_rows<'a>(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    part: Vec<DeliverySettlement<'a>>,
    scrubbed: bool,
    written: &mut Written<'a>,
) -> Result<()> {
    // The token fences every change: a row under another one is lost. The row tells what Rust does
    // not know: whether it is a batch member, and whether it has a key to hold (a repeat has none).
    let query = sqlx::query(concat!(
        "-- postrider: settle_rows
        WITH input AS MATERIALIZED (
            SELECT * FROM ",
        settlements!(),
        "
        ), found AS MATERIALIZED (
            SELECT i.id, i.token, i.number, d.place,
                   d.is_member AND i.next_attempt_at < ",
        no_time!(),
        " AS is_member,
                   CASE WHEN i.next_attempt_at < ",
        no_time!(),
        " OR d.ordering_key IS NOT NULL THEN i.next_attempt_at END AS next_attempt_at
            FROM input AS i CROSS JOIN LATERAL (
                SELECT ctid AS place, lease_token, ordering_key,
                       coalesce(batch_id <> id, false) AS is_member
                FROM postrider_deliveries
                WHERE slot = $1 AND id = i.delivery_id LIMIT 1
            ) AS d
            WHERE d.lease_token = i.token
        ), gone AS (
            DELETE FROM postrider_deliveries AS d USING found AS f
            WHERE d.slot = $1 AND d.ctid = f.place AND d.lease_token = f.token
              AND f.next_attempt_at IS NULL
            RETURNING f.id
        ), waiting AS (
            UPDATE postrider_deliveries AS d
            SET next_attempt_at = CASE WHEN f.is_member THEN ",
        with_leader!(),
        " ELSE f.next_attempt_at END,
                turn_at = CASE WHEN f.is_member THEN f.next_attempt_at END,
                attempts = f.number, lost_leases = 0, lease_token = NULL, lease_expires_at = NULL,
                batch_id = CASE WHEN f.next_attempt_at < ",
        no_time!(),
        " THEN d.batch_id END,
                holds_key = f.next_attempt_at >= ",
        no_time!(),
        "
            FROM found AS f
            WHERE d.slot = $1 AND d.ctid = f.place AND d.lease_token = f.token
              AND f.next_attempt_at IS NOT NULL
            RETURNING f.id
        ), fenced AS MATERIALIZED (
            SELECT id FROM gone UNION ALL SELECT id FROM waiting
        ), recorded AS (",
        record_attempts!("false"),
        "FROM input AS i WHERE (i.id IN (SELECT id FROM fenced)) IS TRUE
        )
        SELECT ARRAY(SELECT hook_id FROM postrider_hook_health WHERE hook_id = ANY($16))
                   AS with_health,
               ARRAY(SELECT hook_id FROM postrider_hook_health
                     WHERE hook_id = ANY($16)
                       AND (fail_count <> 0 OR phase = 'backed_off')) AS failing,
               ARRAY(SELECT id FROM input WHERE id NOT IN (SELECT id FROM fenced)) AS lost",
    ));
    let row = with_settlements(query, slot, &part, scrubbed)
        .bind(hooks_of(&part)) // $16 hooks
        .fetch_one(&mut *connection)
        .await?;
    written.with_health.extend(ids(&row, "with_health")?);
    written.failing.extend(ids(&row, "failing")?);
    let lost = ids(&row, "lost")?;
    let (lost, effective): (Vec<_>, Vec<_>) = part
        .into_iter()
        .partition(|settlement| lost.contains(&settlement.attempt.id.0));
    keep_ended(connection, slot, now, &effective).await?;
    written.effective.extend(effective);
    written.lost.extend(lost);
    Ok(())
}

/// Records attempts whose lease was lost, and returns those that were not recorded before.
pub(super) async fn record_late(
    connection: &mut Connection,
    slot: i16,
    lost: &[DeliverySettlement<'_>],
    scrubbed: bool,
) -> Result<HashSet<Uuid>> {
    let mut by_day: BTreeMap<NaiveDate, Vec<DeliverySettlement<'_>>> = BTreeMap::new();
    for settlement in lost {
        let of_day = by_day.entry(settlement.delivery.day).or_default();
        of_day.push(*settlement);
    }
    let mut all = HashSet::new();
    for (day, lost) in by_day {
        // What was late for so long that the day is gone leaves nothing. Each day has a statement of
        // its own, so that its plan knows no other partition.
        let query = sqlx::query(AssertSqlSafe(format!(
            concat!(
                "-- postrider: settle_late\n",
                record_attempts!("true"),
                "FROM ",
                settlements!(),
                " CROSS JOIN LATERAL (
                     SELECT FROM postrider_events
                     WHERE slot = $1 AND day = {} AND id = i.event_id LIMIT 1
                 ) AS kept
                 ON CONFLICT (slot, day, delivery_id, id) DO NOTHING RETURNING id",
            ),
            literal(day)
        )));
        let recorded: Vec<Uuid> = with_settlements(query, slot, &lost, scrubbed)
            .try_map(|row: PgRow| row.try_get("id"))
            .fetch_all(&mut *connection)
            .await?;
        all.extend(recorded);
    }
    Ok(all)
}

/// Makes rows for deliveries that had none and have to wait now.
async fn make_wait(
    connection: &mut Connection,
    slot: i16,
    settled: &[DeliverySettlement<'_>],
) -> Result<()> {
    let waiting: Vec<_> = settled
        .iter()
        .filter_map(|s| {
            let columns = s.next_state()?.columns(s.delivery.id);
            let member = s.request().lease.group_member()?;
            Some((*s, member.seq, columns.next_attempt_at))
        })
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let deliveries = || waiting.iter().map(|(s, ..)| s.delivery);
    sqlx::query(
        "-- postrider: settle_wait
        INSERT INTO postrider_deliveries
            (slot, id, day, event_id, hook_id, event_seq, ordering_key, attempts,
             next_attempt_at)
        SELECT $1, i.* FROM unnest($2::uuid[], $3::date[], $4::uuid[], $5::uuid[], $6::bigint[],
                                   $7::text[], $8::integer[], $9::timestamptz[]) AS i",
    )
    .bind(slot) // $1 slot
    .bind(deliveries().map(|d| d.id.0).bind_iter()) // $2 id
    .bind(deliveries().map(|d| d.day).bind_iter()) // $3 day
    .bind(deliveries().map(|d| d.event.id.0).bind_iter()) // $4 event_id
    .bind(waiting.iter().map(|(s, ..)| s.hook().0).bind_iter()) // $5 hook_id
    .bind(waiting.iter().map(|(_, seq, _)| *seq).bind_iter()) // $6 event_seq
    .bind(
        deliveries()
            .map(|d| d.event.ordering_key.as_deref())
            .bind_iter(),
    ) // $7 ordering_key
    .bind(waiting.iter().map(|(s, ..)| number(s)).bind_iter()) // $8 attempts
    .bind(waiting.iter().map(|(.., at)| *at).bind_iter()) // $9 next_attempt_at
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts the rows of history of deliveries that have failed.
async fn keep_ended(
    connection: &mut Connection,
    slot: i16,
    now: Timestamp,
    settled: &[DeliverySettlement<'_>],
) -> Result<()> {
    let failed: Vec<_> = settled
        .iter()
        .filter_map(|s| match s.step() {
            Step::Failed(reason) => Some((*s, reason.name())),
            Step::Delivered | Step::Retry(_) => None,
        })
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let deliveries = || failed.iter().map(|(s, _)| s.delivery);
    sqlx::query(
        "-- postrider: settle_ended
        INSERT INTO postrider_ended
            (slot, ended_at, state, day, delivery_id, event_id, hook_id, attempts, reason)
        SELECT $1, $2, 'failed', i.*
        FROM unnest($3::date[], $4::uuid[], $5::uuid[], $6::uuid[], $7::integer[], $8::text[])
             AS i
        ON CONFLICT (slot, day, delivery_id) DO UPDATE
        SET state = excluded.state, reason = excluded.reason, attempts = excluded.attempts,
            ended_at = excluded.ended_at",
    )
    .bind(slot) // $1 slot
    .bind(now) // $2 ended_at
    .bind(deliveries().map(|d| d.day).bind_iter()) // $3 day
    .bind(deliveries().map(|d| d.id.0).bind_iter()) // $4 delivery_id
    .bind(deliveries().map(|d| d.event.id.0).bind_iter()) // $5 event_id
    .bind(failed.iter().map(|(s, _)| s.hook().0).bind_iter()) // $6 hook_id
    .bind(failed.iter().map(|(s, _)| number(s)).bind_iter()) // $7 attempts
    .bind(failed.iter().map(|(_, reason)| *reason).bind_iter()) // $8 reason
    .execute(connection)
    .await?;
    Ok(())
}

/// The settled members of lease groups, by lease.
#[derive(Default)]
struct Members {
    /// Leases of which every member is here.
    of_whole_leases: Vec<Uuid>,
    /// Which members are here of each other lease, in the order in which locks are taken.
    of_others: BTreeMap<Uuid, Places>,
    /// Whether a member is here twice.
    repeated: bool,
}

/// Places in a lease, as the characters of a bit string.
struct Places(Vec<u8>);

impl Places {
    fn count(&self) -> i32 {
        let set = self.0.iter().filter(|bit| **bit == b'1').count();
        i32::try_from(set).unwrap_or(i32::MAX)
    }

    fn bits(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Members {
    fn of(part: &[DeliverySettlement<'_>]) -> Self {
        let mut members = Self::default();
        for settlement in part {
            let Some(fresh) = settlement.request().lease.group_member() else {
                continue;
            };
            let token = settlement.request().lease.token.0;
            let none = || Places(vec![b'0'; fresh.members as usize]);
            let places = members.of_others.entry(token).or_insert_with(none);
            if let Some(bit) = places.0.get_mut(fresh.place as usize) {
                members.repeated |= *bit == b'1';
                *bit = b'1';
            }
        }
        members.of_others.retain(|token, places| {
            let whole = !places.0.contains(&b'0');
            if whole {
                members.of_whole_leases.push(*token);
            }
            !whole
        });
        members
    }
}

fn with_settlements<'q>(
    query: Query<'q, Postgres, PgArguments>,
    slot: i16,
    part: &'q [DeliverySettlement<'q>],
    scrubbed: bool,
) -> Query<'q, Postgres, PgArguments> {
    let next_attempt_at = |s: &DeliverySettlement<'_>| {
        let state = s.next_state()?;
        Some(state.columns(s.delivery.id).next_attempt_at)
    };
    let duration_ms = |s: &DeliverySettlement<'_>| {
        let millis = s.attempt.duration.as_millis();
        i32::try_from(millis).unwrap_or(i32::MAX)
    };
    let status = |s: &DeliverySettlement<'_>| {
        let status = s.attempt.outcome.status();
        status.and_then(|status| i16::try_from(status).ok())
    };
    let error = move |s: &DeliverySettlement<'_>| match s.attempt.error() {
        Some(_) if scrubbed => Some(REFUSED_TEXT.to_owned()),
        error => error,
    };
    query
        .bind(slot) // $1 slot
        .bind(part.iter().map(|s| s.delivery.id.0).bind_iter()) // $2 delivery_id
        .bind(part.iter().map(|s| s.request().lease.token.0).bind_iter()) // $3 token
        .bind(part.iter().map(|s| s.delivery.day).bind_iter()) // $4 day
        .bind(part.iter().map(|s| s.delivery.event.id.0).bind_iter()) // $5 event_id
        .bind(part.iter().map(|s| s.hook().0).bind_iter()) // $6 hook_id
        .bind(part.iter().map(|s| s.attempt.id.0).bind_iter()) // $7 id
        .bind(part.iter().map(|s| number(s)).bind_iter()) // $8 number
        .bind(part.iter().map(|s| s.attempt.at).bind_iter()) // $9 at
        .bind(part.iter().map(duration_ms).bind_iter()) // $10 duration_ms
        .bind(part.iter().map(|s| s.attempt.outcome.name()).bind_iter()) // $11 outcome
        .bind(part.iter().map(status).bind_iter()) // $12 status
        .bind(part.iter().map(error).bind_iter()) // $13 error
        .bind(part.iter().map(move |s| response(s, scrubbed)).bind_iter()) // $14 response
        .bind(part.iter().map(next_attempt_at).bind_iter()) // $15 next_attempt_at
}

fn number(settled: &DeliverySettlement<'_>) -> i32 {
    i32::try_from(settled.number()).unwrap_or(i32::MAX)
}

fn response<'a>(settled: &DeliverySettlement<'a>, scrubbed: bool) -> Option<&'a [u8]> {
    let response = settled.attempt.response.as_slice();
    (!scrubbed && !response.is_empty()).then_some(response)
}

fn hooks_of(part: &[DeliverySettlement<'_>]) -> Vec<Uuid> {
    let mut hooks: Vec<_> = part.iter().map(|s| s.hook().0).collect();
    hooks.sort_unstable();
    hooks.dedup();
    hooks
}

fn ids(row: &PgRow, column: &str) -> std::result::Result<HashSet<Uuid>, sqlx::Error> {
    Ok(row.try_get::<Vec<Uuid>, _>(column)?.into_iter().collect())
}
