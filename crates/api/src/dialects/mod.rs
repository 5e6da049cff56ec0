//! What the APIs of compatible systems are made of.
//!
//! A *dialect* is the API that registrants know from another system: it registers, shows, changes
//! and deletes hooks of the profile of the same name. Its routes answer in that system's form
//! below a prefix of their own. The dialects themselves are not known here; the binary hands them
//! in.

mod credentials;
mod dialect;
mod path_id;
mod registrar;
mod request_body;
mod route;

pub use credentials::{Brought, IssueError, Issued, drawn, password, signing, token};
pub(crate) use dialect::routes;
pub use dialect::{Dialect, DialectRouter};
pub use path_id::PathId;
pub use registrar::{Registrar, RegistrarParts, TestRefused};
pub use request_body::{BodyRefused, RequestBody, may_be_json, read_body};
pub use route::Route;
