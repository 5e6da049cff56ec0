//! The harness of the tests: a database for each test, raw SQL, a store ([`TestStore`]), a store
//! with a worker ([`TestApp`]), scripted receivers, and the built program.
//!
//! A test that needs a PostgreSQL server fails when there is none, and says how to get one: no test
//! is skipped.

mod api;
mod app;
mod connection;
mod database;
mod fixtures;
mod grafana;
mod http;
mod name_server;
mod on_both;
mod private_server;
mod process;
mod program;
mod raw;
mod receiver;
mod registrant;
mod relay;
mod rule_time;
mod server;
mod store;
mod tools;
mod wait;

pub use api::Caller;
pub use app::{LEASED, TestApp, value_of};
pub use connection::Connection;
pub use database::{TestDatabase, slots};
pub use fixtures::{
    KEY, event, hook_defaults, hook_defaults_with, hook_to, longest_wait, new_hook, policy,
    refusal, start, stored_hook,
};
pub use grafana::{Dashboard, Panel, Rule, Selectors, dashboards, our_names, rules, selectors};
pub use http::Reply;
pub use name_server::{NameReply, NameServer};
pub use postrider_test_macros::conformance;
pub use private_server::PrivateServer;
pub use process::Process;
pub use program::{Ended, Postrider};
pub use raw::{Authority, Manner, RawReceiver};
pub use receiver::{Answer, PATIENCE, Received, Receiver};
pub use registrant::{Registrant, now_outside};
pub use relay::{Loses, Relay};
pub use rule_time::Watch;
pub use server::{Frozen, Server};
pub use store::TestStore;
pub use tools::{
    ended, ended_within, node, project, prometheus, psql, python, python_module, script,
};
pub use wait::eventually;
