//! Fans out, leases, delivers and settles.
//!
//! A [`Worker`] is three parts around one queue, the admission: the dispatcher finds work in the
//! store, the senders make the requests, the settler records their results. No transaction is
//! open while a request is in flight.

mod address;
mod admission;
mod client;
mod clock;
mod dispatch;
mod guarded_names;
mod hints;
mod last_answers;
mod local_fault;
mod metrics;
mod names;
mod prepared_hooks;
mod profiles;
mod pruner;
mod sampler;
mod send;
mod settings;
mod settle;
#[cfg(test)]
mod testing;
mod traces;
mod tuning;
mod watchdog;
mod worker;

pub use address::{AddressGuard, BlockedAddress};
pub use client::{Client, Exchange, HeaderNames, IDLE_MAX, Request, Target, USER_AGENT};
pub use clock::{DatabaseClock, WorkerClock};
pub use local_fault::LocalFault;
pub use metrics::{MetricEntry, MetricKind, MetricScope, Metrics};
pub use names::{NameServer, Names};
pub use profiles::{
    DisableWhen, Format, Policy, PrepareError, Prepared, Profile, ProfileSetting, Profiles,
    SecretUse, Sending, SettingValues, own_headers, profile_setting, secret_value,
};
pub use pruner::Pruner;
pub use sampler::Sampler;
pub use send::{Sender, TestError};
pub use settings::{HookDefaults, WorkerSettings};
pub use traces::{AttemptSpan, AttemptTraces};
pub use watchdog::{Progress, Standstill};
pub use worker::{Drained, Shutdown, Waker, Worker, WorkerParts};
