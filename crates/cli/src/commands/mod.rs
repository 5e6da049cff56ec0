//! The commands, a file for each group.

pub mod bench;
pub mod check;
mod check_database;
pub mod delivery;
pub mod demo;
pub mod erase;
pub mod event;
mod event_file;
pub mod hook;
mod hook_change;
mod hook_limits;
mod hook_test;
pub mod key;
pub mod listen;
pub mod migrate;
pub mod moving;
mod paging;
mod parse;
pub mod serve;
mod show;
