//! Postrider from outside: what the whole workspace and the built programs must keep.

mod borders;
mod databases;
