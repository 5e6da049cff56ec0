//! The contract of every store, in prose. The conformance cases are named after its sentences.

use crate::{
    AttemptReport, BulkPage, BulkPageResult, CredentialQuery, DeliveryReport, DeliveryState,
    Diagnostics, Discard, DueHook, Erased, EventReport, FanOutRequest, FanOutResult, GaugeSample,
    HookCache, HookChangeReport, HookReport, KeyReport, LeaseRequest, Leased, Migrated,
    OwnershipAnswer, OwnershipRequest, Peek, PoolGauge, Pruned, RecoverResult, Redelivery,
    RegisteredHook, RejectedReport, Result, Retention, SchemaState, SettleResult, Settlement,
    WorkerClaim,
};
use async_trait::async_trait;
use postrider_core::{
    AccessChange, Credential, DeliveryId, EventId, Hook, HookEdit, HookId, HookStatus, Key, KeyId,
    LeaseToken, NewCredential, NewEvent, NewHook, NewKey, Schedules, SettingsChange, SigningSecret,
    Timestamp, TokenHash, WorkerId,
};
use std::sync::Arc;
use std::time::Duration;

/// A change of a hook by a person.
#[derive(Clone, Debug)]
pub enum HookChange {
    /// Hold its deliveries.
    Pause,
    /// Let its deliveries go on; its failures are forgotten.
    Enable,
    /// Hold its deliveries, and say that a person did it.
    Disable,
    /// Change what it sets for itself.
    Set(SettingsChange),
    /// Change what it was registered with.
    Edit(Box<HookEdit>),
    /// Sign with this secret from now on; the one before signs too until the given moment.
    Rotate {
        /// The new secret.
        secret: SigningSecret,
        /// Until when the old one signs too.
        overlap_until: Timestamp,
    },
}

impl HookChange {
    /// Whether the hook's failures are forgotten with it.
    pub(crate) fn forgets_failures(&self) -> bool {
        match self {
            Self::Enable => true,
            Self::Edit(edit) => edit.status == Some(HookStatus::Active),
            Self::Pause | Self::Disable | Self::Set(_) | Self::Rotate { .. } => false,
        }
    }
}

/// Which hooks to list.
#[derive(Clone, Debug, Default)]
pub struct HookFilter {
    /// Only this account's.
    pub account: Option<String>,
    /// Only those of this profile.
    pub profile: Option<String>,
    /// Only hooks registered after this one (by id, which sorts by time).
    pub after: Option<HookId>,
    /// At most this many.
    pub limit: u32,
}

/// Which hooks to show as a profile's own API shows them.
#[derive(Clone, Debug, Default)]
pub struct RegisteredFilter {
    /// This account's.
    pub account: String,
    /// Those of this profile.
    pub profile: String,
    /// Only the one with this alias.
    pub only: Option<String>,
    /// Only those whose alias is this one or sorts before it, byte by byte.
    pub up_to: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// Which changes of a hook to list, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryFilter {
    /// Only changes before the one of this number.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// The latest answer of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatestAnswer {
    /// Which hook.
    pub hook: HookId,
    /// When the attempt started.
    pub at: Timestamp,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
}

/// Which events to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only this account's.
    pub account: Option<String>,
    /// Only this exact type.
    pub event_type: Option<String>,
    /// Only events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only events inserted before this time.
    pub until: Option<Timestamp>,
    /// Only events older than this one.
    pub before: Option<EventId>,
    /// At most this many.
    pub limit: u32,
}

/// Which deliveries to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only to this hook.
    pub hook: Option<HookId>,
    /// Only of this event.
    pub event: Option<EventId>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only to hooks of this account, deleted ones included.
    pub account: Option<String>,
    /// Only of events inserted at this time or later, by the time in their ids.
    pub since: Option<Timestamp>,
    /// Only of events inserted before this time.
    pub until: Option<Timestamp>,
    /// Only deliveries older than this one.
    pub before: Option<DeliveryId>,
    /// At most this many.
    pub limit: u32,
}

/// A call that is to publish events once, however often it is made.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key of the API that calls: the same words by another are another call.
    pub caller: KeyId,
    /// What the caller says to make repeats of the call known.
    pub key: String,
    /// The SHA-256 of what is asked for.
    pub digest: [u8; 32],
}

/// What became of such a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnqueuedOnce {
    /// The events are in the outbox now.
    Now(Vec<EventId>),
    /// They were before, under these ids; nothing was done.
    Before(Vec<EventId>),
    /// Something else was asked for with this key before; nothing was done.
    Mismatch,
}

/// How long the key of such a call is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Which keys of the API to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Only keys made after this one (by id, which sorts by time).
    pub after: Option<KeyId>,
    /// At most this many.
    pub limit: u32,
}

/// What one turn of upkeep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Deliveries of deleted hooks that were cancelled.
    pub cancelled: u32,
    /// Whether there is more to cancel.
    pub more: bool,
}

/// Where events, hooks, deliveries and attempts are kept.
///
/// Methods that change anything are one transaction each: after an error nothing of the call
/// has happened, except where the connection broke during the commit; calling again is then
/// safe. `now` always comes from the caller's clock.
#[async_trait]
pub trait Store: Send + Sync {
    // ---- the database itself

    /// The database's clock.
    async fn now(&self) -> Result<Timestamp>;

    /// Where the database stands between no tables and too new for this binary.
    async fn schema(&self) -> Result<SchemaState>;

    /// Makes or updates the tables, and spreads the outbox over `slots` (PostgreSQL only).
    ///
    /// May be repeated and run by several processes at once: one does the work, the others
    /// wait and find it done. A database too new for this binary is refused. Slots only grow,
    /// and not while the outbox holds rows with keys. Partitions for today and the next days
    /// are made.
    async fn migrate(&self, slots: Option<u16>, now: Timestamp) -> Result<Migrated>;

    /// A sentence naming the database for people, without its password.
    fn describe(&self) -> String;

    /// Closes every connection; calls after this fail.
    async fn close(&self);

    /// Takes the right to work on this database, held until the claim is dropped.
    ///
    /// PostgreSQL gives it to any number of workers. SQLite gives it to one process, because
    /// its workers could only wait for each other; others get [`Error::Conflict`], which says
    /// what to do. Command line and applications need no claim.
    ///
    /// [`Error::Conflict`]: crate::Error::Conflict
    async fn claim_worker(&self) -> Result<WorkerClaim> {
        Ok(WorkerClaim::default())
    }

    // ---- events in

    /// Inserts events into the outbox, all or none, and returns their ids in the same order.
    /// The commit is durable when this returns. Events that break a bound are refused before
    /// anything is written.
    async fn enqueue(&self, events: &[NewEvent]) -> Result<Vec<EventId>>;

    /// The same once for each key of a caller within [`IDEMPOTENCY_KEPT`]: a repeat of the call
    /// inserts nothing and is told the same ids, and so is one at the same time, after the
    /// first. The key is recorded in the transaction that inserts the events.
    async fn enqueue_once(
        &self,
        call: &Idempotency,
        events: &[NewEvent],
        now: Timestamp,
    ) -> Result<EnqueuedOnce>;

    // ---- the hot path: each call names one slot

    /// Which slots have outbox rows, and the version of the hooks. Cheap at any backlog.
    async fn peek(&self) -> Result<Peek>;

    /// Turns outbox rows of one slot into events and deliveries.
    ///
    /// The rows leave the outbox in the transaction that makes the deliveries, one for each hook
    /// of the account that takes deliveries and whose patterns and filter match the event, as the
    /// hooks stood when the row was read or later. A filter that cannot tell does not match, and
    /// is counted. Rows of one slot are taken in the order of `seq`; no row is taken by two
    /// callers. While any hook is ordered one caller at a time takes rows of a slot, and another
    /// meanwhile gets none. Deliveries to active hooks that are not gated, fit into the capacity and
    /// are due come back leased; all others wait, due at once or at `deliver_after`. Those of a
    /// hook that gets several events in one request all wait, for as long as its window is more.
    ///
    /// A row whose `dedup_key` was seen before in its account is dropped and counted. A row
    /// that breaks a bound, or that the database refuses to keep, moves to
    /// `postrider_rejected` with the reason; it never stops the others.
    async fn fan_out(&self, request: FanOutRequest) -> Result<FanOutResult>;

    /// Hooks of the slot that have deliveries waiting without a lease, by id, after `after`,
    /// at most `limit`, with the time the first is due. The cost grows with `limit`, not with
    /// the backlog. Includes hooks that are not active.
    async fn due_hooks(&self, slot: i16, after: Option<HookId>, limit: u32)
    -> Result<Vec<DueHook>>;

    /// The slots that have deliveries at all. Cheap at any backlog.
    async fn slots(&self) -> Result<Vec<i16>>;

    /// Leases due deliveries of the wanted hooks, of each the longest due first.
    ///
    /// Due: without a lease and `next_attempt_at <= now`. No delivery is leased to two callers
    /// at once. Hooks that are not active give none, whatever is wanted, and gated hooks none
    /// to a worker that does not own them. Of an ordered hook's deliveries with the same
    /// `ordering_key` only the first in the order of insertion that has not ended is leased, and
    /// none while any of them is; the others wait behind it, whatever they are due. A delivery
    /// whose event is gone, or whose hook's credentials or own target cannot be opened, is not
    /// leased. A target that was kept comes with the delivery, beside the hook as it is now.
    ///
    /// Where a hook gets several events in one request, deliveries that were never attempted are
    /// cut into batches as soon as the first of them is due: those that wait for others go too,
    /// each batch of one event type, in the order of insertion, bounded in number and size. What
    /// was cut comes back as one [`Leased`], and counts as one. It is durable then and stays
    /// together for as long as its deliveries last, whoever leases them and whatever becomes of
    /// the hook; one that a person sends again, or that ends otherwise, leaves the others.
    async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>>;

    /// Makes a worker the owner of gated hooks, or lets it stay so; an answer for each hook
    /// asked for.
    ///
    /// A hook has one owner at a time. It stays the owner's until the time that was given,
    /// however often others ask; then it is whose who asks first. Nobody becomes the owner of a
    /// hook that is backed off before it may be probed, but an owner may stay. A store that
    /// gives the right to work to one process only lets that one own all it asks for.
    async fn own_gates(&self, request: OwnershipRequest) -> Result<Vec<OwnershipAnswer>>;

    /// Gives up the ownership of these hooks, where the worker has it.
    async fn disown_gates(&self, worker: WorkerId, hooks: &[HookId]) -> Result<()>;

    /// These hooks have ramped up: they are held back no more, unless they have failed since.
    async fn end_ramps(&self, hooks: &[HookId]) -> Result<()>;

    /// Records attempts and gives their deliveries the next step, under the lease.
    ///
    /// What ends in an ordered hook gives the next one of its key its turn. One that has failed
    /// for good keeps its place before them instead, unless the hook skips such, until it is sent
    /// again and taken, or discarded. All settlements are of one slot. The attempt, the step and
    /// the hook's fail count are one transaction. A settlement whose token is not the delivery's
    /// any more changes nothing: its attempt is recorded as late and its delivery returned. A
    /// settlement that was made before (the same attempt id) changes nothing at all. The fail
    /// count is written only when it changes. A hook whose phase changes takes a new version with
    /// it, and every hook that was failing or has failed is among the standings. A hook whose
    /// verdict is to be disabled is disabled once, with reason and time, if it is active. A
    /// settlement that the database refuses is made without the response and with a plain error
    /// text; it never stops the others.
    ///
    /// An active hook that comes half of the way to being disabled is warned of once in a row of
    /// failures. Warnings and disablings are recorded in the hook's history, and they and
    /// deliveries that fail for good are announced by events of our own, all in the same
    /// transaction; nothing is announced where no hook of the account asks for it, as far as
    /// the cache of hooks knows.
    ///
    /// Where the target is to be kept, a delivery that waits keeps where this attempt went,
    /// sealed, unless it has one already. It stays until the delivery ends or is sent again by a
    /// person.
    async fn settle(&self, now: Timestamp, settlements: &[Settlement]) -> Result<SettleResult>;

    /// Gives leases back unused: the deliveries are due at once for anyone, and neither an
    /// attempt nor a lost lease is counted. Those under another token are left alone. Returns
    /// how many were given back.
    async fn release(
        &self,
        slot: i16,
        token: LeaseToken,
        deliveries: &[DeliveryId],
        now: Timestamp,
    ) -> Result<u32>;

    /// Makes deliveries due again whose lease expired before `now`, at most `limit`.
    ///
    /// One whose lease expired for the third time in a row is recorded as an attempt with the
    /// outcome `worker_lost` and waits by its hook's schedule, or fails
    /// when that is used up.
    async fn recover(
        &self,
        slot: i16,
        now: Timestamp,
        limit: u32,
        schedules: &dyn Schedules,
    ) -> Result<RecoverResult>;

    /// The hooks as of the latest call of this store that read them.
    fn hook_cache(&self) -> Arc<HookCache>;

    // ---- upkeep

    /// Makes partitions ahead (today and the next three days by `now`), cancels up to `limit`
    /// deliveries of deleted hooks that are not leased, forgets the keys of calls that are older
    /// than [`IDEMPOTENCY_KEPT`], and looks after the order: what waits for another in a hook that
    /// is ordered no more goes, what holds a key of one that skips now holds it no longer, and what
    /// waits for nothing has its turn.
    async fn upkeep(&self, now: Timestamp, limit: u32) -> Result<Upkeep>;

    /// Takes away what is past its retention by `now`, `batch` rows at a time where it goes by
    /// rows.
    ///
    /// History goes by the day of fan-out. Before events go, every delivery of theirs that has
    /// not ended is ended as expired; those that are leased keep the events of all days that are
    /// past until they have ended. Attempts go with their events, or before, when all of their
    /// day are past `keep.attempts`. What ended otherwise than delivered is told for a week
    /// longer than its event. Deduplication keys and rejected rows are kept as long as events.
    ///
    /// Keeps nobody waiting: what cannot go without is left for a later call, and the answer
    /// says why. Of several that call at once one does the work and the others return at once.
    /// What a call that was cut short had begun is finished by the next.
    async fn prune(&self, keep: &Retention, now: Timestamp, batch: u32) -> Result<Pruned>;

    /// Erases what these events said: payloads become `null`, headers and what receivers
    /// answered go, also of rejected ones; those in the outbox go altogether.
    ///
    /// Deliveries that wait are cancelled, and nothing is sent of an erased event any more. An
    /// event with a delivery that is being attempted stays as it is and is named in the answer:
    /// call again when the attempt has ended. What was erased before changes nothing, and
    /// unknown ids are passed over. Keys, type and times stay.
    async fn erase(&self, events: &[EventId], now: Timestamp) -> Result<Erased>;

    /// Erases what up to `limit` rejected rows of an account said; returns how many.
    async fn erase_rejected(&self, account: &str, limit: u32) -> Result<u32>;

    /// What the database tells about itself, as of `now`. Reads catalogs and statistics only,
    /// whatever the tables hold.
    async fn diagnostics(&self, now: Timestamp) -> Result<Diagnostics>;

    // ---- what operators watch

    /// The latest sample of how much waits and how the database is; nothing before the first.
    ///
    /// A sample is taken every ten seconds, by whoever asks first when it is time; all others
    /// are given the one before, also while it is being taken. Counts end at
    /// [`GAUGES_COUNTED`], so that no backlog makes a sample costly; one that takes half a
    /// second or more is followed by a pause of twenty times that.
    ///
    /// [`GAUGES_COUNTED`]: crate::GAUGES_COUNTED
    async fn gauges(&self, now: Timestamp) -> Result<Option<GaugeSample>>;

    /// How many connections of this store are in use. Asks nothing of the database.
    fn pools(&self) -> Vec<PoolGauge>;

    // ---- hooks

    /// Registers a hook. Its credentials are sealed. An alias that a hook of the profile has, or
    /// has had, is a conflict; a number that is drawn as an alias is never drawn again. Of calls
    /// at the same time no more succeed than `at_most` allows.
    ///
    /// `by` names the way in, such as `cli`, here and in every change: each is recorded in the
    /// hook's history by the transaction that makes it.
    async fn create_hook(&self, hook: NewHook, by: &str, now: Timestamp) -> Result<HookReport>;

    /// Changes a hook and returns it as it then is. Pausing a hook that is paused, or disabling
    /// one that is disabled, changes nothing and is not recorded. That a hook was disabled, or
    /// is active again, is announced by an event of our own where another hook asks for it.
    /// Enabling sets the fail count to 0; its held deliveries go on, beginning with a probe.
    /// What a changed filter asks for decides about events that are fanned out later; deliveries
    /// that were made stay. Limits that let nothing through, and a change of settings that a
    /// newer version wrote, are refused. An edit is made as a whole or not at all; deliveries
    /// that wait go to the new URL, with the new credentials, unless a target was kept with them.
    async fn change_hook(
        &self,
        id: HookId,
        change: HookChange,
        by: &str,
        now: Timestamp,
    ) -> Result<HookReport>;

    /// Deletes a hook: no delivery is made for it from now on, and what it has is cancelled by
    /// upkeep. Returns it as it was.
    async fn remove_hook(&self, id: HookId, by: &str, now: Timestamp) -> Result<HookReport>;

    /// What happened to a hook, newest first, also when it was deleted. The newest 500 changes
    /// of a hook are kept.
    async fn hook_history(
        &self,
        id: HookId,
        filter: HistoryFilter,
    ) -> Result<Vec<HookChangeReport>>;

    /// One hook. Deleted ones are not found.
    async fn hook(&self, id: HookId) -> Result<HookReport>;

    /// Hooks of an account as the profile's own API shows them, with their credentials opened;
    /// those whose alias sorts last, byte by byte, come first. Those of other accounts, and
    /// deleted ones, are not among them.
    async fn registered(&self, filter: RegisteredFilter) -> Result<Vec<RegisteredHook>>;

    /// Records when hooks were last sent to and what they answered, where that is newer than
    /// what is recorded.
    async fn note_latest(&self, latest: &[LatestAnswer]) -> Result<()>;

    /// One hook with its credentials opened.
    async fn hook_with_credentials(&self, id: HookId) -> Result<Hook>;

    /// Hooks in the order of their ids.
    async fn hooks(&self, filter: HookFilter) -> Result<Vec<HookReport>>;

    // ---- keys of the API

    /// Makes a key that is found by the hash of its token from now on. A key that breaks a
    /// bound is refused, and so is a hash that another key has.
    async fn create_key(&self, key: NewKey, hash: TokenHash, now: Timestamp) -> Result<KeyReport>;

    /// Keys in the order of their ids, revoked ones included.
    async fn keys(&self, filter: KeyFilter) -> Result<Vec<KeyReport>>;

    /// Revokes a key for good: it is not found any more. One that is revoked already keeps the
    /// time. Returns it as it then is.
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<KeyReport>;

    /// The key whose token has this hash; none if there is no such key or it is revoked.
    async fn find_key(&self, hash: TokenHash) -> Result<Option<Key>>;

    /// Records when keys were last used. A use less than a minute after the one on record is
    /// not recorded, so that it costs one write a minute for a key at most, whoever calls.
    /// Unknown keys are passed over.
    async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()>;

    // ---- credentials of registrants

    /// Makes a credential of a registrant, which is found by what it shows from now on. Its
    /// secret, if it has one, is sealed. One that breaks a bound is refused; one that shows what
    /// another of the same system shows that is not revoked, is a conflict. Keys and credentials
    /// are listed and revoked together.
    async fn create_credential(&self, new: NewCredential, now: Timestamp) -> Result<KeyReport>;

    /// Changes what a registrant may do. Keys of Postrider's own API are not found.
    async fn change_credential(&self, id: KeyId, change: AccessChange) -> Result<KeyReport>;

    /// The credential of whoever shows this; none if there is no such credential or it is
    /// revoked.
    async fn find_credential(&self, query: CredentialQuery) -> Result<Option<Credential>>;

    /// Takes a signature under a key once: `false` when it was taken before. It is remembered,
    /// whatever restarts, at least until the given moment; those whose moment has passed are
    /// forgotten bit by bit.
    async fn take_signature(
        &self,
        key: KeyId,
        signature: &[u8],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool>;

    // ---- history

    /// One event with its payload, also while it is in the outbox or was rejected.
    async fn event(&self, id: EventId) -> Result<EventReport>;

    /// Events without their payloads, newest first, those in the outbox included.
    async fn events(&self, filter: EventFilter) -> Result<Vec<EventReport>>;

    /// One delivery, whether it waits, runs or has ended.
    async fn delivery(&self, id: DeliveryId) -> Result<DeliveryReport>;

    /// Deliveries, newest event first, whether they wait, run or have ended.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryReport>>;

    /// The attempts of one delivery, in the order they were made.
    async fn attempts(&self, id: DeliveryId) -> Result<Vec<AttemptReport>>;

    /// Makes a delivery due now, with its schedule begun anew, whether it waits or has ended. It
    /// goes where its hook points, also if a target was kept with it.
    /// One in flight is a conflict, and so is one whose hook was deleted. One that waits, or has
    /// failed and holds its key, keeps its place in the order of its key; any other that has
    /// ended is a repeat outside of it, waits for none and holds up none.
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// Makes deliveries of a hook due now, with their schedules begun anew, the oldest first: a
    /// page of those that are in the state that is asked for.
    ///
    /// What is pending or in flight is left alone, and so is what has moved on meanwhile or
    /// whose event is gone. Those of a hook that is not active are held. A hook that was deleted
    /// is a conflict. All pages of one walk take the same `now`.
    async fn redeliver_many(
        &self,
        which: &Redelivery,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;

    /// Ends held deliveries of a hook as cancelled with the reason `discarded`, those that are
    /// due longest first: a page of them.
    ///
    /// What is in flight is left alone. A hook that is active holds nothing, which is a
    /// conflict. The hook's history tells how many were discarded, in one entry for all pages
    /// with the same `now`.
    async fn discard_held(
        &self,
        which: &Discard,
        page: BulkPage,
        now: Timestamp,
    ) -> Result<BulkPageResult>;

    /// Gives a delivery up that waits, or that has failed and holds its key: it ends as cancelled,
    /// discarded by a person, and the next one of its key has its turn. One in flight is a
    /// conflict, and so is one that has ended.
    async fn discard(&self, id: DeliveryId, now: Timestamp) -> Result<DeliveryReport>;

    /// The latest rejected outbox rows, newest first.
    async fn rejected(&self, limit: u32) -> Result<Vec<RejectedReport>>;
}
