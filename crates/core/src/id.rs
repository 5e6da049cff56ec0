//! Identifiers. Drawn ids are UUIDs of version 7, which sort by time. The id of a delivery is
//! computed from its event and its hook, so that a fan-out which is repeated after a crash makes
//! the same deliveries.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }
    };
}

macro_rules! drawn {
    ($($name:ident),*) => {$(
        impl $name {
            /// Draws a new id, a UUID of version 7 whose time is `now`.
            pub fn draw(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }
        }
    )*};
}

id! {
    /// The id of an event; receivers see it as `webhook-id`.
    EventId
}
id! {
    /// The id of a hook.
    HookId
}
id! {
    /// The id of a delivery: one event for one hook.
    DeliveryId
}
id! {
    /// The id of an attempt: one HTTP request. Recognises a settlement that is repeated.
    AttemptId
}
id! {
    /// The token of a lease. A settlement with another token changes nothing.
    LeaseToken
}
id! {
    /// The id of an API key or of a credential of a registrant.
    KeyId
}
id! {
    /// The id of a worker process, drawn when it starts.
    WorkerId
}
drawn!(EventId, HookId, AttemptId, LeaseToken, KeyId, WorkerId);

impl DeliveryId {
    /// The id of the delivery of `event` to `hook`: the same for the same two.
    ///
    /// A UUID of version 8: the 48 bits of time of the event's id, so that deliveries sort like
    /// their events, then bits of the SHA-256 of both ids.
    pub fn of(event: EventId, hook: HookId) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(event.0.as_bytes());
        hasher.update(hook.0.as_bytes());
        let digest = hasher.finalize();
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&event.0.as_bytes()[..6]);
        bytes[6..].copy_from_slice(&digest[..10]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// A UUID in the form of version 4, the same for the same delivery, for formats whose receivers
    /// recognise repeats by such an id.
    pub fn in_random_form(self) -> Uuid {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl DeliveryId {
    /// The time of the event's id, in whole milliseconds: the beginning of every delivery's id.
    pub fn event_made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX);
        Timestamp::from_timestamp_millis(millis).unwrap_or_default()
    }

    /// A bound for ids: deliveries of events made at `moment` or later have larger ids, all others
    /// smaller ones.
    pub fn first_since(moment: Timestamp) -> Self {
        // Rounded down: ids have whole milliseconds.
        let millis = u128::try_from(moment.timestamp_millis()).unwrap_or(0);
        Self(Uuid::from_u128(millis << 80))
    }
}

fn uuid_v7(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    let random: [u8; 10] = rand::random();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeZone, Utc};

    #[test]
    fn drawn_ids_sort_by_time() {
        let early = EventId::draw(Utc.timestamp_millis_opt(1_000).unwrap());
        let late = EventId::draw(Utc.timestamp_millis_opt(2_000).unwrap());
        assert!(early < late);
        assert_eq!(late.0.get_version_num(), 7);
    }

    #[test]
    fn a_delivery_id_is_a_function_of_event_and_hook() {
        let now = Utc.timestamp_millis_opt(1_700_000_000_000).unwrap();
        let (event, hook) = (EventId::draw(now), HookId::draw(now));
        assert_eq!(DeliveryId::of(event, hook), DeliveryId::of(event, hook));
        assert_ne!(
            DeliveryId::of(event, hook),
            DeliveryId::of(event, HookId::draw(now))
        );
        assert_ne!(
            DeliveryId::of(event, hook),
            DeliveryId::of(EventId::draw(now), hook)
        );
        let shown = DeliveryId::of(event, hook).in_random_form();
        assert_eq!(shown.get_version_num(), 4);
        assert_eq!(shown, DeliveryId::of(event, hook).in_random_form());
        assert_eq!(
            DeliveryId::of(event, hook).0.as_bytes()[..6],
            event.0.as_bytes()[..6]
        );
        assert_eq!(DeliveryId::of(event, hook).event_made_at(), now);
    }

    #[test]
    fn a_moment_parts_the_ids_of_deliveries() {
        let at = |millis| Utc.timestamp_millis_opt(millis).unwrap();
        let made = |millis| DeliveryId::of(EventId::draw(at(millis)), HookId::draw(at(0)));
        let bound = DeliveryId::first_since(at(5_000));
        assert!(made(4_999) < bound && bound < made(5_000));
    }
}
