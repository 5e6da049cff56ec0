//! Postrider from outside: what the whole workspace and the built programs must keep.

mod addresses;
mod back_off;
mod bench;
mod borders;
mod commands;
mod crash;
mod databases;
mod deliver;
mod drain;
mod filters;
mod health;
mod moving;
mod outbox_sql;
mod outcomes;
mod own_faults;
mod payloads;
mod poison;
mod publish;
mod publish_refused;
mod rate;
mod refusals;
mod retention;
mod retry;
mod rolling;
mod share;
mod steady;
