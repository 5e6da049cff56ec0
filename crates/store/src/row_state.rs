//! The states of a row of `postrider_deliveries`, and the columns that tell them.
//!
//! One index, over `next_attempt_at` of the rows without a lease, serves every query for due
//! deliveries. States that must never be found there have a date in the far future as
//! `next_attempt_at`, and keep the time at which they would be due in `turn_at`.
//!
//! | state | `next_attempt_at` | `turn_at` | `batch_id` | `holds_key` | moved on by |
//! | --- | --- | --- | --- | --- | --- |
//! | waiting | due time | null | null | false | lease, at its due time |
//! | batching | end of the batch window | start of the window | null | false | lease, which cuts a batch when the first delivery of it is due |
//! | blocked | 9999-12-31 | due time once unblocked | null | false | the end of its predecessor (`give_turns`), or upkeep |
//! | holds its key | 9999-12-31 | null | null | true | redelivery or discard by a person; upkeep deletes it once the hook is not ordered or skips failures |
//! | batch leader | due time of the batch | null | own id | false | lease, at its due time |
//! | batch member | 9999-12-30 | due time of the batch | id of the leader | false | lease of its leader |
//!
//! A lease is independent of the state: `lease_token` and `lease_expires_at` are both set or both
//! null. A row that waits, is batching, or leads or belongs to a batch may be leased. While it is,
//! `next_attempt_at` and `turn_at` keep their old values and have no meaning: a row that was put
//! into a batch by its lease has those of batching, and a new leader those of a member. Settling
//! moves a leased row to a state of this table or deletes it. Releasing it, or recovering it when
//! the lease has expired, makes it, or its batch, due at once.
//!
//! For a retry, Rust passes [`RowState::Waiting`]. The statement reads `batch_id` of the row, and
//! makes the row a batch leader or a batch member if it is in a batch.
//!
//! A batch cut before its hook became ordered keeps its `batch_id` while its leader is blocked.
//!
//! A delivery that started with its fan-out has no row here until it has to wait: it is a member
//! of a lease group, a row of `postrider_leases`.

use chrono::{DateTime, Utc};
use postrider_core::{DeliveryId, Timestamp};

/// `next_attempt_at` of a row that is blocked or holds its key: 9999-12-31.
pub(crate) const NO_TIME: Timestamp = far_future(253_402_214_400);

/// `next_attempt_at` of a batch member, which is leased with its leader: 9999-12-30.
pub(crate) const WITH_LEADER: Timestamp = far_future(253_402_128_000);

/// The reason that is shown of a blocked delivery. Users know this word.
pub(crate) const BLOCKED_REASON: &str = "behind";

const fn far_future(seconds: i64) -> Timestamp {
    match DateTime::from_timestamp(seconds, 0) {
        Some(at) => at,
        None => DateTime::<Utc>::MAX_UTC,
    }
}

/// The state of a row of `postrider_deliveries`, without its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// Due at this time.
    Waiting { at: Timestamp },
    /// Due at `until`; from `from` on it may be cut into a batch with others.
    Batching { from: Timestamp, until: Timestamp },
    /// Blocked by an earlier delivery of its key; due at this time once unblocked.
    Blocked { due: Timestamp },
    /// Failed for good; it blocks the later deliveries of its key.
    HoldsKey,
    /// The first of a batch, which is due at this time.
    BatchLeader { at: Timestamp },
    /// In the batch of `leader`, which is due at this time.
    BatchMember { leader: DeliveryId, due: Timestamp },
}

/// The columns that tell the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateColumns {
    pub next_attempt_at: Timestamp,
    pub turn_at: Option<Timestamp>,
    pub batch_id: Option<DeliveryId>,
    pub holds_key: bool,
}

impl RowState {
    /// The columns of the row with this id in this state.
    pub(crate) fn columns(self, id: DeliveryId) -> StateColumns {
        let due = |at| StateColumns {
            next_attempt_at: at,
            turn_at: None,
            batch_id: None,
            holds_key: false,
        };
        match self {
            Self::Waiting { at } => due(at),
            Self::Batching { from, until } => StateColumns {
                turn_at: Some(from),
                ..due(until)
            },
            Self::Blocked { due: at } => StateColumns {
                turn_at: Some(at),
                ..due(NO_TIME)
            },
            Self::HoldsKey => StateColumns {
                holds_key: true,
                ..due(NO_TIME)
            },
            Self::BatchLeader { at } => StateColumns {
                batch_id: Some(id),
                ..due(at)
            },
            Self::BatchMember { leader, due: at } => StateColumns {
                turn_at: Some(at),
                batch_id: Some(leader),
                ..due(WITH_LEADER)
            },
        }
    }

    /// The state of the row with this id, which has no lease.
    pub(crate) fn of(id: DeliveryId, columns: StateColumns) -> Self {
        let (at, turn_at) = (columns.next_attempt_at, columns.turn_at);
        match (columns.batch_id, turn_at) {
            _ if columns.holds_key => Self::HoldsKey,
            _ if at >= NO_TIME => Self::Blocked {
                due: turn_at.unwrap_or(at),
            },
            (Some(leader), _) if leader == id => Self::BatchLeader { at },
            (Some(leader), _) => Self::BatchMember {
                leader,
                due: turn_at.unwrap_or(at),
            },
            (None, Some(from)) => Self::Batching { from, until: at },
            (None, None) => Self::Waiting { at },
        }
    }

    /// When the row is due, as it is shown; `None` for one that waits for no time.
    pub(crate) fn shown_due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { at }
            | Self::Batching { until: at, .. }
            | Self::BatchLeader { at }
            | Self::BatchMember { due: at, .. } => Some(at),
            Self::Blocked { .. } | Self::HoldsKey => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn any_delivery() -> impl Strategy<Value = DeliveryId> {
        any::<u128>().prop_map(|id| DeliveryId(Uuid::from_u128(id)))
    }

    /// The times that deliveries are due at: 1970 to 9999-12-29.
    fn any_time() -> impl Strategy<Value = Timestamp> {
        let before = WITH_LEADER.timestamp_micros();
        (0..before).prop_map(|micros| {
            DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
        })
    }

    fn any_state() -> impl Strategy<Value = RowState> {
        let times = (any_time(), any_time());
        prop_oneof![
            any_time().prop_map(|at| RowState::Waiting { at }),
            times.prop_map(|(from, until)| RowState::Batching { from, until }),
            any_time().prop_map(|due| RowState::Blocked { due }),
            Just(RowState::HoldsKey),
            any_time().prop_map(|at| RowState::BatchLeader { at }),
            (any_delivery(), any_time())
                .prop_map(|(leader, due)| RowState::BatchMember { leader, due }),
        ]
    }

    proptest! {
        #[test]
        fn a_state_is_read_back_from_its_columns(id in any_delivery(), state in any_state()) {
            prop_assume!(!matches!(state, RowState::BatchMember { leader, .. } if leader == id));
            prop_assert_eq!(RowState::of(id, state.columns(id)), state);
        }

        #[test]
        fn what_is_not_due_by_its_time_is_found_by_no_query(
            id in any_delivery(),
            state in any_state(),
            now in any_time(),
        ) {
            let found = state.columns(id).next_attempt_at <= now;
            let is_due = match state {
                RowState::Waiting { at } | RowState::BatchLeader { at } => at <= now,
                RowState::Batching { until, .. } => until <= now,
                RowState::Blocked { .. } | RowState::HoldsKey | RowState::BatchMember { .. } => false,
            };
            prop_assert_eq!(found, is_due);
        }
    }

    #[test]
    fn the_dates_in_the_far_future_are_days() {
        assert_eq!(NO_TIME.to_rfc3339(), "9999-12-31T00:00:00+00:00");
        assert_eq!(WITH_LEADER.to_rfc3339(), "9999-12-30T00:00:00+00:00");
    }
}
