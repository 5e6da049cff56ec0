//! Postrider from outside: what the whole workspace and the built programs must keep.
#![deny(
    dead_code,
    reason = "a story that `on_both!` does not list would never run"
)]

mod addresses;
mod api_batch;
mod api_deliveries;
mod api_edges;
mod api_hooks;
mod api_limits;
mod api_routes;
mod api_schema;
mod back_off;
mod bench;
mod borders;
mod bulk_redelivery;
mod commands;
mod crash;
mod dashboards;
mod databases;
mod deliver;
mod deployed;
mod documents;
mod drain;
mod filters;
mod health;
mod held;
mod hook_history;
mod incident;
mod kept_targets;
mod logs;
mod misskey;
mod moving;
mod observed;
mod operational_events;
mod ordered;
mod outbox_sql;
mod outcomes;
mod own_faults;
mod payloads;
mod poison;
mod profile_vectors;
mod profiles_commands;
mod profiles_delivery;
mod publish;
mod publish_killed;
mod publish_refused;
mod rate;
mod refusals;
mod registrant_routes;
mod registrants;
mod report_batches;
mod retention;
mod retention_load;
mod retry;
mod rolling;
mod share;
mod solapi;
mod solapi_hooks;
mod standstill;
mod steady;
mod thulium;
mod traces;
