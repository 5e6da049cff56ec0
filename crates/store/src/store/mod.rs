//! The contract of every store, in prose. The conformance cases are named after its sentences.
//!
//! It is split by who calls: a worker uses the outbox, the queue and the gates; the API and the
//! command line the rest. [`Store`] is all of it.
//!
//! A method that changes anything is one transaction, unless its text says otherwise. After an
//! error nothing has changed. If the connection broke during the commit, calling again is safe.
//! `now` always comes from the caller's clock.
//!
//! Every method that returns a result may fail with [`Unavailable`](crate::Error::Unavailable),
//! [`Denied`](crate::Error::Denied), [`Schema`](crate::Error::Schema) or
//! [`Database`](crate::Error::Database). The errors under a method are those it has besides.

mod credentials;
mod database;
mod delivery_change;
mod gates;
mod history;
mod hooks;
mod keys;
mod maintenance;
mod monitoring;
mod outbox;
mod queue;

pub use credentials::Credentials;
pub use database::{ClockReading, Database};
pub use delivery_change::DeliveryChanges;
pub use gates::Gates;
pub use history::{DeliveryFilter, EventFilter, History};
pub use hooks::{HistoryFilter, HookChange, HookFilter, Hooks, LatestAnswer, RegisteredFilter};
pub use keys::{KeyFilter, Keys};
pub use maintenance::{Maintenance, Upkeep};
pub use monitoring::Monitoring;
pub use outbox::{EnqueuedOnce, IDEMPOTENCY_KEPT, Idempotency, Outbox};
pub use queue::Queue;

/// Everything that is kept in one database: what [`open`](crate::open()) returns.
pub trait Store:
    Database
    + Outbox
    + Queue
    + Gates
    + Hooks
    + Keys
    + Credentials
    + History
    + DeliveryChanges
    + Maintenance
    + Monitoring
{
}

impl<T> Store for T where
    T: Database
        + Outbox
        + Queue
        + Gates
        + Hooks
        + Keys
        + Credentials
        + History
        + DeliveryChanges
        + Maintenance
        + Monitoring
{
}
