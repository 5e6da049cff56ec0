//! What is done to many deliveries of a hook, page by page.

use crate::DeliveryState;
use postrider_core::{DeliveryId, EventPattern, HookId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a walk over the deliveries of a hook stands: the next page begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkCursor {
    /// When the last delivery that was looked at is due; for those that have ended, when its
    /// event was made.
    pub at: Timestamp,
    /// Which that was.
    pub id: DeliveryId,
}

/// A part of a walk.
#[derive(Clone, Copy, Debug)]
pub struct BulkPage {
    /// Where the page before ended.
    pub after: Option<BulkCursor>,
    /// Deliveries that are looked at, at most; some of them may not be meant.
    pub limit: u32,
}

/// What a page came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkPageResult {
    /// Deliveries that were meant, and changed.
    pub count: u32,
    /// Where the next page begins; none when this was the last.
    pub next: Option<BulkCursor>,
}

/// Which deliveries of a hook are to be sent again.
#[derive(Clone, Debug)]
pub struct Redelivery {
    /// Whose.
    pub hook: HookId,
    /// In which state: ended ones, or held ones. What is pending or in flight is on its way
    /// already.
    pub state: DeliveryState,
    /// Only of events made at this moment or later.
    pub since: Option<Timestamp>,
    /// Only of events made before this moment.
    pub until: Option<Timestamp>,
    /// Only of events whose type matches; unlike for a hook, `*` matches every type.
    pub event_type: Option<EventPattern>,
}

/// Which held deliveries of a hook are to be given up.
#[derive(Clone, Debug)]
pub struct Discard {
    /// Whose.
    pub hook: HookId,
    /// Only of events made before this moment.
    pub made_before: Option<Timestamp>,
    /// Who gives them up, as it is recorded.
    pub by: String,
}

impl BulkPage {
    /// A page from the beginning.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// What this page comes to: `count` were changed of those that were looked at, the last of
    /// which is `last`.
    pub(crate) fn done(
        self,
        count: usize,
        looked_at: usize,
        last: Option<BulkCursor>,
    ) -> BulkPageResult {
        BulkPageResult {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            next: last.filter(|_| looked_at >= self.limit as usize),
        }
    }
}

impl Redelivery {
    /// Whether the delivery's event was made in the time that is meant.
    pub(crate) fn spans(&self, id: DeliveryId) -> bool {
        self.since
            .is_none_or(|since| id >= DeliveryId::first_since(since))
            && self
                .until
                .is_none_or(|until| id < DeliveryId::first_since(until))
    }

    /// Whether an event of this type is meant.
    pub(crate) fn wants(&self, event_type: &str) -> bool {
        match &self.event_type {
            None | Some(EventPattern::Any) => true,
            Some(pattern) => pattern.matches(event_type),
        }
    }

    /// Where the first page begins: nothing before is meant.
    pub(crate) fn begins(&self) -> DeliveryId {
        self.since
            .map_or(DeliveryId(Uuid::nil()), DeliveryId::first_since)
    }
}

impl Discard {
    /// Whether the delivery's event was made before the moment that is meant.
    pub(crate) fn covers(&self, id: DeliveryId) -> bool {
        self.made_before
            .is_none_or(|bound| id < DeliveryId::first_since(bound))
    }
}
