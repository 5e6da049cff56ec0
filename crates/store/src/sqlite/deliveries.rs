//! Deliveries in whichever table they are, by their ids.
//!
//! A delivery that waits or is being attempted again has a row in `postrider_deliveries`; one in
//! its first attempt is a member of a lease group; one that ended otherwise than delivered has a
//! row in `postrider_ended`. One without any of these was delivered if it has an accepted
//! attempt.

use super::history::days;
use super::lease_group::{LeaseGroup, Member};
use super::values::{day_number, day_of, rows};
use crate::error::delivery_not_found;
use crate::history_rows::{DeliveryRow, delivery_reports, event_names};
use crate::{DeliveryReport, Result};
use postrider_core::DeliveryId;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashMap;
use uuid::Uuid;

/// The table that a delivery is found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeliveryTable {
    Deliveries,
    Ended,
    /// Only accepted attempts are left of it.
    Attempts,
    /// An open member of the lease group with this token.
    Leases {
        token: Uuid,
        member: Member,
    },
}

/// Where a delivery is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeliveryPlace {
    pub id: DeliveryId,
    pub day: i32,
    pub table: DeliveryTable,
}

/// The state, in SQL, of the row `d` of `postrider_deliveries`.
macro_rules! live_state {
    () => {
        concat!(
            "CASE WHEN d.lease_token IS NOT NULL THEN 'in_flight' ELSE ",
            crate::history_rows::waiting_state!("d"),
            " END"
        )
    };
}
pub(super) use live_state;

impl LeaseGroup {
    pub(super) fn place(&self, member: Member) -> DeliveryPlace {
        let token = self.token;
        DeliveryPlace {
            id: member.id,
            day: self.day,
            table: DeliveryTable::Leases { token, member },
        }
    }
}

/// The place of a delivery.
pub(super) async fn locate(tx: &mut SqliteConnection, id: DeliveryId) -> Result<DeliveryPlace> {
    for (table, statement) in [
        (
            DeliveryTable::Deliveries,
            "-- postrider: locate_live
            SELECT day FROM postrider_deliveries
            WHERE slot = 0 AND id = ?1 AND NOT holds_key",
        ),
        (
            DeliveryTable::Ended,
            concat!(
                "-- postrider: locate_ended\n",
                days!("postrider_ended"),
                "SELECT e.day FROM days CROSS JOIN postrider_ended AS e
                WHERE e.slot = 0 AND e.day = days.day AND e.delivery_id = ?1"
            ),
        ),
        (
            DeliveryTable::Attempts,
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
            return Ok(DeliveryPlace { id, day, table });
        }
    }
    for group in LeaseGroup::all(tx).await? {
        let named = group.open_members().find(|member| member.id == id);
        if let Some(member) = named {
            return Ok(group.place(member));
        }
    }
    Err(delivery_not_found(id))
}

/// The delivery in its present state.
pub(super) async fn find(tx: &mut SqliteConnection, id: DeliveryId) -> Result<DeliveryRow> {
    let place = locate(tx, id).await?;
    let mut found = read(tx, &[place]).await?;
    found.pop().ok_or_else(|| delivery_not_found(id))
}

/// The deliveries at these places, in their order.
async fn read(tx: &mut SqliteConnection, places: &[DeliveryPlace]) -> Result<Vec<DeliveryRow>> {
    let mut found = HashMap::new();
    for (table, statement) in [
        (
            DeliveryTable::Deliveries,
            concat!(
                "-- postrider: report_live
                SELECT d.slot, d.day, d.id, d.event_id, d.hook_id, d.attempts, NULL AS reason, ",
                live_state!(),
                " AS state, d.next_attempt_at, d.turn_at, d.batch_id
                FROM json_each(?1) AS p CROSS JOIN postrider_deliveries AS d
                ON d.slot = 0 AND d.id = unhex(p.value ->> 0)"
            ),
        ),
        (
            DeliveryTable::Ended,
            "-- postrider: report_ended
            SELECT e.slot, e.day, e.delivery_id AS id, e.event_id, e.hook_id, e.attempts,
                e.reason, e.state, NULL AS next_attempt_at, NULL AS turn_at
            FROM json_each(?1) AS p CROSS JOIN postrider_ended AS e
            ON e.slot = 0 AND e.day = p.value ->> 1 AND e.delivery_id = unhex(p.value ->> 0)",
        ),
        (
            DeliveryTable::Attempts,
            "-- postrider: report_delivered
            SELECT a.slot, a.day, a.delivery_id AS id, a.event_id, a.hook_id,
                max(a.number) AS attempts, NULL AS reason, 'delivered' AS state,
                NULL AS next_attempt_at, NULL AS turn_at
            FROM json_each(?1) AS p CROSS JOIN postrider_attempts AS a
            ON a.slot = 0 AND a.day = p.value ->> 1 AND a.delivery_id = unhex(p.value ->> 0)
            WHERE NOT a.late GROUP BY a.delivery_id",
        ),
    ] {
        let of_table = places.iter().filter(|place| place.table == table);
        let wanted = rows(of_table.map(|place| (place.id.0.simple(), place.day)));
        if wanted.is_empty() {
            continue;
        }
        let rows = sqlx::query(statement)
            .bind(wanted)
            .try_map(|row: SqliteRow| DeliveryRow::read(&row))
            .fetch_all(&mut *tx)
            .await?;
        found.extend(rows.into_iter().map(|row| (row.id, row)));
    }
    for place in places {
        if let DeliveryTable::Leases { member, .. } = place.table {
            let ids = (member.id, member.event, member.hook);
            found.insert(
                place.id,
                DeliveryRow::first_attempt(0, day_of(place.day), ids),
            );
        }
    }
    Ok(places
        .iter()
        .filter_map(|place| found.remove(&place.id))
        .collect())
}

/// The delivery as it is shown.
pub(super) async fn report(
    tx: &mut SqliteConnection,
    found: DeliveryRow,
) -> Result<DeliveryReport> {
    let id = found.id;
    let mut reports = reports(tx, vec![found]).await?;
    reports.pop().ok_or_else(|| delivery_not_found(id))
}

/// The deliveries at these places as they are shown, in their order.
pub(super) async fn reports_at(
    tx: &mut SqliteConnection,
    places: &[DeliveryPlace],
) -> Result<Vec<DeliveryReport>> {
    let found = read(tx, places).await?;
    reports(tx, found).await
}

async fn reports(
    tx: &mut SqliteConnection,
    found: Vec<DeliveryRow>,
) -> Result<Vec<DeliveryReport>> {
    let events = sqlx::query(
        "-- postrider: event_types
        WITH k (v) AS MATERIALIZED (SELECT value FROM json_each(?1))
        SELECT e.id, e.account, e.event_type FROM k CROSS JOIN postrider_events AS e
        ON e.slot = 0 AND e.day = v ->> 0 AND e.id = unhex(v ->> 1)",
    )
    .bind(rows(
        found
            .iter()
            .map(|row| (day_number(row.day), row.event.0.simple())),
    ))
    .try_map(|row: SqliteRow| event_names(&row))
    .fetch_all(tx)
    .await?;
    Ok(delivery_reports(found, &events.into_iter().collect()))
}
