//! Deliveries as they are shown, wherever they are.
//!
//! A delivery that waits or has waited is a row of `postrider_deliveries`, one in its first
//! attempt a member of a lease, one that failed or was cancelled a row of `postrider_ended`, and
//! one that was delivered is known by its accepted attempt alone. A listing takes the newest ids
//! of each kind, and then reads those it shows.

use super::SqliteStore;
use super::batches::along;
use super::history::{after, before, days, last_before, since};
use super::lease_group::{Member, Started};
use super::values::{moment, rows};
use crate::order::{BEHIND, never};
use crate::{DeliveryFilter, DeliveryReport, DeliveryState, Error, Result};
use postrider_core::{DeliveryId, EventId, HookId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// In which table a delivery is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Live,
    Ended,
    Delivered,
    /// An open member of the lease with this token.
    Started {
        token: Uuid,
        member: Member,
    },
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub id: Uuid,
    pub day: i32,
    pub kind: Kind,
}

/// The state of a row of `postrider_deliveries` named `d`.
macro_rules! live_state {
    () => {
        "CASE WHEN d.lease_token IS NOT NULL THEN 'in_flight'
            WHEN (SELECT h.status FROM postrider_hooks AS h WHERE h.id = d.hook_id) = 'active'
            THEN 'pending' ELSE 'held' END"
    };
}

/// What every search is narrowed by: ?1 to ?6 and ?8 of its statement.
struct Search {
    newer_than: Vec<u8>,
    older_than: Vec<u8>,
    event: Option<Uuid>,
    hook: Option<Uuid>,
    state: Option<&'static str>,
    limit: u32,
    account: Option<String>,
}

/// Whether a row is of a hook of the account asked for.
macro_rules! of_account {
    ($hook:literal) => {
        concat!(
            " AND (?8 IS NULL OR ",
            $hook,
            " IN (SELECT id FROM postrider_hooks WHERE account = ?8)) "
        )
    };
}

impl SqliteStore {
    pub(super) async fn find_delivery(&self, id: DeliveryId) -> Result<DeliveryReport> {
        let mut tx = self.readers.begin().await?;
        self.report_delivery(&mut tx, id).await
    }

    /// One delivery as it stands in this transaction.
    pub(super) async fn report_delivery(
        &self,
        tx: &mut SqliteConnection,
        id: DeliveryId,
    ) -> Result<DeliveryReport> {
        let place = self.locate(tx, id).await?;
        let mut found = reports(tx, &[place]).await?;
        found.pop().ok_or_else(|| not_found(id))
    }

    pub(super) async fn locate(&self, tx: &mut SqliteConnection, id: DeliveryId) -> Result<Place> {
        for (kind, statement) in [
            (
                Kind::Live,
                "-- postrider: locate_live
                SELECT day FROM postrider_deliveries
                WHERE slot = 0 AND id = ?1 AND NOT holds_key",
            ),
            (
                Kind::Ended,
                concat!(
                    "-- postrider: locate_ended\n",
                    days!("postrider_ended"),
                    "SELECT e.day FROM days CROSS JOIN postrider_ended AS e
                    WHERE e.slot = 0 AND e.day = days.day AND e.delivery_id = ?1"
                ),
            ),
            (
                Kind::Delivered,
                concat!(
                    "-- postrider: locate_delivered\n",
                    days!("postrider_attempts"),
                    "SELECT a.day FROM days CROSS JOIN postrider_attempts AS a
                    WHERE a.slot = 0 AND a.day = days.day AND a.delivery_id = ?1
                        AND a.outcome = 'accepted' AND NOT a.late"
                ),
            ),
        ] {
            let day: Option<i32> = sqlx::query_scalar(statement)
                .bind(id.0)
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(day) = day {
                return Ok(Place {
                    id: id.0,
                    day,
                    kind,
                });
            }
        }
        for started in Started::all(tx).await? {
            let named = started.open_members().find(|member| member.id == id);
            if let Some(member) = named {
                return Ok(started.place(member));
            }
        }
        Err(not_found(id))
    }

    pub(super) async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
    ) -> Result<Vec<DeliveryReport>> {
        use DeliveryState::{Delivered, Held, InFlight, Pending};
        let mut tx = self.readers.begin().await?;
        let search = Search::of(&filter);
        let mut found = Vec::new();
        if filter
            .state
            .is_none_or(|s| matches!(s, Pending | InFlight | Held))
        {
            found.extend(live(&mut tx, &search).await?);
        }
        if filter.state.is_none_or(|s| s == InFlight) {
            found.extend(started(&mut tx, &search).await?);
        }
        if filter
            .state
            .is_none_or(|s| !matches!(s, Pending | InFlight | Held | Delivered))
        {
            ended(&mut tx, &search, &mut found).await?;
        }
        if filter.state.is_none_or(|s| s == Delivered) {
            delivered(&mut tx, &search, &mut found).await?;
        }
        keep_newest(&mut found, filter.limit);
        reports(&mut tx, &found).await
    }
}

impl Search {
    fn of(filter: &DeliveryFilter) -> Self {
        let mut search = Self {
            newer_than: since(filter.since),
            older_than: before(last_before(filter.before.map(|id| id.0), filter.until)),
            event: filter.event.map(|id| id.0),
            hook: filter.hook.map(|id| id.0),
            state: filter.state.map(DeliveryState::name),
            limit: filter.limit,
            account: filter.account.clone(),
        };
        if let Some(event) = search.event {
            // A delivery's id begins with the time of its event's.
            let time = &event.as_bytes()[..6];
            search.newer_than = search.newer_than.max(time.to_vec());
            search.older_than = search.older_than.min([time, &[0xff; 11]].concat());
        }
        search
    }

    /// Whether all of the hook's deliveries are meant, which an index knows.
    fn by_hook(&self) -> bool {
        self.hook.is_some() && self.event.is_none()
    }

    fn includes(&self, member: &Member) -> bool {
        let id = member.id.0.as_bytes().as_slice();
        self.newer_than.as_slice() < id
            && id < self.older_than.as_slice()
            && self.event.is_none_or(|event| member.event.0 == event)
            && self.hook.is_none_or(|hook| member.hook.0 == hook)
    }

    async fn run(
        &self,
        tx: &mut SqliteConnection,
        kind: Kind,
        statement: &'static str,
        newer_than: &[u8],
        day: Option<i32>,
    ) -> Result<Vec<Place>> {
        let found: Vec<(Uuid, i32)> = sqlx::query_as(statement)
            .bind(newer_than)
            .bind(&self.older_than)
            .bind(self.event)
            .bind(self.hook)
            .bind(self.state)
            .bind(self.limit)
            .bind(day)
            .bind(&self.account)
            .fetch_all(tx)
            .await?;
        Ok(found
            .into_iter()
            .map(|(id, day)| Place { id, day, kind })
            .collect())
    }

    /// The newest of each day, as far as they may be among the newest of all.
    async fn run_by_day(
        &self,
        tx: &mut SqliteConnection,
        kind: Kind,
        days: &'static str,
        statement: &'static str,
        found: &mut Vec<Place>,
    ) -> Result<()> {
        let days: Vec<i32> = sqlx::query_scalar(days).fetch_all(&mut *tx).await?;
        for day in days {
            keep_newest(found, self.limit);
            let last = found.get((self.limit as usize).saturating_sub(1));
            let bound = after(last.map(|place| place.id)).max(self.newer_than.clone());
            found.extend(self.run(tx, kind, statement, &bound, Some(day)).await?);
        }
        Ok(())
    }
}

fn keep_newest(found: &mut Vec<Place>, limit: u32) {
    found.sort_by_key(|place| Reverse(place.id));
    found.truncate(limit as usize);
}

async fn live(tx: &mut SqliteConnection, search: &Search) -> Result<Vec<Place>> {
    let statement = if search.by_hook() {
        concat!(
            "-- postrider: deliveries_live_of_hook
            SELECT d.id, d.day FROM (
                SELECT id, day, hook_id, lease_token
                FROM postrider_deliveries INDEXED BY postrider_deliveries_waiting
                WHERE slot = 0 AND hook_id = ?4 AND lease_token IS NULL AND NOT holds_key
                UNION ALL
                SELECT id, day, hook_id, lease_token
                FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
                WHERE slot = 0 AND hook_id = ?4 AND lease_token IS NOT NULL
            ) AS d
            WHERE d.id > ?1 AND d.id < ?2 AND ?3 IS NULL",
            of_account!("d.hook_id"),
            "AND (?5 IS NULL OR ?5 = ",
            live_state!(),
            ") ORDER BY d.id DESC LIMIT ?6"
        )
    } else if search.state == Some(DeliveryState::InFlight.name()) {
        concat!(
            "-- postrider: deliveries_in_flight
            SELECT id, day FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
            WHERE slot = 0 AND lease_token IS NOT NULL AND id > ?1 AND id < ?2
                AND (?3 IS NULL OR event_id = ?3) AND (?4 IS NULL OR hook_id = ?4)",
            of_account!("hook_id"),
            "ORDER BY id DESC LIMIT ?6"
        )
    } else {
        concat!(
            "-- postrider: deliveries_live
            SELECT d.id, d.day FROM postrider_deliveries AS d
            WHERE d.slot = 0 AND d.id > ?1 AND d.id < ?2 AND NOT d.holds_key
                AND (?3 IS NULL OR d.event_id = ?3) AND (?4 IS NULL OR d.hook_id = ?4)",
            of_account!("d.hook_id"),
            "AND (?5 IS NULL OR ?5 = ",
            live_state!(),
            ") ORDER BY d.id DESC LIMIT ?6"
        )
    };
    search
        .run(tx, Kind::Live, statement, &search.newer_than, None)
        .await
}

/// The newest open members of leases.
async fn started(tx: &mut SqliteConnection, search: &Search) -> Result<Vec<Place>> {
    let leases = Started::all(tx).await?;
    let hooks = hooks_of(tx, search.account.as_deref()).await?;
    let mut found: Vec<_> = leases
        .iter()
        .flat_map(|started| {
            let of_account = |m: &Member| hooks.as_ref().is_none_or(|h| h.contains(&m.hook.0));
            let wanted = started
                .open_members()
                .filter(move |m| search.includes(m) && of_account(m));
            wanted.map(|member| started.place(member))
        })
        .collect();
    keep_newest(&mut found, search.limit);
    Ok(found)
}

/// The hooks of an account, deleted ones included; `None` for those of all.
async fn hooks_of(
    tx: &mut SqliteConnection,
    account: Option<&str>,
) -> Result<Option<HashSet<Uuid>>> {
    let Some(account) = account else {
        return Ok(None);
    };
    let hooks: Vec<Uuid> = sqlx::query_scalar(
        "-- postrider: hook_ids_of_account
        SELECT id FROM postrider_hooks WHERE account = ?1",
    )
    .bind(account)
    .fetch_all(tx)
    .await?;
    Ok(Some(hooks.into_iter().collect()))
}

impl Started {
    fn place(&self, member: Member) -> Place {
        let token = self.token;
        Place {
            id: member.id.0,
            day: self.day,
            kind: Kind::Started { token, member },
        }
    }
}

async fn ended(tx: &mut SqliteConnection, search: &Search, found: &mut Vec<Place>) -> Result<()> {
    if search.by_hook() {
        let statement = concat!(
            "-- postrider: deliveries_ended_of_hook
            SELECT delivery_id, day FROM postrider_ended
            WHERE slot = 0 AND hook_id = ?4 AND delivery_id > ?1 AND delivery_id < ?2
                AND (?5 IS NULL OR state = ?5)",
            of_account!("hook_id"),
            "ORDER BY delivery_id DESC LIMIT ?6"
        );
        let bound = &search.newer_than;
        found.extend(search.run(tx, Kind::Ended, statement, bound, None).await?);
        return Ok(());
    }
    let days = concat!(
        "-- postrider: ended_days\n",
        days!("postrider_ended"),
        "SELECT day FROM days WHERE day IS NOT NULL"
    );
    let statement = concat!(
        "-- postrider: deliveries_ended
        SELECT delivery_id, day FROM postrider_ended
        WHERE slot = 0 AND day = ?7 AND delivery_id > ?1 AND delivery_id < ?2
            AND (?3 IS NULL OR event_id = ?3) AND (?4 IS NULL OR hook_id = ?4)
            AND (?5 IS NULL OR state = ?5)",
        of_account!("hook_id"),
        "ORDER BY delivery_id DESC LIMIT ?6"
    );
    search
        .run_by_day(tx, Kind::Ended, days, statement, found)
        .await
}

/// What was accepted, unless it was sent again since and is found elsewhere.
async fn delivered(
    tx: &mut SqliteConnection,
    search: &Search,
    found: &mut Vec<Place>,
) -> Result<()> {
    macro_rules! delivered_only {
        () => {
            "a.outcome = 'accepted'
            AND NOT EXISTS (SELECT 1 FROM postrider_deliveries AS d
                WHERE d.slot = 0 AND d.id = a.delivery_id)
            AND NOT EXISTS (SELECT 1 FROM postrider_ended AS e
                WHERE e.slot = 0 AND e.day = a.day AND e.delivery_id = a.delivery_id)
            ORDER BY a.delivery_id DESC LIMIT ?6"
        };
    }
    if search.by_hook() {
        let statement = concat!(
            "-- postrider: deliveries_delivered_of_hook
            SELECT DISTINCT a.delivery_id, a.day FROM postrider_attempts AS a
            WHERE a.slot = 0 AND a.hook_id = ?4 AND a.delivery_id > ?1 AND a.delivery_id < ?2
                AND a.late = 0",
            of_account!("a.hook_id"),
            "AND ",
            delivered_only!()
        );
        let bound = &search.newer_than;
        found.extend(
            search
                .run(tx, Kind::Delivered, statement, bound, None)
                .await?,
        );
        return Ok(());
    }
    let days = concat!(
        "-- postrider: attempt_days\n",
        days!("postrider_attempts"),
        "SELECT day FROM days WHERE day IS NOT NULL"
    );
    let statement = concat!(
        "-- postrider: deliveries_delivered
        SELECT DISTINCT a.delivery_id, a.day FROM postrider_attempts AS a
        WHERE a.slot = 0 AND a.day = ?7 AND a.delivery_id > ?1 AND a.delivery_id < ?2
            AND (?3 IS NULL OR a.event_id = ?3) AND (?4 IS NULL OR a.hook_id = ?4)
            AND NOT a.late",
        of_account!("a.hook_id"),
        "AND ",
        delivered_only!()
    );
    search
        .run_by_day(tx, Kind::Delivered, days, statement, found)
        .await
}

struct ReportRow(DeliveryReport);

impl FromRow<'_, SqliteRow> for ReportRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let state: &str = row.try_get("state")?;
        let next_attempt_at: Option<i64> = row.try_get("next_attempt_at")?;
        let next_attempt_at = next_attempt_at.map(moment);
        let is_behind = next_attempt_at.is_some_and(|at| at >= never());
        Ok(Self(DeliveryReport {
            id: DeliveryId(row.try_get("id")?),
            event_id: EventId(row.try_get("event_id")?),
            hook_id: HookId(row.try_get("hook_id")?),
            account: row.try_get("account")?,
            event_type: row.try_get("event_type")?,
            state: DeliveryState::from_name(state)
                .ok_or_else(|| sqlx::Error::Decode(format!("the state {state:?}").into()))?,
            attempts: row.try_get("attempts")?,
            next_attempt_at: next_attempt_at.filter(|_| !is_behind),
            reason: match is_behind {
                true => Some(BEHIND.to_owned()),
                false => row.try_get("reason")?,
            },
        }))
    }
}

/// The deliveries at these places, in their order.
async fn reports(tx: &mut SqliteConnection, places: &[Place]) -> Result<Vec<DeliveryReport>> {
    macro_rules! of_event {
        ($column:literal, $row:literal) => {
            concat!(
                "coalesce((SELECT v.",
                $column,
                " FROM postrider_events AS v WHERE v.slot = 0
                    AND v.day = ",
                $row,
                ".day AND v.id = ",
                $row,
                ".event_id), '') AS ",
                $column
            )
        };
    }
    macro_rules! event {
        ($row:literal) => {
            concat!(
                of_event!("account", $row),
                ", ",
                of_event!("event_type", $row)
            )
        };
    }
    let mut found = HashMap::new();
    for (kind, statement) in [
        (
            Kind::Live,
            concat!(
                "-- postrider: report_live
                SELECT d.id, d.event_id, d.hook_id, d.attempts, NULL AS reason, ",
                event!("d"),
                ", ",
                live_state!(),
                " AS state,
                    CASE WHEN d.lease_token IS NOT NULL THEN NULL
                        WHEN d.next_attempt_at = ",
                along!(),
                " THEN d.turn_at
                        ELSE d.next_attempt_at END AS next_attempt_at
                FROM json_each(?1) AS p CROSS JOIN postrider_deliveries AS d
                ON d.slot = 0 AND d.id = unhex(p.value ->> 0)"
            ),
        ),
        (
            Kind::Ended,
            concat!(
                "-- postrider: report_ended
                SELECT e.delivery_id AS id, e.event_id, e.hook_id, e.attempts, e.reason, ",
                event!("e"),
                ", e.state, NULL AS next_attempt_at
                FROM json_each(?1) AS p CROSS JOIN postrider_ended AS e
                ON e.slot = 0 AND e.day = p.value ->> 1 AND e.delivery_id = unhex(p.value ->> 0)"
            ),
        ),
        (
            Kind::Delivered,
            concat!(
                "-- postrider: report_delivered
                SELECT a.delivery_id AS id, a.event_id, a.hook_id, max(a.number) AS attempts,
                    NULL AS reason, ",
                event!("a"),
                ", 'delivered' AS state, NULL AS next_attempt_at
                FROM json_each(?1) AS p CROSS JOIN postrider_attempts AS a
                ON a.slot = 0 AND a.day = p.value ->> 1 AND a.delivery_id = unhex(p.value ->> 0)
                WHERE NOT a.late GROUP BY a.delivery_id"
            ),
        ),
    ] {
        let of_kind = places.iter().filter(|place| place.kind == kind);
        let wanted = rows(of_kind.map(|place| (place.id.simple(), place.day)));
        if wanted.is_empty() {
            continue;
        }
        let reports: Vec<ReportRow> = sqlx::query_as(statement)
            .bind(wanted)
            .fetch_all(&mut *tx)
            .await?;
        found.extend(reports.into_iter().map(|row| (row.0.id.0, row.0)));
    }
    for place in places {
        if let Kind::Started { member, .. } = place.kind {
            found.insert(place.id, report_started(tx, place.day, member).await?);
        }
    }
    Ok(places
        .iter()
        .filter_map(|place| found.remove(&place.id))
        .collect())
}

async fn report_started(
    tx: &mut SqliteConnection,
    day: i32,
    member: Member,
) -> Result<DeliveryReport> {
    let event: Option<(String, String)> = sqlx::query_as(
        "-- postrider: report_started
        SELECT account, event_type FROM postrider_events WHERE slot = 0 AND day = ?1 AND id = ?2",
    )
    .bind(day)
    .bind(member.event.0)
    .fetch_optional(tx)
    .await?;
    let (account, event_type) = event.unwrap_or_default();
    Ok(DeliveryReport {
        id: member.id,
        event_id: member.event,
        hook_id: member.hook,
        account,
        event_type,
        state: DeliveryState::InFlight,
        attempts: 0,
        next_attempt_at: None,
        reason: None,
    })
}

fn not_found(id: DeliveryId) -> Error {
    Error::NotFound {
        what: "delivery",
        id: id.to_string(),
    }
}
