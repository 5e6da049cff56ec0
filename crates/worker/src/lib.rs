//! Fans out, leases, delivers and settles.
//!
//! A [`Worker`] is three parts around one queue: the dispatcher finds work in the store, the
//! senders make the requests, the settler records what came of them. No transaction is open
//! while a request is in flight.

mod address;
mod client;
mod clock;
mod dispatch;
mod gate;
mod last_answers;
mod local_fault;
mod metrics;
mod pace;
mod profiles;
mod pruner;
mod ready;
mod sampler;
mod send;
mod settings;
mod settle;
#[cfg(test)]
mod testing;
mod traces;
mod watchdog;
mod worker;

pub use address::{AddressGuard, BlockedAddress};
pub use client::{Client, Exchange, Request, Target};
pub use clock::{DatabaseClock, WorkerClock};
pub use local_fault::LocalFault;
pub use metrics::{Entry, Kind, MetricOf, Metrics};
pub use profiles::{
    DisableWhen, MisskeyOptions, PROFILES, Policy, PrepareError, Prepared, Profile, ProfileOptions,
    ProfileSetting, SecretUse, Sending, SettingValues, SolapiOptions,
};
pub use pruner::Pruner;
pub use sampler::Sampler;
pub use send::{Sender, TestError};
pub use settings::{HookDefaults, WorkerSettings};
pub use traces::{AttemptSpan, AttemptTraces};
pub use watchdog::{Progress, Standstill};
pub use worker::{Drained, Shutdown, Waker, Worker, WorkerParts};
