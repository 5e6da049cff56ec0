//! What people and programs are shown: the JSON of the command line and the API.

use postrider_core::{
    Access, AttemptId, DeliveryId, EventId, Filter, Hook, HookId, HookSettings, KeyId,
    NewCredential, NewKey, OnFailure, Ordered, Phase, Proof, Rate, RegistrantStatus, Timestamp,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// A hook as it is shown. The secret is shown at creation and rotation only.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// Its id.
    pub id: HookId,
    /// The id under which its profile's own API knows it, if the profile has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Whose events it gets.
    pub account: String,
    /// Where its deliveries go.
    pub url: String,
    /// Which events it asks for.
    pub events: Vec<String>,
    /// Which payloads of these; all when there is none.
    pub filter: Option<Filter>,
    /// The delivery format and policy.
    pub profile: String,
    /// The signing secret, only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `active`, `paused` or `disabled`.
    pub status: String,
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// When the first of them failed.
    pub first_failure_at: Option<Timestamp>,
    /// How the last of them failed.
    pub last_error: Option<String>,
    /// Whether it is held back because of its failures.
    pub phase: Option<Phase>,
    /// While it is backed off: nothing is sent before then.
    pub not_before: Option<Timestamp>,
    /// Why it is disabled: `failures`, `gone` or `manual`.
    pub disabled_reason: Option<String>,
    /// When it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// By whom: `postrider` or a person's way in.
    pub disabled_by: Option<String>,
    /// When it was last sent to, within about a second, if its profile keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_sent_at: Option<Timestamp>,
    /// The HTTP status of the answer; none where there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_status: Option<u16>,
    /// Deliveries that wait for it to become active; counted up to 10,000.
    pub held: u32,
    /// When the event of the oldest of them was made: of the hundred that are due longest.
    pub oldest_held_at: Option<Timestamp>,
    /// Its settings, without the filter. In JSON the limits and the order also stand beside it.
    #[serde(flatten, serialize_with = "with_limits_beside")]
    pub settings: HookSettings,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Writes the member `settings`, and the members that have always stood beside it.
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
    /// The hook, its credentials opened.
    pub hook: Hook,
    /// Failed attempts in a row.
    pub fail_count: u32,
    /// When it was last sent to, within about a second, if its profile keeps that.
    pub latest_sent_at: Option<Timestamp>,
    /// The HTTP status of the answer; none where there was no answer.
    pub latest_status: Option<u16>,
}

/// What happened to a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookChangeReport {
    /// Its place among all changes of hooks; those of one hook grow.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What: `created`, `changed`, `paused`, `enabled`, `disabled`, `secret_rotated`,
    /// `removed`, `warned` or `discarded`.
    pub action: String,
    /// By whom: `postrider`, or a person's way in, such as `cli`.
    pub actor: String,
    /// Why it was disabled, or which settings were changed.
    pub reason: Option<String>,
    /// Its failures in a row until then.
    pub fail_count: u32,
    /// How the last of them failed.
    pub last_error: Option<String>,
    /// How many deliveries were discarded.
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

/// A key of the API as it is shown. Its token is not: nobody knows it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Its id.
    pub id: KeyId,
    /// What it is good for: `admin`, `account`, `publish`, or `register` for a credential of a
    /// registrant.
    pub scope: String,
    /// In which account; `null` for all of them.
    pub account: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// What more there is to a credential of a registrant.
    #[serde(flatten)]
    pub registrant: Option<RegistrantReport>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, within about a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl KeyReport {
    /// A key that was just made.
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

    /// A credential of a registrant that was just made.
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

/// What more there is to a credential of a registrant: for which compatible API it is, and what
/// its holder may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistrantReport {
    /// The compatible API, by its profile.
    pub r#for: String,
    /// The API key or the user; `null` where a token alone shows who calls.
    pub public_id: Option<String>,
    /// `read`, `write`, both or none.
    pub permission: Vec<&'static str>,
    /// `active` or `inactive`.
    pub account_status: RegistrantStatus,
    /// `active` or `inactive`.
    pub member_status: RegistrantStatus,
    /// Whether the account has shown whose it is.
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
