//! Fans out, leases, delivers and settles.

mod settings;

pub use settings::{HookDefaults, WorkerSettings};
