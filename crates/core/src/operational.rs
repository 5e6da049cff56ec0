//! Postrider's own events: what they are called, and what they say.
//!
//! They are delivered like any other, to hooks of the same account that ask for them by name or
//! by `postrider.*`. None is ever sent to the hook that it is about.

use crate::{DeliveryId, EventId, HookId, Timestamp};
use serde::Serialize;
use url::Url;

/// A hook is half of the way to being disabled.
pub const HOOK_WARNING: &str = "postrider.hook.warning";
/// A hook was disabled, by Postrider or by a person.
pub const HOOK_DISABLED: &str = "postrider.hook.disabled";
/// A hook that was not active is active again.
pub const HOOK_ENABLED: &str = "postrider.hook.enabled";
/// A delivery has failed for good.
pub const DELIVERY_FAILED: &str = "postrider.delivery.failed";

/// All types of Postrider's own events.
pub const OPERATIONAL_TYPES: [&str; 4] =
    [HOOK_WARNING, HOOK_DISABLED, HOOK_ENABLED, DELIVERY_FAILED];

/// What an event about a hook says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookNotice {
    /// Which hook.
    pub hook_id: HookId,
    /// Where its deliveries go, without what may be a credential.
    pub url: String,
    /// Why: `failures`, `gone` or `manual`; `null` when it was enabled.
    pub reason: Option<&'static str>,
    /// Failed attempts in a row; when it was enabled, those that are forgotten now.
    pub fail_count: u32,
    /// When the first of them failed.
    pub first_failure_at: Option<Timestamp>,
    /// How the last of them failed.
    pub last_error: Option<String>,
    /// Who changed the hook: `postrider`, or a person's way in.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What an event about a delivery says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryNotice {
    /// Which delivery.
    pub delivery_id: DeliveryId,
    /// Of which event.
    pub event_id: EventId,
    /// The type of that event.
    pub event_type: String,
    /// To which hook.
    pub hook_id: HookId,
    /// Where that hook's deliveries go, without what may be a credential.
    pub url: String,
    /// Why: `exhausted`, `gone` or `refused`.
    pub reason: &'static str,
    /// Attempts made.
    pub attempts: u32,
    /// How the last of them failed.
    pub last_error: String,
    /// When.
    pub at: Timestamp,
}

/// The URL without user name, password, query and fragment, which may hold a credential; empty
/// when it is none.
pub fn url_without_credentials(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return String::new();
    };
    // Only a URL without a host refuses these, and that has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Every pattern, as text, that an event of ours of this type matches.
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
