//! One suite for every store: each case runs under its own name on PostgreSQL and on SQLite.
//!
//! A case is named after a sentence of the contract in `Store` and marked `#[conformance]`, which
//! is all that registers it. It gets a store on a database of its own and a clock that stands
//! still; nothing sleeps.
//!
//! `#[conformance(postgres)]` marks what SQLite does not have: several workers, several slots,
//! transactions open beside ours, partitions, a password. `#[conformance(sqlite)]` marks what
//! PostgreSQL does not have: a single slot, and text that is not valid UTF-8.
#![deny(dead_code, reason = "a case that is not marked would never run")]

mod aliases;
mod announced;
mod batch_ends;
mod batch_members;
mod batch_steps;
mod batches;
mod bulk_redelivery;
mod credentials;
mod dedup;
mod diagnostics;
mod enqueue;
mod erase;
mod fan_out;
mod fan_out_bounds;
mod fan_out_filters;
mod gates;
mod gauges;
mod health;
mod held;
mod history;
mod hook_history;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
mod leases;
mod locks;
mod many_days;
mod order_changed;
mod ordered;
mod partitions;
mod recover;
mod redeliver;
mod rejected;
mod retention;
mod schema;
mod secrets;
mod sessions;
mod settle;
mod silence;
mod support;
mod targets;
mod upgrade;
mod upkeep;
