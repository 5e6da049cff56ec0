//! The events that SOLAPI's registrants can choose from: `/webhook/v1/events`.
//!
//! There is no such table in the database: what there is, is configured.

use super::query::{Held, Kind};
use super::refusal::SolapiRefusal;
use super::request::SolapiRequest;
use super::shown_date;
use axum::{Extension, Json};
use chrono::{DateTime, NaiveDateTime};
use postrider_core::Timestamp;
use serde::Serialize;
use std::sync::Arc;

/// An event that can be registered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventEntry {
    /// The id, as clients register it.
    pub(super) id: String,
    /// The name, as clients are shown it.
    pub(super) name: String,
    /// The type of the events that hooks then get.
    pub(super) event_type: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SolapiPage {
    limit: usize,
    event_list: Vec<SolapiItem>,
    start_key: Option<String>,
    next_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SolapiItem {
    description: Option<String>,
    event_id: String,
    name: String,
    date_created: String,
    date_updated: String,
}

const FIELDS: &[(&str, Kind)] = &[
    ("eventId", Kind::Text),
    ("name", Kind::Text),
    ("dateCreated", Kind::Time),
    ("dateUpdated", Kind::Time),
];

/// Lists them, those whose id sorts last first.
pub(super) async fn list(
    Extension(entries): Extension<Arc<[EventEntry]>>,
    call: SolapiRequest,
) -> Result<Json<SolapiPage>, SolapiRefusal> {
    let filter = call.query.filter(FIELDS)?;
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by(|one, other| other.id.cmp(&one.id));
    let mut asked = entries.into_iter().filter(|entry| {
        let from = filter.start_key.as_ref();
        from.is_none_or(|from| entry.id <= *from)
            && filter.matches(|field| match field {
                "eventId" => Some(Held::Text(&entry.id)),
                "name" => Some(Held::Text(&entry.name)),
                _ => Some(Held::Time(date_of(&entry.id))),
            })
    });
    let page: Vec<_> = asked.by_ref().take(filter.limit).collect();
    Ok(Json(SolapiPage {
        limit: filter.limit,
        start_key: page.first().map(|entry| entry.id.clone()),
        next_key: asked.next().map(|entry| entry.id.clone()),
        event_list: page.into_iter().map(SolapiItem::of).collect(),
    }))
}

impl SolapiItem {
    fn of(entry: &EventEntry) -> Self {
        let date = shown_date(date_of(&entry.id));
        Self {
            description: None,
            event_id: entry.id.clone(),
            name: entry.name.clone(),
            date_created: date.clone(),
            date_updated: date,
        }
    }
}

/// When an event's id was drawn; the beginning of 1970 for one that does not tell.
fn date_of(id: &str) -> Timestamp {
    let digits = id.strip_prefix("WH01ET").and_then(|rest| rest.get(..15));
    let told = digits.and_then(|digits| {
        let (seconds, millis) = digits.split_at(12);
        let at = format!("20{seconds}.{millis}");
        NaiveDateTime::parse_from_str(&at, "%Y%m%d%H%M%S%.3f").ok()
    });
    told.map_or(DateTime::UNIX_EPOCH, |at| at.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_id_tells_when_it_was_drawn() {
        for (id, date) in [
            (
                "WH01ET191031070016949wNmNpJhbTBo",
                "2019-10-31T07:00:16.949Z",
            ),
            (
                "WH01ET1912300028511881r0YvPYV8kC",
                "2019-12-30T00:28:51.188Z",
            ),
            ("SINGLE-REPORT", "1970-01-01T00:00:00.000Z"),
            ("WH01ETx", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(shown_date(date_of(id)), date, "{id}");
        }
    }
}
