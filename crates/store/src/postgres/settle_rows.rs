//! The rows that settling writes: attempts, what waits, and what has ended.

use super::lease_group::finish;
use super::row_state::{no_time, with_leader};
use crate::Result;
use crate::Step;
use crate::settlement::DeliverySettlement;
use postrider_core::Timestamp;
use sqlx::postgres::{PgArguments, PgBindIterExt, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// What stands in place of a text that the database refuses.
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

/// What was written for which settlements, and how their hooks stood before.
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

/// Settles deliveries without a row of their own: one that was delivered leaves nothing but its
/// attempt, one that has to wait gets a row. `false` when some member of a lease that stands is
/// not open: the transaction is to be rolled back, and the members looked at first.
///
/// Under the lease no attempt can have been recorded before, so the statement asks for no
/// conflict: asking costs more than the row.
pub(super) async fn settle_fresh<'a>(
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    part: Vec<DeliverySettlement<'a>>,
    scrubbed: bool,
    written: &mut Written<'a>,
) -> Result<bool> {
    let members = Members::of(&part);
    if members.repeated {
        return Ok(false);
    }
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
        SELECT ARRAY(SELECT hook_id FROM postrider_hook_health WHERE hook_id = ANY($20)),
               ARRAY(SELECT hook_id FROM postrider_hook_health
                     WHERE hook_id = ANY($20)
                       AND (fail_count <> 0 OR phase = 'backed_off')),
               ARRAY(SELECT token FROM held), ARRAY(SELECT token FROM part WHERE open <= 0),
               EXISTS (SELECT FROM postrider_leases
                       WHERE slot = $1 AND token = ANY($16 || $17)
                         AND token NOT IN (SELECT token FROM held))",
    ));
    let row = with_settlements(query, slot, &part, scrubbed)
        .bind(members.of_whole_leases)
        .bind(members.of_others.keys().copied().bind_iter())
        .bind(members.of_others.values().map(Places::count).bind_iter())
        .bind(members.of_others.values().map(Places::bits).bind_iter())
        .bind(hooks_of(&part))
        .fetch_one(&mut *connection)
        .await?;
    written.with_health.extend(ids(&row, 0)?);
    written.failing.extend(ids(&row, 1)?);
    let held = ids(&row, 2)?;
    let finished: Vec<Uuid> = row.try_get(3)?;
    if row.try_get(4)? {
        return Ok(false);
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
    Ok(true)
}

/// Tells the members that are open from those that are not, and keeps it so: of two settlements
/// of one member the first counts.
pub(super) async fn open_members<'a>(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    slot: i16,
    now: Timestamp,
    part: Vec<DeliverySettlement<'a>>,
    scrubbed: bool,
    written: &mut Written<'a>,
) -> Result<()> {
    // One that has failed for good and holds its key has no time; a repeat has no key to hold.
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
        SELECT ARRAY(SELECT hook_id FROM postrider_hook_health WHERE hook_id = ANY($16)),
               ARRAY(SELECT hook_id FROM postrider_hook_health
                     WHERE hook_id = ANY($16)
                       AND (fail_count <> 0 OR phase = 'backed_off')),
               ARRAY(SELECT id FROM input WHERE id NOT IN (SELECT id FROM fenced))",
    ));
    let row = with_settlements(query, slot, &part, scrubbed)
        .bind(hooks_of(&part))
        .fetch_one(&mut *connection)
        .await?;
    written.with_health.extend(ids(&row, 0)?);
    written.failing.extend(ids(&row, 1)?);
    let lost = ids(&row, 2)?;
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
    connection: &mut PgConnection,
    slot: i16,
    lost: &[DeliverySettlement<'_>],
    scrubbed: bool,
) -> Result<HashSet<Uuid>> {
    let query = sqlx::query(concat!(
        "-- postrider: settle_late\n",
        record_attempts!("true"),
        "FROM ",
        settlements!(),
        // What was late for so long that the day is gone leaves nothing.
        " CROSS JOIN LATERAL (
             SELECT FROM postrider_events
             WHERE slot = $1 AND day = i.day AND id = i.event_id LIMIT 1
         ) AS kept
         ON CONFLICT (slot, day, delivery_id, id) DO NOTHING RETURNING id",
    ));
    let recorded = with_settlements(query, slot, lost, scrubbed)
        .try_map(|row: PgRow| row.try_get(0))
        .fetch_all(connection)
        .await?;
    Ok(recorded.into_iter().collect())
}

/// Makes rows for deliveries that had none and have to wait now.
async fn make_wait(
    connection: &mut PgConnection,
    slot: i16,
    settled: &[DeliverySettlement<'_>],
) -> Result<()> {
    let waiting: Vec<_> = settled
        .iter()
        .filter_map(|s| match s.step() {
            Step::Retry(at) => Some((*s, s.request().lease.group_member()?.seq, at)),
            Step::Delivered | Step::Failed(_) => None,
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
    .bind(slot)
    .bind(deliveries().map(|d| d.id.0).bind_iter())
    .bind(deliveries().map(|d| d.day).bind_iter())
    .bind(deliveries().map(|d| d.event.id.0).bind_iter())
    .bind(waiting.iter().map(|(s, ..)| s.hook().0).bind_iter())
    .bind(waiting.iter().map(|(_, seq, _)| *seq).bind_iter())
    .bind(
        deliveries()
            .map(|d| d.event.ordering_key.as_deref())
            .bind_iter(),
    )
    .bind(waiting.iter().map(|(s, ..)| number(s)).bind_iter())
    .bind(waiting.iter().map(|(.., at)| *at).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what became of deliveries that have failed.
async fn keep_ended(
    connection: &mut PgConnection,
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
    .bind(slot)
    .bind(now)
    .bind(deliveries().map(|d| d.day).bind_iter())
    .bind(deliveries().map(|d| d.id.0).bind_iter())
    .bind(deliveries().map(|d| d.event.id.0).bind_iter())
    .bind(failed.iter().map(|(s, _)| s.hook().0).bind_iter())
    .bind(failed.iter().map(|(s, _)| number(s)).bind_iter())
    .bind(failed.iter().map(|(_, reason)| *reason).bind_iter())
    .execute(connection)
    .await?;
    Ok(())
}

/// GroupMember settlements by lease.
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
        .bind(slot)
        .bind(part.iter().map(|s| s.delivery.id.0).bind_iter())
        .bind(part.iter().map(|s| s.request().lease.token.0).bind_iter())
        .bind(part.iter().map(|s| s.delivery.day).bind_iter())
        .bind(part.iter().map(|s| s.delivery.event.id.0).bind_iter())
        .bind(part.iter().map(|s| s.hook().0).bind_iter())
        .bind(part.iter().map(|s| s.attempt.id.0).bind_iter())
        .bind(part.iter().map(|s| number(s)).bind_iter())
        .bind(part.iter().map(|s| s.attempt.at).bind_iter())
        .bind(part.iter().map(duration_ms).bind_iter())
        .bind(part.iter().map(|s| s.attempt.outcome.name()).bind_iter())
        .bind(part.iter().map(status).bind_iter())
        .bind(part.iter().map(error).bind_iter())
        .bind(part.iter().map(move |s| response(s, scrubbed)).bind_iter())
        .bind(part.iter().map(next_attempt_at).bind_iter())
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

fn ids(row: &PgRow, column: usize) -> std::result::Result<HashSet<Uuid>, sqlx::Error> {
    Ok(row.try_get::<Vec<Uuid>, _>(column)?.into_iter().collect())
}
