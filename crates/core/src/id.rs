//! Identifiers. Those we draw are UUIDs of version 7, so that they sort by time; a delivery's
//! id is computed from its event and its hook, so that a fan-out that is repeated after a
//! crash makes the same one.

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
    /// One event; receivers see it as `webhook-id`.
    EventId
}
id! {
    /// One subscriber.
    HookId
}
id! {
    /// One event for one hook.
    DeliveryId
}
id! {
    /// One HTTP request; tells a replayed settlement from a new one.
    AttemptId
}
id! {
    /// The fence of a lease: who holds another token may settle nothing.
    LeaseToken
}
id! {
    /// One key of the API.
    KeyId
}
id! {
    /// One worker, from its start to its end.
    WorkerId
}
drawn!(EventId, HookId, AttemptId, LeaseToken, KeyId, WorkerId);

impl DeliveryId {
    /// The delivery of `event` to `hook`: always the same for the same two.
    ///
    /// A UUID of version 8: the event's 48 bits of time, so that deliveries sort as their
    /// events do, then bits of the SHA-256 of both ids.
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

    /// An id in the form of version 4 that stands for this delivery, for formats whose
    /// receivers know repeats by such an id: always the same for the same delivery.
    pub fn in_random_form(self) -> Uuid {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl DeliveryId {
    /// When its event was made, to the millisecond, which every delivery's id begins with.
    pub fn event_made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX);
        Timestamp::from_timestamp_millis(millis).unwrap_or_default()
    }

    /// What comes before the id of every delivery whose event was made at this moment or later,
    /// and after those of all others.
    pub fn first_since(moment: Timestamp) -> Self {
        // A part of a millisecond belongs to the one it is in.
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
