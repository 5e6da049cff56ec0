//! The JSON that the command line and the API show.

use postrider_core::{
    Access, AttemptId, DeliveryId, EventId, Filter, Hook, HookId, HookSettings, KeyId,
    NewCredential, NewKey, OnFailure, Ordered, Phase, Proof, Rate, RegistrantStatus, Timestamp,
};
use serde::{Deserialize, Serialize};
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
    /// Its limit of requests in flight over all workers, if it has one of its own.
    pub in_flight: Option<u32>,
    /// Its limit of requests in a time, if it has one of its own.
    pub rate: Option<Rate>,
    /// `key`: it receives the events of one ordering key in their order, one at a time.
    pub ordered: Option<Ordered>,
    /// If it is ordered: what happens to the successors of an event that has failed for good.
    pub on_failure: Option<OnFailure>,
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
    /// Its other settings.
    pub settings: HookSettings,
    /// Time of its registration.
    pub created_at: Timestamp,
    /// Time of its latest change.
    pub updated_at: Timestamp,
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

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// In the outbox, not yet fanned out.
    Queued,
    /// Its deliveries have been made.
    FannedOut,
    /// It could not be accepted; see `postrider_rejected`.
    Rejected,
}

/// An event as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct EventReport {
    /// Its id.
    pub id: EventId,
    /// Whose hooks it is for.
    pub account: String,
    /// What happened.
    pub event_type: String,
    /// Where it is.
    pub state: EventState,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// When it was fanned out.
    pub fanned_out_at: Option<Timestamp>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its deduplication key.
    pub dedup_key: Option<String>,
    /// When its payload and headers were erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// The payload, verbatim; only where one event is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is due, or waits for its next attempt.
    Pending,
    /// A worker holds its lease.
    InFlight,
    /// It waits because its hook is not active.
    Held,
    /// It was taken.
    Delivered,
    /// It was given up; it can be sent again.
    Failed,
    /// Its hook was deleted, or a person discarded it.
    Cancelled,
    /// It outlived the retention.
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

/// A delivery as it is shown, whether it waits, runs or has ended.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryReport {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event_id: EventId,
    /// The hook.
    pub hook_id: HookId,
    /// Whose event it is.
    pub account: String,
    /// The event's type.
    pub event_type: String,
    /// Where it is.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When it is attempted next; `null` when it has ended, is in flight, or waits for another.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it ended otherwise than delivered; `behind` while it waits for one of its key to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An attempt as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptReport {
    /// Its id.
    pub id: AttemptId,
    /// The delivery's first attempt is 1.
    pub number: u32,
    /// When it started.
    pub at: Timestamp,
    /// `accepted`, `refused`, `timed_out`, `unreachable`, `blocked` or `worker_lost`.
    pub outcome: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// How long the exchange took.
    pub duration_ms: u32,
    /// The beginning of the response's body; bytes that are not UTF-8 are replaced.
    pub response: Option<String>,
    /// Whether the lease was lost by then, so that it changed nothing.
    pub late: bool,
}

/// An outbox row that could not be accepted.
#[derive(Clone, Debug, Serialize)]
pub struct RejectedReport {
    /// The event's id.
    pub id: EventId,
    /// Why.
    pub reason: String,
    /// When.
    pub rejected_at: Timestamp,
    /// Whose it was.
    pub account: Option<String>,
    /// Its type.
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
