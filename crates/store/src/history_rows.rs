//! The rows of history, and the reports that are made of them.

use crate::row_state::{BLOCKED_REASON, RowState, StateColumns};
use crate::stored_row::{StoredRow, WrittenRow};
use crate::{
    AttemptReport, DeliveryReport, DeliveryState, EventReport, EventState, RejectedReport,
};
use chrono::NaiveDate;
use postrider_core::{AttemptId, DeliveryId, EventId, HookId, Timestamp};
use serde_json::value::RawValue;
use std::collections::HashMap;
use uuid::Uuid;

/// The state, in SQL, of the row `$delivery` of `postrider_deliveries` while it has no lease.
///
/// A delivery of a deleted hook is held: it is never sent, and upkeep cancels it.
macro_rules! waiting_state {
    ($delivery:literal) => {
        concat!(
            "CASE WHEN EXISTS (SELECT 1 FROM postrider_hooks AS h WHERE h.id = ",
            $delivery,
            ".hook_id AND h.status = 'active' AND h.deleted_at IS NULL)
            THEN 'pending' ELSE 'held' END"
        )
    };
}
pub(crate) use waiting_state;

/// A delivery, from whichever table it is found in.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryRow {
    pub slot: i16,
    /// The day of its event's fan-out, by which history is partitioned.
    pub day: NaiveDate,
    pub id: DeliveryId,
    pub event: EventId,
    pub hook: HookId,
    pub state: DeliveryState,
    pub attempts: u32,
    /// As it is shown: `None` also for one that waits for its predecessor.
    pub next_attempt_at: Option<Timestamp>,
    pub reason: Option<String>,
}

impl DeliveryRow {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        let name = row.text("state")?;
        let state = DeliveryState::from_name(&name).ok_or_else(|| unknown("state", &name))?;
        let id = DeliveryId(row.uuid("id")?);
        let waits = match state {
            DeliveryState::InFlight => None,
            _ => waiting_row_state(row, id)?,
        };
        let is_blocked = matches!(waits, Some(RowState::Blocked { .. }));
        Ok(Self {
            slot: i16::try_from(row.number("slot")?).unwrap_or_default(),
            day: row.day("day")?,
            id,
            event: EventId(row.uuid("event_id")?),
            hook: HookId(row.uuid("hook_id")?),
            state,
            attempts: row.count("attempts")?,
            next_attempt_at: waits.and_then(RowState::shown_due),
            reason: match is_blocked {
                true => Some(BLOCKED_REASON.to_owned()),
                false => row.text_or_null("reason")?,
            },
        })
    }

    /// A delivery in its first attempt, which has no row of its own yet.
    pub(crate) fn first_attempt(
        slot: i16,
        day: NaiveDate,
        ids: (DeliveryId, EventId, HookId),
    ) -> Self {
        let (id, event, hook) = ids;
        Self {
            slot,
            day,
            id,
            event,
            hook,
            state: DeliveryState::InFlight,
            attempts: 0,
            next_attempt_at: None,
            reason: None,
        }
    }
}

/// The state of a row of `postrider_deliveries` without a lease; `None` for one of another table.
/// A row that holds its key is found in `postrider_ended` instead.
fn waiting_row_state(row: &impl StoredRow, id: DeliveryId) -> sqlx::Result<Option<RowState>> {
    let Some(next_attempt_at) = row.time_or_null("next_attempt_at")? else {
        return Ok(None);
    };
    let columns = StateColumns {
        next_attempt_at,
        turn_at: row.time_or_null("turn_at")?,
        batch_id: row.uuid_or_null("batch_id")?.map(DeliveryId),
        holds_key: false,
    };
    Ok(Some(RowState::of(id, columns)))
}

/// The accounts and types of events.
pub(crate) type EventNames = HashMap<EventId, (String, String)>;

/// Reads the account and the type of an event.
pub(crate) fn event_names(row: &impl StoredRow) -> sqlx::Result<(EventId, (String, String))> {
    let names = (row.text("account")?, row.text("event_type")?);
    Ok((EventId(row.uuid("id")?), names))
}

/// The deliveries as they are shown; account and type are empty where the event is gone.
pub(crate) fn delivery_reports(
    deliveries: Vec<DeliveryRow>,
    events: &EventNames,
) -> Vec<DeliveryReport> {
    let reports = deliveries.into_iter().map(|delivery| {
        let (account, event_type) = events.get(&delivery.event).cloned().unwrap_or_default();
        DeliveryReport {
            id: delivery.id,
            event_id: delivery.event,
            hook_id: delivery.hook,
            account,
            event_type,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            reason: delivery.reason,
        }
    });
    reports.collect()
}

/// Reads an event as it is shown, from any of the three tables it may be in.
pub(crate) fn event_report(row: &impl WrittenRow) -> sqlx::Result<EventReport> {
    let name = row.text("state")?;
    let payload = row.lossy_text_or_null("payload")?;
    Ok(EventReport {
        id: EventId(row.uuid("id")?),
        account: row.lossy_text_or_null("account")?.unwrap_or_default(),
        event_type: row.lossy_text_or_null("event_type")?.unwrap_or_default(),
        state: EventState::from_name(&name).ok_or_else(|| unknown("state", &name))?,
        occurred_at: row.written_time_or_null("occurred_at")?,
        fanned_out_at: row.time_or_null("fanned_out_at")?,
        ordering_key: row.lossy_text_or_null("ordering_key")?,
        dedup_key: row.lossy_text_or_null("dedup_key")?,
        erased_at: row.time_or_null("erased_at")?,
        // The payload of a rejected row may not be JSON; then none is shown.
        payload: payload.and_then(|text| RawValue::from_string(text).ok()),
    })
}

/// Reads an attempt as it is shown.
pub(crate) fn attempt_report(row: &impl WrittenRow) -> sqlx::Result<AttemptReport> {
    let status = row.number_or_null("status")?;
    Ok(AttemptReport {
        id: AttemptId(row.uuid("id")?),
        number: row.count("number")?,
        at: row.time("at")?,
        outcome: row.text("outcome")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        error: row.text_or_null("error")?,
        duration_ms: row.count("duration_ms")?,
        response: row.lossy_text_or_null("response")?,
        late: row.flag("late")?,
    })
}

/// Reads a rejected row as it is shown.
pub(crate) fn rejected_report(row: &impl WrittenRow) -> sqlx::Result<RejectedReport> {
    Ok(RejectedReport {
        id: EventId(row.uuid("id")?),
        reason: row.text("reason")?,
        rejected_at: row.time("rejected_at")?,
        account: row.lossy_text_or_null("account")?,
        event_type: row.lossy_text_or_null("event_type")?,
    })
}

/// The lowest id that anything inserted at `since` or later can have.
pub(crate) fn lowest_id(since: Option<Timestamp>) -> Uuid {
    since.map_or(Uuid::nil(), |at| DeliveryId::first_since(at).0)
}

/// The id that all others must be below: that of the row the last page ended with, and of what
/// was inserted at `until`.
pub(crate) fn id_bound(before: Option<Uuid>, until: Option<Timestamp>) -> Uuid {
    let until = until.map_or(Uuid::max(), |at| DeliveryId::first_since(at).0);
    before.map_or(until, |id| id.min(until))
}

/// The first and the last id that a delivery of the event can have: both begin with its time.
pub(crate) fn ids_of_event(event: EventId) -> (Uuid, Uuid) {
    let after_time = u128::MAX >> 48;
    let event = event.0.as_u128();
    (
        Uuid::from_u128(event & !after_time),
        Uuid::from_u128(event | after_time),
    )
}

fn unknown(what: &str, name: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the {what} {name:?} is unknown").into())
}
