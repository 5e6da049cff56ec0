//! The turns of an ordered hook: of the deliveries of one key only the first may go.
//!
//! A delivery that waits for one before it is *behind*: `next_attempt_at` is [`never`], and
//! `turn_at` says when it is due once its turn has come. So what stands behind a delivery that
//! keeps failing costs no lease anything, however much it is.

use chrono::DateTime;
use postrider_core::{DeliveryId, HookId, Timestamp};
use std::collections::BTreeMap;

/// Why a delivery that waits has no time of its own, as it is shown.
pub(crate) const BEHIND: &str = "behind";

/// 9999-12-31 in seconds since 1970.
const NEVER: i64 = 253_402_214_400;

/// When what is behind, or has failed and holds its key, is due.
pub(crate) fn never() -> Timestamp {
    DateTime::from_timestamp(NEVER, 0).unwrap_or(DateTime::<chrono::Utc>::MAX_UTC)
}

/// A delivery of an ordered hook that is due, and what else there is of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub id: DeliveryId,
    pub hook: HookId,
    /// Its key, and the first of all that have not ended of it; without a key it goes alone.
    pub key: Option<(String, First)>,
}

/// The first delivery of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub id: DeliveryId,
    /// It is behind: what it waited for is gone, and nothing has given it its turn.
    pub stranded: bool,
    /// Whether any delivery of the key is leased.
    pub busy: bool,
}

/// What is to become of due deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// They go now.
    pub go: Vec<DeliveryId>,
    /// They wait for the one named second.
    pub behind: Vec<(DeliveryId, DeliveryId)>,
    /// Keys whose first delivery is to be given its turn.
    pub stranded: Vec<(HookId, String)>,
}

/// Decides whose turn it is; `places` says how many of each hook may go, and is taken from.
pub(crate) fn turns(due: Vec<Due>, places: &mut BTreeMap<HookId, u32>) -> Turns {
    let mut turns = Turns::default();
    for due in due {
        match due.key {
            Some((key, first)) if first.id != due.id => {
                turns.behind.push((due.id, first.id));
                let key = (due.hook, key);
                if first.stranded && !turns.stranded.contains(&key) {
                    turns.stranded.push(key);
                }
            }
            // It came late, while one after it is on its way.
            Some((_, first)) if first.busy => {}
            Some(_) | None => {
                if let Some(places) = places.get_mut(&due.hook).filter(|places| **places > 0) {
                    *places -= 1;
                    turns.go.push(due.id);
                }
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const HOOK: HookId = HookId(Uuid::from_u128(1));

    fn delivery(n: u128) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n))
    }

    fn due(id: u128, key: Option<(&str, u128)>) -> Due {
        let first = |first| First {
            id: delivery(first),
            stranded: false,
            busy: false,
        };
        Due {
            id: delivery(id),
            hook: HOOK,
            key: key.map(|(key, id)| (key.to_owned(), first(id))),
        }
    }

    fn places(count: u32) -> BTreeMap<HookId, u32> {
        BTreeMap::from([(HOOK, count)])
    }

    #[test]
    fn the_first_of_each_key_and_what_has_none_go() {
        let all = vec![
            due(2, Some(("a", 1))),
            due(1, Some(("a", 1))),
            due(3, Some(("b", 3))),
            due(4, None),
            due(5, None),
        ];
        let turns = turns(all, &mut places(10));
        assert_eq!(turns.go, [1, 3, 4, 5].map(delivery));
        assert_eq!(turns.behind, [(delivery(2), delivery(1))]);
        assert_eq!(turns.stranded, []);
    }

    #[test]
    fn no_more_go_than_there_are_places() {
        let mut left = places(2);
        let all = (1..=4).map(|id| due(id, None)).collect();
        assert_eq!(turns(all, &mut left).go, [1, 2].map(delivery));
        assert_eq!(left, places(0));
    }

    #[test]
    fn what_came_late_waits_for_the_one_on_its_way() {
        let mut late = due(1, Some(("a", 1)));
        late.key.as_mut().unwrap().1.busy = true;
        assert_eq!(turns(vec![late], &mut places(1)), Turns::default());
    }

    #[test]
    fn a_stranded_first_gets_its_turn_once() {
        let mut all = vec![due(2, Some(("a", 1))), due(3, Some(("a", 1)))];
        for due in &mut all {
            due.key.as_mut().unwrap().1.stranded = true;
        }
        let turns = turns(all, &mut places(1));
        assert_eq!(turns.stranded, [(HOOK, "a".to_owned())]);
        assert_eq!(turns.behind.len(), 2);
    }
}
