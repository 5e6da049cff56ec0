//! The JSON that the command line and the API show.

use postrider_core::{
    Access, AttemptId, DeliveryId, EventId, Filter, Hook, HookId, HookSettings, KeyId,
    NewCredential, NewKey, OnFailure, Ordered, Phase, Proof, Rate, RegistrantStatus, Timestamp,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// A hook as it is shown. The secret is shown at creation and rotation only.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// The id that Postrider gave it.
    pub id: HookId,
    /// The id that its profile's own API shows, if the profile has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The account whose events it receives.
    pub account: String,
    /// The URL that its deliveries are sent to.
    pub url: String,
    /// The patterns of event types it asks for, also those that this binary cannot read.
    pub events: Vec<String>,
    /// The filter on payloads; `None` lets all of them through.
    pub filter: Option<Filter>,
    /// The delivery format and policy.
    pub profile: String,
    /// The signing secret, only in the answer that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `active`, `paused` or `disabled`. A status that this binary does not know is `paused`.
    pub status: String,
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// Time of the first of them.
    pub first_failure_at: Option<Timestamp>,
    /// The error of the last of them.
    pub last_error: Option<String>,
    /// Whether it is backed off, or ramping up again, because of its failures.
    pub phase: Option<Phase>,
    /// While it is backed off: time of the next probe.
    pub not_before: Option<Timestamp>,
    /// Why it is disabled: `failures`, `gone` or `manual`.
    pub disabled_reason: Option<String>,
    /// Time at which it was disabled; if that is unknown, of its latest change.
    pub disabled_at: Option<Timestamp>,
    /// `postrider`, or the interface that a person used.
    pub disabled_by: Option<String>,
    /// Start of its latest attempt, within about a second, if its profile records that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_sent_at: Option<Timestamp>,
    /// The HTTP status of the latest answer; `None` if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_status: Option<u16>,
    /// Deliveries that wait for it to become active, counted up to 10,000.
    pub held: u32,
    /// Time of the oldest event among the hundred of them that are due longest.
    pub oldest_held_at: Option<Timestamp>,
    /// Its settings except for the filter. In JSON its limits and its order are also members of
    /// the hook itself.
    #[serde(flatten, serialize_with = "with_limits_beside")]
    pub settings: HookSettings,
    /// Time of its registration.
    pub created_at: Timestamp,
    /// Time of its latest change.
    pub updated_at: Timestamp,
}

/// Writes the member `settings`, and those settings that are also members of the hook itself.
fn with_limits_beside<S: Serializer>(
    settings: &HookSettings,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Members<'a> {
        in_flight: Option<u32>,
        rate: Option<Rate>,
        ordered: Option<Ordered>,
        on_failure: Option<OnFailure>,
        settings: &'a HookSettings,
    }
    let members = Members {
        in_flight: settings.in_flight,
        rate: settings.rate,
        ordered: settings.ordered,
        on_failure: settings.after_failure(),
        settings,
    };
    members.serialize(serializer)
}

/// A hook as its profile's own API shows it.
#[derive(Clone, Debug)]
pub struct RegisteredHook {
    /// The hook with its credentials.
    pub hook: Hook,
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// Start of its latest attempt, within about a second, if its profile records that.
    pub latest_sent_at: Option<Timestamp>,
    /// The HTTP status of the latest answer; `None` if there was no answer.
    pub latest_status: Option<u16>,
}

/// An entry in the history of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookChangeReport {
    /// Grows with every change of any hook; the cursor of a listing.
    pub number: i64,
    /// Time of the change.
    pub at: Timestamp,
    /// `created`, `changed`, `paused`, `enabled`, `disabled`, `secret_rotated`,
    /// `removed`, `warned` or `discarded`.
    pub action: String,
    /// `postrider`, or the interface that a person used, such as `cli`.
    pub actor: String,
    /// Why it was disabled, or the names of the settings that were changed.
    pub reason: Option<String>,
    /// Its failures in a row until then.
    pub fail_count: u32,
    /// The error of the last of them.
    pub last_error: Option<String>,
    /// Number of deliveries that were discarded.
    pub deliveries: Option<u32>,
}

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// In the outbox, not yet fanned out.
    Queued,
    /// Its deliveries have been made.
    FannedOut,
    /// It could not be accepted; its row is in `postrider_rejected`.
    Rejected,
}

impl EventState {
    const ALL: [Self; 3] = [Self::Queued, Self::FannedOut, Self::Rejected];

    fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::FannedOut => "fanned_out",
            Self::Rejected => "rejected",
        }
    }

    /// The state of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// An event as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct EventReport {
    /// The id from the outbox.
    pub id: EventId,
    /// The account whose hooks receive it.
    pub account: String,
    /// Its type, such as `order.paid`.
    pub event_type: String,
    /// Its present state.
    pub state: EventState,
    /// When it happened, as the application wrote it; else when it was inserted.
    pub occurred_at: Option<Timestamp>,
    /// Time of its fan-out.
    pub fanned_out_at: Option<Timestamp>,
    /// Events with the same key are delivered in their order to ordered hooks.
    pub ordering_key: Option<String>,
    /// Later events with the same key are dropped.
    pub dedup_key: Option<String>,
    /// Time at which its payload and headers were erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// The payload, verbatim; `None` in listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

/// Whether a delivery waits, is being attempted, or has ended and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is due, or waits for its next attempt or for its predecessor.
    Pending,
    /// A worker holds its lease.
    InFlight,
    /// It waits because its hook is not active. Also shown where the hook was deleted, until
    /// upkeep cancels the delivery: nothing is sent meanwhile, and `pending` would promise an
    /// attempt.
    Held,
    /// The receiver accepted it.
    Delivered,
    /// It has failed for good; it can be sent again.
    Failed,
    /// Its hook was deleted, its event was erased, or a person discarded it.
    Cancelled,
    /// It had not ended when its event was past its retention.
    Expired,
}

impl DeliveryState {
    /// All states, in the order of a delivery's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::InFlight,
        Self::Held,
        Self::Delivered,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state's name, as it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A delivery as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryReport {
    /// Derived from the ids of the event and the hook.
    pub id: DeliveryId,
    /// The event that is delivered.
    pub event_id: EventId,
    /// The hook that receives it.
    pub hook_id: HookId,
    /// The account of the event; empty if the event is gone.
    pub account: String,
    /// The type of the event; empty if the event is gone.
    pub event_type: String,
    /// Its present state.
    pub state: DeliveryState,
    /// Attempts made, also before it was sent again.
    pub attempts: u32,
    /// Time of the next attempt; `null` if it has ended, is in flight, or is blocked by its
    /// predecessor.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it ended otherwise than delivered; `behind` while it is blocked by its predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An attempt as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptReport {
    /// Drawn by the worker that made it.
    pub id: AttemptId,
    /// 1 for the first attempt of the delivery.
    pub number: u32,
    /// Time of its start.
    pub at: Timestamp,
    /// `accepted`, `refused`, `timed_out`, `unreachable`, `blocked` or `worker_lost`.
    pub outcome: String,
    /// The HTTP status; `null` without an answer.
    pub status: Option<u16>,
    /// The error; `null` if it was accepted.
    pub error: Option<String>,
    /// Its duration in milliseconds.
    pub duration_ms: u32,
    /// The beginning of the body of the response; bytes that are not UTF-8 are replaced.
    pub response: Option<String>,
    /// Whether its lease was lost before it was recorded, so that it changed nothing else.
    pub late: bool,
}

/// An outbox row that could not be accepted.
#[derive(Clone, Debug, Serialize)]
pub struct RejectedReport {
    /// The id of the event.
    pub id: EventId,
    /// Why it was rejected.
    pub reason: String,
    /// Time of the rejection.
    pub rejected_at: Timestamp,
    /// The account, if the row has one.
    pub account: Option<String>,
    /// The type, if the row has one.
    pub event_type: Option<String>,
}

/// A key of the API, or a credential of a registrant, as it is shown. Its token is not stored
/// and cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// The id that Postrider gave it.
    pub id: KeyId,
    /// `admin`, `account`, `publish`, or `register` for a credential of a registrant.
    pub scope: String,
    /// The account it is limited to; `null` for none.
    pub account: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Further fields of a credential of a registrant.
    #[serde(flatten)]
    pub registrant: Option<RegistrantReport>,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Time of its latest use, within about a minute.
    pub last_used_at: Option<Timestamp>,
    /// Time at which it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl KeyReport {
    /// A key that was just created.
    pub(crate) fn of_new(id: KeyId, key: &NewKey, now: Timestamp) -> Self {
        Self {
            id,
            scope: key.scope.name().to_owned(),
            account: key.account.clone(),
            name: key.name.clone(),
            registrant: None,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        }
    }

    /// A credential of a registrant that was just created.
    pub(crate) fn of_credential(id: KeyId, new: &NewCredential, now: Timestamp) -> Self {
        let public_id = match &new.proof {
            Proof::Secret { id, .. } => Some(id.clone()),
            Proof::Password { user, .. } => Some(user.clone()),
            Proof::Token(_) => None,
        };
        Self {
            id,
            scope: "register".to_owned(),
            account: Some(new.account.clone()),
            name: new.name.clone(),
            registrant: Some(RegistrantReport::new(
                new.system.clone(),
                public_id,
                new.access,
            )),
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        }
    }
}

/// The fields that a credential of a registrant has beside those of a key: its compatible API,
/// and what its holder may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistrantReport {
    /// The compatible API, by its profile.
    pub r#for: String,
    /// The API key or the user; `null` for a token.
    pub public_id: Option<String>,
    /// `read`, `write`, both or none.
    pub permission: Vec<&'static str>,
    /// `active` or `inactive`.
    pub account_status: RegistrantStatus,
    /// `active` or `inactive`.
    pub member_status: RegistrantStatus,
    /// Whether the owner of the account was verified.
    pub verified: bool,
}

impl RegistrantReport {
    pub(crate) fn new(system: String, public_id: Option<String>, access: Access) -> Self {
        let permission = [("read", access.read), ("write", access.write)];
        let permission = permission.into_iter().filter(|(_, has)| *has);
        Self {
            r#for: system,
            public_id,
            permission: permission.map(|(name, _)| name).collect(),
            account_status: access.account_status,
            member_status: access.member_status,
            verified: access.verified,
        }
    }
}
