//! What tests need around Postrider: databases of their own, raw SQL, and a store to work with.
//!
//! A test that needs a PostgreSQL server fails when there is none, and says how to get one:
//! nothing is skipped.

mod connection;
mod database;
mod store;

pub use connection::Connection;
pub use database::{TestDatabase, slots};
pub use store::{TestStore, event, new_hook, policy, refusal, start};
