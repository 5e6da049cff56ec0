//! The commands, a file for each group.

pub mod bench;
mod bulk;
pub mod check;
mod check_database;
pub mod delivery;
mod delivery_many;
pub mod demo;
pub mod erase;
pub mod event;
mod event_file;
pub mod hook;
mod hook_change;
mod hook_held;
mod hook_history;
mod hook_limits;
mod hook_profile;
mod hook_test;
pub mod key;
mod key_access;
pub mod listen;
pub mod migrate;
pub mod moving;
mod paging;
mod parse;
pub mod serve;
mod show;
