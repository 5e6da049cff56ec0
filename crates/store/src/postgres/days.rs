//! The days of history, and walks over them.
//!
//! A statement locks every partition that it may read, with its indexes, until its transaction ends.
//! The server has one table of locks for all its databases; when it is full, the inserts of
//! applications fail too. So every statement names its days in a way that the planner sees, at most
//! [`AT_ONCE`] of them, and a walk gives back the locks of the days behind it: the locks of a
//! statement do not grow with the retention.
//!
//! The planner sees constants: the elements of a parameter on the calm connections, whose plans are
//! made for each call, and a [`literal`] in the text on the hot ones, whose plans are kept. A plan that
//! is kept and takes its day from a parameter reads one partition and locks all.

use super::connection::Connection;
use crate::Result;
use chrono::{Days, NaiveDate, NaiveTime};
use postrider_core::Timestamp;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The largest number of days that a statement names.
pub(super) const AT_ONCE: usize = 8;

/// Number of days of the first statement of a listing: a page is usually found in them.
const AT_FIRST: usize = 4;

/// One snapshot for all the queries of an answer: a row that moves meanwhile is read once. Going back
/// to the savepoint changes nothing in that.
pub(super) const SNAPSHOT: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT postrider_walk";

/// The slots and days of which history has rows.
pub(super) struct HistoryExtent {
    /// The slots that can have rows whatever their day is.
    slots: Vec<i16>,
    /// Newest first.
    pub days: Vec<NaiveDate>,
}

impl HistoryExtent {
    pub(super) async fn read(connection: &mut Connection) -> Result<Self> {
        let (slots, days) = sqlx::query_as(
            "-- postrider: extent
            WITH RECURSIVE occupied AS (
                (SELECT slot FROM postrider_deliveries ORDER BY slot DESC, id DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT next.slot FROM postrider_deliveries AS next
                        WHERE next.slot < o.slot ORDER BY next.slot DESC, next.id DESC LIMIT 1)
                FROM occupied AS o WHERE o.slot IS NOT NULL
            )
            SELECT ARRAY(
                       SELECT slot FROM occupied WHERE slot IS NOT NULL
                       UNION
                       SELECT slot FROM postrider_leases
                       UNION
                       SELECT generate_series(0, slots - 1)::smallint
                       FROM postrider_meta WHERE singleton
                       ORDER BY 1
                   ),
                   ARRAY(
                       SELECT DISTINCT to_date(right(part.relname, 8), 'YYYYMMDD')
                       FROM pg_inherits AS i JOIN pg_class AS part ON part.oid = i.inhrelid
                       WHERE i.inhparent IN ('postrider_events'::regclass,
                                             'postrider_ended'::regclass)
                         AND part.relname ~ '_[0-9]{8}$'
                       ORDER BY 1 DESC
                   )",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { slots, days })
    }

    /// The slots that can have rows whatever their day is.
    pub(super) fn slots(&self) -> &[i16] {
        &self.slots
    }

    /// Leaves out the days that are too old for anything inserted at `since` or later.
    pub(super) fn begin_at(&mut self, since: Option<Timestamp>) {
        if let Some(first) = since.and_then(|since| first_day_of(since.date_naive())) {
            self.days.retain(|day| *day >= first);
        }
    }

    /// The days from the newest on, in stretches: what one statement of a listing names.
    pub(super) fn stretches(&self) -> impl Iterator<Item = &[NaiveDate]> {
        let mut rest = self.days.as_slice();
        let mut size = AT_FIRST;
        std::iter::from_fn(move || {
            let (stretch, older) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = older;
            size = AT_ONCE;
            (!stretch.is_empty()).then_some(stretch)
        })
    }

    /// All days, in the order in which to look for something with one of these ids: an event is
    /// fanned out when its id is drawn, or later. One stretch at least, which may be empty.
    pub(super) fn stretches_for(&self, ids: impl IntoIterator<Item = Uuid>) -> Vec<Vec<NaiveDate>> {
        let earliest = ids.into_iter().map(born_on).min();
        let first = earliest.and_then(first_day_of).unwrap_or(NaiveDate::MIN);
        let (mut later, earlier): (Vec<_>, Vec<_>) =
            self.days.iter().partition(|day| **day >= first);
        later.reverse();
        let days: Vec<NaiveDate> = later.into_iter().chain(earlier).copied().collect();
        let (near, far) = days.split_at_checked(AT_FIRST).unwrap_or((&days, &[]));
        let far = far.chunks(AT_ONCE).map(<[NaiveDate]>::to_vec);
        std::iter::once(near.to_vec()).chain(far).collect()
    }
}

/// A walk over days in one transaction, which has set the savepoint `postrider_walk`.
#[derive(Debug, Default)]
pub(super) struct Walk {
    begun: bool,
}

impl Walk {
    /// Sets the savepoint, in a transaction that may have written before.
    pub(super) async fn within(connection: &mut Connection) -> Result<Self> {
        sqlx::raw_sql("SAVEPOINT postrider_walk")
            .execute(connection)
            .await?;
        Ok(Self::default())
    }

    /// Gives back all locks of the walk, and forgets the savepoint that [`within`](Self::within) set.
    pub(super) async fn end(self, connection: &mut Connection) -> Result<()> {
        let sql = "ROLLBACK TO SAVEPOINT postrider_walk; RELEASE SAVEPOINT postrider_walk";
        sqlx::raw_sql(sql).execute(connection).await?;
        Ok(())
    }

    /// Gives back the locks of what the walk has read so far.
    pub(super) async fn step(&mut self, connection: &mut Connection) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            sqlx::raw_sql("ROLLBACK TO SAVEPOINT postrider_walk")
                .execute(connection)
                .await?;
        }
        Ok(())
    }

    /// [`step`](Self::step), and the slots that rows of these days may be in.
    pub(super) async fn enter(
        &mut self,
        connection: &mut Connection,
        extent: &HistoryExtent,
        days: &[NaiveDate],
    ) -> Result<Vec<i16>> {
        self.step(connection).await?;
        slots_of(connection, extent, days).await
    }
}

/// The slots that rows of these days may be in.
pub(super) async fn slots_of(
    connection: &mut Connection,
    extent: &HistoryExtent,
    days: &[NaiveDate],
) -> Result<Vec<i16>> {
    let occupied: Vec<i16> = sqlx::query_scalar(
        "-- postrider: slots_of_days
        WITH RECURSIVE occupied AS (
            (SELECT slot FROM postrider_events WHERE day = ANY($1) ORDER BY slot LIMIT 1)
            UNION ALL
            SELECT (SELECT next.slot FROM postrider_events AS next
                    WHERE day = ANY($1) AND next.slot > o.slot ORDER BY next.slot LIMIT 1)
            FROM occupied AS o WHERE o.slot IS NOT NULL
        )
        SELECT slot FROM occupied WHERE slot IS NOT NULL",
    )
    .bind(days)
    .fetch_all(connection)
    .await?;
    let all: BTreeSet<_> = occupied.iter().chain(extent.slots()).copied().collect();
    Ok(all.into_iter().collect())
}

/// A day in the text of a statement, whose plan is then made for this day.
pub(super) fn literal(day: NaiveDate) -> String {
    format!("DATE '{day}'")
}

/// Whether every row older than `last` lies in days before this stretch: ids begin with their
/// time, and no event is fanned out before it happens.
pub(super) fn reaches(last: Uuid, stretch: &[NaiveDate]) -> bool {
    let born = millis(last);
    let begins = |day: &NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    stretch.last().is_some_and(|oldest| born >= begins(oldest))
}

/// The day on which an id was drawn, by the time in it.
fn born_on(id: Uuid) -> NaiveDate {
    let born = Timestamp::from_timestamp_millis(millis(id));
    born.map_or(NaiveDate::MIN, |at| at.date_naive())
}

fn millis(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX)
}

/// The first day whose events may have an id of this day: the clock that drew it may have run ahead
/// of the one that fanned the event out.
fn first_day_of(born: NaiveDate) -> Option<NaiveDate> {
    born.checked_sub_days(Days::new(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};
    use postrider_core::EventId;

    fn day(number: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, 1).unwrap() + Days::new(number)
    }

    /// The days 0 to `count`, newest first.
    fn extent(count: u64) -> HistoryExtent {
        HistoryExtent {
            slots: vec![0],
            days: (0..count).rev().map(day).collect(),
        }
    }

    #[test]
    fn stretches_cover_every_day_once_and_none_is_large() {
        let extent = extent(33);
        let stretches: Vec<_> = extent.stretches().collect();
        assert_eq!(stretches.concat(), extent.days);
        let sizes: Vec<_> = stretches.iter().map(|s| s.len()).collect();
        assert_eq!(sizes, [4, 8, 8, 8, 5]);
    }

    #[test]
    fn an_id_is_looked_for_on_its_day_first_then_later_and_then_everywhere() {
        let noon = day(20).and_hms_opt(12, 0, 0).unwrap().and_utc();
        let stretches = extent(33).stretches_for([EventId::draw(noon).0]);
        assert_eq!(stretches[0], [day(19), day(20), day(21), day(22)]);
        let mut all = stretches.concat();
        let later = (19..33).chain((0..19).rev()).map(day);
        assert_eq!(all, later.collect::<Vec<_>>());
        all.sort();
        assert_eq!(all, (0..33).map(day).collect::<Vec<_>>());
        assert!(stretches.iter().all(|stretch| stretch.len() <= AT_ONCE));
    }

    #[test]
    fn ids_that_are_no_times_are_looked_for_everywhere() {
        for id in [Uuid::nil(), Uuid::max()] {
            let mut all = extent(33).stretches_for([id]).concat();
            all.sort();
            assert_eq!(all, (0..33).map(day).collect::<Vec<_>>(), "{id}");
        }
        assert_eq!(extent(0).stretches_for([Uuid::nil()]), [[]; 1]);
    }

    #[test]
    fn a_page_is_full_when_nothing_newer_can_lie_in_older_days() {
        let at = |hour| EventId::draw(Utc.with_ymd_and_hms(2026, 3, 1, hour, 0, 0).unwrap());
        assert!(reaches(at(0).0, &[day(0)]));
        assert!(!reaches(at(23).0, &[day(1)]));
        assert!(!reaches(at(0).0, &[]));
    }
}
