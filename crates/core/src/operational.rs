//! Operational events: the events that Postrider itself publishes, their types and payloads.
//!
//! They are delivered like any other event, to hooks of the same account that name the type or
//! `postrider.*`. A hook never gets an event about itself.

use crate::{DeliveryId, EventId, HookId, Timestamp};
use serde::Serialize;
use url::Url;

/// A hook has reached half of the failures that disable it.
pub const HOOK_WARNING: &str = "postrider.hook.warning";
/// A hook was disabled, by Postrider or by a person.
pub const HOOK_DISABLED: &str = "postrider.hook.disabled";
/// A hook that was not active is active again.
pub const HOOK_ENABLED: &str = "postrider.hook.enabled";
/// A delivery has failed for good.
pub const DELIVERY_FAILED: &str = "postrider.delivery.failed";

/// All types of operational events.
pub const OPERATIONAL_TYPES: [&str; 4] =
    [HOOK_WARNING, HOOK_DISABLED, HOOK_ENABLED, DELIVERY_FAILED];

/// The payload of an event about a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookNotice {
    /// The hook that was warned of or changed.
    pub hook_id: HookId,
    /// The URL of its deliveries, without parts that may hold a credential.
    pub url: String,
    /// `failures`, `gone` or `manual`; `null` when it was enabled.
    pub reason: Option<&'static str>,
    /// Failed attempts in a row; for `enabled` those before the reset.
    pub fail_count: u32,
    /// When the first of these attempts ended.
    pub first_failure_at: Option<Timestamp>,
    /// How the last of these attempts failed.
    pub last_error: Option<String>,
    /// The actor: `postrider`, `cli`, or `api` and the id of a key.
    pub by: String,
    /// The time of the change.
    pub at: Timestamp,
}

/// The payload of an event about a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryNotice {
    /// The delivery that has failed for good.
    pub delivery_id: DeliveryId,
    /// The event that was not delivered.
    pub event_id: EventId,
    /// The type of the event that was not delivered.
    pub event_type: String,
    /// The hook that did not accept it.
    pub hook_id: HookId,
    /// The URL of the hook, without parts that may hold a credential.
    pub url: String,
    /// `exhausted`, `gone` or `refused`.
    pub reason: &'static str,
    /// The number of attempts.
    pub attempts: u32,
    /// How the last attempt failed.
    pub last_error: String,
    /// The end of the last attempt.
    pub at: Timestamp,
}

/// The URL without user name, password, query and fragment, which may hold a credential; empty
/// when the text is not a URL.
pub fn url_without_credentials(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return String::new();
    };
    // Only a URL without a host refuses these calls, and it has no user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Every pattern, as text, that matches an operational event of this type.
pub fn patterns_matching(event_type: &str) -> Vec<String> {
    let prefixes = event_type.match_indices('.');
    let mut patterns: Vec<_> = prefixes
        .map(|(end, _)| format!("{}.*", &event_type[..end]))
        .collect();
    patterns.push(event_type.to_owned());
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventPattern, EventType};

    #[test]
    fn our_own_types_are_reserved_and_sound() {
        for name in OPERATIONAL_TYPES {
            assert!(EventType::is_operational(name), "{name}");
            assert_eq!(EventType::check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_patterns_of_a_type_are_those_that_match_it() {
        let patterns = patterns_matching(HOOK_DISABLED);
        assert_eq!(
            patterns,
            ["postrider.*", "postrider.hook.*", "postrider.hook.disabled"]
        );
        for pattern in patterns {
            let pattern: EventPattern = pattern.parse().unwrap();
            assert!(pattern.matches(HOOK_DISABLED), "{pattern}");
        }
    }

    #[test]
    fn a_url_is_told_without_what_may_be_a_credential() {
        for (url, told) in [
            ("https://example.com/hook", "https://example.com/hook"),
            (
                "https://me:word@example.com:8443/a?token=1#b",
                "https://example.com:8443/a",
            ),
            ("no url", ""),
        ] {
            assert_eq!(url_without_credentials(url), told);
        }
    }
}
