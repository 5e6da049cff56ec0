//! Postrider's HTTP interface: the API for applications and operators, and health probes.
//!
//! A request is taken in by [`Api`], one file for each resource holds its routes, bodies and
//! handlers, and every refusal is a problem document (RFC 9457). No other crate but the binary
//! knows `axum`, and this one knows nothing of workers: what it asks about the process it asks
//! through [`Readiness`], what it tells it tells through [`Observer`] and
//! [`ApiParts::published`], what is to be sent goes through [`TestSender`], and what follows
//! publishing in traces is a [`PublishTraces`].

mod access_scope;
mod api;
mod attempt_body;
mod deliveries;
mod dialects;
mod docs_page;
mod event_body;
mod events;
mod head_timeout;
mod hook_body;
mod hook_bulk;
mod hook_history;
mod hook_log;
mod hook_schema;
mod hooks;
mod idempotency;
mod json_field;
mod json_fields;
mod keys;
mod limits;
mod observe;
mod openapi;
mod outage_log;
mod page;
mod params;
mod probes;
mod problem;
mod publisher;
mod request;
mod server;
mod state;
mod test_places;
mod test_sender;
mod traces;
mod webhooks;
mod write_timeout;

pub use api::{Api, ApiParts};
pub use dialects::{
    BodyRefused, Brought, Dialect, DialectRouter, IssueError, Issued, PathId, Registrar,
    RegistrarParts, RequestBody, Route, TestRefused, drawn, may_be_json, password, read_body,
    signing, token,
};
pub use limits::ApiLimits;
pub use observe::Observer;
pub use probes::{Readiness, probes};
pub use request::drain;
pub use server::serve;
pub use test_sender::TestSender;
pub use traces::{PublishSpan, PublishTraces};
