//! Sending many deliveries of a hook again, or discarding them, page by page.
//!
//! A page looks at a bounded number of rows of an index, whatever is asked for, so that its cost
//! does not depend on the backlog. The rules stand here once; a database contributes the
//! statements of one transaction.

use crate::audit_entry::AuditEntry;
use crate::count::count;
use crate::error::{hook_deleted, hook_not_found, nothing_held, on_its_way};
use crate::stored_row::StoredRow;
use crate::{DeliveryState, Result};
use async_trait::async_trait;
use chrono::{NaiveDate, NaiveTime};
use postrider_core::{DeliveryId, EventId, EventPattern, HookAction, HookId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The largest number of days whose events a page locks.
pub(crate) const DAYS_MAX: usize = 8;

/// The end of a page over the deliveries of a hook: the next page begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkCursor {
    /// When the last delivery of the page is due; for one that has ended, the beginning of the day
    /// on which its event was fanned out.
    pub at: Timestamp,
    /// Id of the last delivery of the page: the tie-breaker.
    pub id: DeliveryId,
}

/// One page of a bulk operation.
#[derive(Clone, Copy, Debug)]
pub struct BulkPage {
    /// The end of the page before; `None` for the first page.
    pub after: Option<BulkCursor>,
    /// The largest number of deliveries to look at; some of them may not be selected.
    pub limit: u32,
}

/// The number of deliveries that one page changed, and the place to continue from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkPageResult {
    /// Deliveries that were selected and changed.
    pub count: u32,
    /// Where the next page begins; `None` after the last page.
    pub next: Option<BulkCursor>,
}

/// Selects deliveries of a hook to send again.
#[derive(Clone, Debug)]
pub struct Redelivery {
    /// The hook of the deliveries.
    pub hook: HookId,
    /// The state of the deliveries: an ended one, or held. Pending deliveries and those in
    /// flight are not sent again.
    pub state: DeliveryState,
    /// Only of events made at this time or later.
    pub since: Option<Timestamp>,
    /// Only of events made before this time.
    pub until: Option<Timestamp>,
    /// Only of events whose type matches; unlike for a hook, `*` matches every type.
    pub event_type: Option<EventPattern>,
}

/// Selects held deliveries of a hook to discard.
#[derive(Clone, Debug)]
pub struct Discard {
    /// The hook of the deliveries.
    pub hook: HookId,
    /// Only of events made before this time.
    pub made_before: Option<Timestamp>,
    /// Who discards them, as recorded in the hook's history.
    pub by: String,
}

/// A delivery on a page.
#[derive(Clone, Debug)]
pub(crate) struct BulkRow {
    pub slot: i16,
    pub day: NaiveDate,
    pub id: DeliveryId,
    pub event: EventId,
    /// When it is due; for one that has ended, the beginning of `day`.
    pub at: Timestamp,
    /// The state in which it ended; `None` for one that waits or was delivered.
    pub ended: Option<String>,
    /// Its key, while it waits.
    pub ordering_key: Option<String>,
}

/// The deliveries that a page looks at.
pub(crate) struct PageRows {
    pub rows: Vec<BulkRow>,
    /// Whether there may be others after them.
    pub more: bool,
}

/// The hook of a bulk operation, locked until the transaction ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockedHook {
    pub is_active: bool,
    pub is_deleted: bool,
}

/// The statements of one transaction of a bulk operation.
#[async_trait]
pub(crate) trait BulkStatements: Send {
    /// Keeps the hook as it is until the transaction ends; `None` if there is none of this id.
    async fn lock_hook(&mut self, id: HookId) -> Result<Option<LockedHook>>;

    /// A page of deliveries that wait without a lease, longest due first. Leaves out those that
    /// hold their key, and those due at `sent_again_at` without an attempt since: earlier pages
    /// of the operation made them due.
    async fn waiting(
        &mut self,
        hook: HookId,
        page: BulkPage,
        sent_again_at: Timestamp,
    ) -> Result<Vec<BulkRow>>;

    /// A page of deliveries that have ended: those that were delivered, or all others. In the order
    /// of their ids; where history has partitions, day by day, and those of a day in the order of
    /// their ids.
    async fn ended(&mut self, which: &Redelivery, page: BulkPage) -> Result<PageRows>;

    /// The members of the batches of which these may be the leaders.
    async fn batch_members(&mut self, leaders: &[BulkRow]) -> Result<Vec<BulkRow>>;

    /// Locks the events of these deliveries in their order, so that no other call sends them
    /// again. Returns the types of those that still exist and were not erased.
    async fn lock_events(&mut self, rows: &[BulkRow]) -> Result<HashMap<EventId, String>>;

    /// Makes those of the deliveries that wait without a lease due now, with a new schedule.
    async fn make_due(&mut self, rows: &[BulkRow], now: Timestamp) -> Result<u64>;

    /// Makes those of the deliveries that are still in the wanted state wait again, due now with
    /// a new schedule. One that holds its key keeps its place; the others get no key.
    async fn revive(&mut self, which: &Redelivery, rows: &[BulkRow], now: Timestamp)
    -> Result<u64>;

    /// Ends those of the deliveries that wait without a lease as discarded.
    async fn discard(&mut self, hook: HookId, rows: &[BulkRow], now: Timestamp) -> Result<u64>;

    /// Gives the next deliveries of these keys of the hook their turn.
    async fn give_turns(&mut self, hook: HookId, rows: &[BulkRow], now: Timestamp) -> Result<()>;

    /// Adds the number of deliveries to the entry of the hook's history that was made at this
    /// moment; makes it if there is none.
    async fn record(&mut self, entry: AuditEntry, now: Timestamp) -> Result<()>;
}

/// Makes a page of deliveries due now, with a new schedule.
pub(crate) async fn redeliver_many(
    tx: &mut impl BulkStatements,
    which: &Redelivery,
    page: BulkPage,
    now: Timestamp,
) -> Result<BulkPageResult> {
    let held = match which.state {
        DeliveryState::Pending | DeliveryState::InFlight => return Err(on_its_way(which.state)),
        state => state == DeliveryState::Held,
    };
    let hook = tx.lock_hook(which.hook).await?;
    let hook = hook.ok_or_else(|| hook_not_found(which.hook))?;
    if hook.is_deleted {
        return Err(hook_deleted(which.hook));
    }
    if held && hook.is_active {
        return Ok(BulkPageResult {
            count: 0,
            next: None,
        });
    }
    let seen = match held {
        true => page.of_waiting(tx.waiting(which.hook, page, now).await?),
        false => tx.ended(which, page).await?,
    };
    let mut selected = seen.rows.clone();
    if held {
        add_batch_members(tx, &mut selected).await?;
    }
    selected.retain(|row| which.selects(row));
    // Locked in the order of their ids, so that two calls at once cannot block each other.
    selected.sort_by_key(|row| (row.event, row.slot));
    let types = tx.lock_events(&selected).await?;
    selected.retain(|row| {
        let event_type = types.get(&row.event);
        event_type.is_some_and(|event_type| which.wants(event_type))
    });
    let changed = match (selected.as_slice(), held) {
        ([], _) => 0,
        (rows, true) => tx.make_due(rows, now).await?,
        (rows, false) => tx.revive(which, rows, now).await?,
    };
    Ok(seen.result(changed))
}

/// Ends a page of held deliveries as discarded.
pub(crate) async fn discard_held(
    tx: &mut impl BulkStatements,
    which: &Discard,
    page: BulkPage,
    now: Timestamp,
) -> Result<BulkPageResult> {
    let hook = tx.lock_hook(which.hook).await?;
    let hook = hook.filter(|hook| !hook.is_deleted);
    let hook = hook.ok_or_else(|| hook_not_found(which.hook))?;
    if hook.is_active {
        return Err(nothing_held(which.hook));
    }
    // No page makes deliveries due, so none is left out.
    let seen = tx.waiting(which.hook, page, Timestamp::UNIX_EPOCH).await?;
    let seen = page.of_waiting(seen);
    let mut selected = seen.rows.clone();
    add_batch_members(tx, &mut selected).await?;
    selected.retain(|row| which.covers(row.id));
    if selected.is_empty() {
        return Ok(seen.result(0));
    }
    let changed = tx.discard(which.hook, &selected, now).await?;
    tx.give_turns(which.hook, &selected, now).await?;
    if changed > 0 {
        let entry = AuditEntry {
            deliveries: Some(count(changed)),
            ..AuditEntry::new(which.hook, HookAction::Discarded, &which.by)
        };
        tx.record(entry, now).await?;
    }
    Ok(seen.result(changed))
}

/// Adds the members of the batches whose leaders are selected. Once a leader is gone another
/// member takes its place, at a position that the walk has passed.
async fn add_batch_members(
    tx: &mut impl BulkStatements,
    selected: &mut Vec<BulkRow>,
) -> Result<()> {
    let members = tx.batch_members(selected).await?;
    let known: HashSet<_> = selected.iter().map(|row| row.id).collect();
    let members = members.into_iter();
    selected.extend(members.filter(|row| !known.contains(&row.id)));
    Ok(())
}

impl BulkRow {
    pub(crate) fn read(row: &impl StoredRow) -> sqlx::Result<Self> {
        let day = row.day("day")?;
        Ok(Self {
            slot: i16::try_from(row.number("slot")?).unwrap_or_default(),
            day,
            id: DeliveryId(row.uuid("id")?),
            event: EventId(row.uuid("event_id")?),
            at: row
                .time_or_null("due")?
                .unwrap_or_else(|| day.and_time(NaiveTime::MIN).and_utc()),
            ended: row.text_or_null("ended")?,
            ordering_key: row.text_or_null("ordering_key")?,
        })
    }
}

impl BulkPage {
    /// The first page.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The position after which the page begins among deliveries that wait.
    pub(crate) fn begin(&self) -> BulkCursor {
        self.after.unwrap_or(BulkCursor {
            at: Timestamp::UNIX_EPOCH,
            id: DeliveryId(Uuid::nil()),
        })
    }

    /// The page of deliveries that wait, from up to `limit` rows. It ends early where the rows are of
    /// too many days: each day's history is a partition, whose locks are kept until the end of the
    /// transaction.
    fn of_waiting(&self, mut rows: Vec<BulkRow>) -> PageRows {
        let full = rows.len() >= self.limit as usize;
        let mut days = HashSet::new();
        let is_of_another = |row: &BulkRow| {
            days.insert(row.day);
            days.len() > DAYS_MAX
        };
        let end = rows.iter().position(is_of_another);
        rows.truncate(end.unwrap_or(rows.len()));
        PageRows {
            rows,
            more: full || end.is_some(),
        }
    }
}

impl PageRows {
    /// The result of the page, of which `changed` deliveries were changed.
    fn result(&self, changed: u64) -> BulkPageResult {
        let last = self.rows.last().map(|row| BulkCursor {
            at: row.at,
            id: row.id,
        });
        BulkPageResult {
            count: count(changed),
            next: last.filter(|_| self.more),
        }
    }
}

impl Redelivery {
    /// Whether the delivery is of a wanted time, and in the wanted state if it has ended
    /// otherwise than delivered.
    fn selects(&self, row: &BulkRow) -> bool {
        self.since
            .is_none_or(|since| row.id >= DeliveryId::first_since(since))
            && row.id < self.end()
            && row
                .ended
                .as_deref()
                .is_none_or(|state| state == self.state.name())
    }

    /// Whether events of this type are wanted.
    fn wants(&self, event_type: &str) -> bool {
        match &self.event_type {
            None | Some(EventPattern::Any) => true,
            Some(pattern) => pattern.matches(event_type),
        }
    }

    /// The id that all selected deliveries are above, or have.
    pub(crate) fn first(&self) -> DeliveryId {
        self.since
            .map_or(DeliveryId(Uuid::nil()), DeliveryId::first_since)
    }

    /// The id that all selected deliveries are below.
    pub(crate) fn end(&self) -> DeliveryId {
        self.until
            .map_or(DeliveryId(Uuid::max()), DeliveryId::first_since)
    }
}

impl Discard {
    /// Whether the delivery's event was made before the wanted time.
    fn covers(&self, id: DeliveryId) -> bool {
        self.made_before
            .is_none_or(|bound| id < DeliveryId::first_since(bound))
    }
}
