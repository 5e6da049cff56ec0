//! The producer against real databases.

mod sqlite;
