//! The bounds that hold everywhere. Each is checked where data enters.

use std::time::Duration;

/// Largest payload of an event, in bytes; the outbox has the same bound as a `CHECK`.
pub const PAYLOAD_MAX_BYTES: usize = 512 * 1024;

/// Longest event type, in bytes.
pub const EVENT_TYPE_MAX_BYTES: usize = 256;

/// Longest account, ordering key and deduplication key, in bytes: they stand in indexes.
pub const KEY_MAX_BYTES: usize = 512;

/// Longest URL of a hook, in bytes.
pub const HOOK_URL_MAX_BYTES: usize = 2048;

/// Longest filter of a hook, in bytes.
pub const FILTER_MAX_BYTES: usize = 2048;

/// How deep the brackets and negations of a filter may be nested.
pub const FILTER_MAX_DEPTH: usize = 32;

/// Conditions in a filter at most.
pub const FILTER_MAX_CONDITIONS: usize = 64;

/// Extra request headers of an event or a hook at most, and their bytes, names and values
/// together: receivers refuse more.
pub const HEADERS_MAX: usize = 100;
/// See [`HEADERS_MAX`].
pub const HEADERS_MAX_BYTES: usize = 16 * 1024;

/// The longest duration that can be set anywhere, 100 years: a moment plus it is still one.
pub const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How much of a response's decoded body is read and kept, in bytes.
pub const EXCERPT_MAX_BYTES: usize = 16 * 1024;

/// The longest wait a receiver may ask for with `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
