//! Listings of deliveries, newest first.
//!
//! The newest ids are taken from each table that may have some, and only those on the page are
//! read.

use super::deliveries::{DeliveryPlace, DeliveryTable, live_state};
use super::history::days;
use super::lease_group::{LeaseGroup, Member};
use crate::history_rows::{id_bound, ids_of_event, lowest_id};
use crate::{DeliveryFilter, DeliveryState, Result};
use postrider_core::DeliveryId;
use sqlx::SqliteConnection;
use std::cmp::Reverse;
use std::collections::HashSet;
use uuid::Uuid;

/// The conditions that every query of a listing shares: ?1 to ?6 and ?8 of its statement.
struct DeliverySearch {
    /// Only this id and those above it.
    lowest: Uuid,
    /// Only ids below this one.
    before: Uuid,
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

/// The newest deliveries that the filter selects.
pub(super) async fn search(
    tx: &mut SqliteConnection,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryPlace>> {
    use DeliveryState::{Delivered, Held, InFlight, Pending};
    let search = DeliverySearch::of(filter);
    let mut found = Vec::new();
    if filter
        .state
        .is_none_or(|s| matches!(s, Pending | InFlight | Held))
    {
        found.extend(live(tx, &search).await?);
    }
    if filter.state.is_none_or(|s| s == InFlight) {
        found.extend(first_attempts(tx, &search).await?);
    }
    if filter
        .state
        .is_none_or(|s| !matches!(s, Pending | InFlight | Held | Delivered))
    {
        ended(tx, &search, &mut found).await?;
    }
    if filter.state.is_none_or(|s| s == Delivered) {
        delivered(tx, &search, &mut found).await?;
    }
    keep_newest(&mut found, filter.limit);
    Ok(found)
}

impl DeliverySearch {
    fn of(filter: &DeliveryFilter) -> Self {
        let mut search = Self {
            lowest: lowest_id(filter.since),
            before: id_bound(filter.before.map(|id| id.0), filter.until),
            event: filter.event.map(|id| id.0),
            hook: filter.hook.map(|id| id.0),
            state: filter.state.map(DeliveryState::name),
            limit: filter.limit,
            account: filter.account.clone(),
        };
        if let Some((first, last)) = filter.event.map(ids_of_event) {
            search.lowest = search.lowest.max(first);
            search.before = search.before.min(last);
        }
        search
    }

    /// Whether all deliveries of one hook are asked for, which an index finds.
    fn by_hook(&self) -> bool {
        self.hook.is_some() && self.event.is_none()
    }

    fn includes(&self, member: &Member) -> bool {
        let id = member.id.0;
        self.lowest <= id
            && id < self.before
            && self.event.is_none_or(|event| member.event.0 == event)
            && self.hook.is_none_or(|hook| member.hook.0 == hook)
    }

    async fn run(
        &self,
        tx: &mut SqliteConnection,
        table: DeliveryTable,
        statement: &'static str,
        lowest: Uuid,
        day: Option<i32>,
    ) -> Result<Vec<DeliveryPlace>> {
        let found: Vec<(Uuid, i32)> = sqlx::query_as(statement)
            .bind(lowest)
            .bind(self.before)
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
            .map(|(id, day)| DeliveryPlace {
                id: DeliveryId(id),
                day,
                table,
            })
            .collect())
    }

    /// Runs the statement for each day, newest first, for rows that may be on the page.
    async fn run_by_day(
        &self,
        tx: &mut SqliteConnection,
        table: DeliveryTable,
        days: &'static str,
        statement: &'static str,
        found: &mut Vec<DeliveryPlace>,
    ) -> Result<()> {
        let days: Vec<i32> = sqlx::query_scalar(days).fetch_all(&mut *tx).await?;
        for day in days {
            keep_newest(found, self.limit);
            let last = found.get((self.limit as usize).saturating_sub(1));
            let bound = last.map_or(self.lowest, |place| place.id.0.max(self.lowest));
            found.extend(self.run(tx, table, statement, bound, Some(day)).await?);
        }
        Ok(())
    }
}

fn keep_newest(found: &mut Vec<DeliveryPlace>, limit: u32) {
    found.sort_by_key(|place| Reverse(place.id));
    found.truncate(limit as usize);
}

async fn live(tx: &mut SqliteConnection, search: &DeliverySearch) -> Result<Vec<DeliveryPlace>> {
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
            WHERE d.id >= ?1 AND d.id < ?2 AND ?3 IS NULL",
            of_account!("d.hook_id"),
            "AND (?5 IS NULL OR ?5 = ",
            live_state!(),
            ") ORDER BY d.id DESC LIMIT ?6"
        )
    } else if search.state == Some(DeliveryState::InFlight.name()) {
        concat!(
            "-- postrider: deliveries_in_flight
            SELECT id, day FROM postrider_deliveries INDEXED BY postrider_deliveries_leased
            WHERE slot = 0 AND lease_token IS NOT NULL AND id >= ?1 AND id < ?2
                AND (?3 IS NULL OR event_id = ?3) AND (?4 IS NULL OR hook_id = ?4)",
            of_account!("hook_id"),
            "ORDER BY id DESC LIMIT ?6"
        )
    } else {
        concat!(
            "-- postrider: deliveries_live
            SELECT d.id, d.day FROM postrider_deliveries AS d
            WHERE d.slot = 0 AND d.id >= ?1 AND d.id < ?2 AND NOT d.holds_key
                AND (?3 IS NULL OR d.event_id = ?3) AND (?4 IS NULL OR d.hook_id = ?4)",
            of_account!("d.hook_id"),
            "AND (?5 IS NULL OR ?5 = ",
            live_state!(),
            ") ORDER BY d.id DESC LIMIT ?6"
        )
    };
    search
        .run(
            tx,
            DeliveryTable::Deliveries,
            statement,
            search.lowest,
            None,
        )
        .await
}

/// The newest open members of lease groups.
async fn first_attempts(
    tx: &mut SqliteConnection,
    search: &DeliverySearch,
) -> Result<Vec<DeliveryPlace>> {
    let groups = LeaseGroup::all(tx).await?;
    let hooks = hooks_of(tx, search.account.as_deref()).await?;
    let mut found: Vec<_> = groups
        .iter()
        .flat_map(|group| {
            let of_account = |m: &Member| hooks.as_ref().is_none_or(|h| h.contains(&m.hook.0));
            let wanted = group
                .open_members()
                .filter(move |m| search.includes(m) && of_account(m));
            wanted.map(|member| group.place(member))
        })
        .collect();
    keep_newest(&mut found, search.limit);
    Ok(found)
}

/// The hooks of the account, deleted ones included; `None` where no account is asked for.
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

async fn ended(
    tx: &mut SqliteConnection,
    search: &DeliverySearch,
    found: &mut Vec<DeliveryPlace>,
) -> Result<()> {
    if search.by_hook() {
        let statement = concat!(
            "-- postrider: deliveries_ended_of_hook
            SELECT delivery_id, day FROM postrider_ended
            WHERE slot = 0 AND hook_id = ?4 AND delivery_id >= ?1 AND delivery_id < ?2
                AND (?5 IS NULL OR state = ?5)",
            of_account!("hook_id"),
            "ORDER BY delivery_id DESC LIMIT ?6"
        );
        let bound = search.lowest;
        found.extend(
            search
                .run(tx, DeliveryTable::Ended, statement, bound, None)
                .await?,
        );
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
        WHERE slot = 0 AND day = ?7 AND delivery_id >= ?1 AND delivery_id < ?2
            AND (?3 IS NULL OR event_id = ?3) AND (?4 IS NULL OR hook_id = ?4)
            AND (?5 IS NULL OR state = ?5)",
        of_account!("hook_id"),
        "ORDER BY delivery_id DESC LIMIT ?6"
    );
    search
        .run_by_day(tx, DeliveryTable::Ended, days, statement, found)
        .await
}

/// Deliveries with an accepted attempt, unless a row elsewhere shows that they were sent again.
async fn delivered(
    tx: &mut SqliteConnection,
    search: &DeliverySearch,
    found: &mut Vec<DeliveryPlace>,
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
            WHERE a.slot = 0 AND a.hook_id = ?4 AND a.delivery_id >= ?1 AND a.delivery_id < ?2
                AND a.late = 0",
            of_account!("a.hook_id"),
            "AND ",
            delivered_only!()
        );
        let bound = search.lowest;
        found.extend(
            search
                .run(tx, DeliveryTable::Attempts, statement, bound, None)
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
        WHERE a.slot = 0 AND a.day = ?7 AND a.delivery_id >= ?1 AND a.delivery_id < ?2
            AND (?3 IS NULL OR a.event_id = ?3) AND (?4 IS NULL OR a.hook_id = ?4)
            AND NOT a.late",
        of_account!("a.hook_id"),
        "AND ",
        delivered_only!()
    );
    search
        .run_by_day(tx, DeliveryTable::Attempts, days, statement, found)
        .await
}
