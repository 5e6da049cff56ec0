//! Limits of sizes and durations. Each is checked where data enters.

use std::time::Duration;

/// Largest payload of an event, in bytes; the outbox has the same bound as a `CHECK`.
pub const PAYLOAD_MAX_BYTES: usize = 512 * 1024;

/// Longest event type, in bytes.
pub const EVENT_TYPE_MAX_BYTES: usize = 256;

/// Longest account, ordering key and deduplication key, in bytes. They are parts of indexes.
pub const KEY_MAX_BYTES: usize = 512;

/// Longest URL of a hook, in bytes.
pub const HOOK_URL_MAX_BYTES: usize = 2048;

/// Longest filter of a hook, in bytes.
pub const FILTER_MAX_BYTES: usize = 2048;

/// Deepest nesting of brackets and negations in a filter.
pub const FILTER_MAX_DEPTH: usize = 32;

/// Largest number of conditions in a filter.
pub const FILTER_MAX_CONDITIONS: usize = 64;

/// Largest number of extra request headers of an event or a hook. Receivers refuse more.
pub const HEADERS_MAX: usize = 100;

/// Largest size of all extra request headers together, names and values, in bytes.
pub const HEADERS_MAX_BYTES: usize = 16 * 1024;

/// The longest duration that can be configured, 100 years: added to any time of today it does not
/// overflow.
pub const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How much of a decoded response body is read and stored, in bytes.
pub const EXCERPT_MAX_BYTES: usize = 16 * 1024;

/// The longest pause that a receiver may ask for with `Retry-After`; longer ones are cut.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
