//! The domain of Postrider: its types and decisions, without input or output.
//!
//! An [`Event`] is something that happened in an application. A [`Hook`] is a subscriber. One
//! event for one hook is a delivery, made by one or more attempts, each with an [`Outcome`].
//! What happens next is decided by plain functions of their arguments: [`next_step`] for the
//! delivery, [`Health::after`] for the hook, [`RetrySchedule::delay_after`] for the time
//! between. Nothing here reads the wall clock, a database or a socket.

mod alias;
mod attempt;
mod batch;
mod body;
mod clock;
mod credential;
mod duration;
mod event;
mod event_error;
mod filter;
mod header_rules;
mod health;
mod history;
mod hook;
mod hook_edit;
mod hook_error;
mod hook_setting;
mod hook_settings;
mod hook_status;
mod hook_target;
mod id;
mod key;
mod limits;
mod operational;
mod outcome;
mod password;
mod pattern;
mod rate;
mod recent_requests;
mod retry;
mod schedules;
mod seal;
mod sha1_hex;
mod signature;
mod slot;
mod trace;

pub use alias::{AliasForm, NewAlias};
pub use attempt::{Attempt, scrub};
pub use batch::{Batches, Batching};
pub use body::{BodyForm, standard_body};
pub use clock::{
    Clock, MonotonicClock, SystemMonotonicClock, TestClock, TestMonotonicClock, Timestamp,
    monotonic_now,
};
pub use credential::{
    Access, AccessChange, Credential, CredentialError, NewCredential, Proof, RegistrantStatus,
    SharedSecret, check_text, check_word,
};
pub use duration::{Span, SpanError};
pub use event::{DEFAULT_ACCOUNT, Event, EventType, NewEvent, Payload};
pub use event_error::EventError;
pub use filter::{Filter, FilterError, LazyPayload, UnreadablePayload};
pub use health::{Health, HealthAction, HealthPolicy, Observation, back_off};
pub use history::{HookAction, OURSELVES};
pub use hook::{BasicAuth, Hook, HookCredentials, NewHook, RotatingSecret, parse_hook_url};
pub use hook_edit::HookEdit;
pub use hook_error::{HookError, SettingsError};
pub use hook_setting::{HookSetting, SettingForm};
pub use hook_settings::{HOOK_SETTINGS, HookSettings, OnFailure, Ordered, SettingsChange};
pub use hook_status::{Disabled, DisabledReason, HookStatus, Phase};
pub use hook_target::HookTarget;
pub use id::{AttemptId, DeliveryId, EventId, HookId, KeyId, LeaseToken, WorkerId};
pub use key::{Key, KeyError, KeyScope, KeyToken, NewKey, OtherAccount, TokenHash};
pub use limits::{
    EVENT_TYPE_MAX_BYTES, EXCERPT_MAX_BYTES, FILTER_MAX_BYTES, FILTER_MAX_CONDITIONS,
    FILTER_MAX_DEPTH, HEADERS_MAX, HEADERS_MAX_BYTES, HOOK_URL_MAX_BYTES, KEY_MAX_BYTES,
    PAYLOAD_MAX_BYTES, RETRY_AFTER_MAX, SPAN_MAX,
};
pub use operational::{
    DELIVERY_FAILED, DeliveryNotice, HOOK_DISABLED, HOOK_ENABLED, HOOK_WARNING, HookNotice,
    OPERATIONAL_TYPES, patterns_matching, url_without_credentials,
};
pub use outcome::{NextStep, Outcome, Reason, RefusalKind, next_step};
pub use password::{PasswordError, PasswordHash};
pub use pattern::{EventPattern, PatternError};
pub use rate::{Bucket, Rate, RateError};
pub use recent_requests::RecentRequests;
pub use retry::{Jitter, RetrySchedule};
pub use schedules::Schedules;
pub use seal::{KeyRing, SealError};
pub use sha1_hex::sha1_hex;
pub use signature::{SecretError, Signer, SigningSecret, VerifyError, verify};
pub use slot::slot_of;
pub use trace::{TRACEPARENT, TRACESTATE, TraceContext};
