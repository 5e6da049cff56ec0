//! APIs that registrants know from other systems: each registers, shows, changes and deletes
//! hooks of the profile whose name it has.
//!
//! A dialect is an entry of [`DIALECTS`]: its name, how its credentials are made, and its
//! routes, which answer in their own form whatever happens below their prefix. What all of them
//! need is behind [`Desk`], which knows none of them by name. A further one is a folder beside
//! the others, a line there, a field of [`DialectSettings`] if it can be told anything, and a
//! delivery format of the same name in the worker.

mod body;
mod credentials;
mod id;
mod misskey;
mod registrar;
mod route;
mod solapi;
mod thulium;

use axum::Router;
use route::Route;
use std::sync::Arc;

pub use credentials::{Brought, IssueError, Issued};
pub(crate) use registrar::{Desk, DeskParts};
pub use solapi::EventEntry;

/// An API that registrants know from another system.
pub struct Dialect {
    /// Its name, which is that of its profile.
    pub name: &'static str,
    /// Makes a credential, of what the registrant brings or of what is drawn.
    pub issue: fn(Brought) -> Result<Issued, IssueError>,
    /// Before the path of every route of its own; whatever else stands there is refused in its
    /// form.
    prefix: &'static str,
    routes: &'static [Route],
    /// Adds the answers to paths and methods that there are not.
    refusing: fn(Router<Arc<Desk>>) -> Router<Arc<Desk>>,
}

impl Dialect {
    /// All that it answers: the method and the path of each route, with `{id}` where one stands.
    pub fn routes(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.routes.iter().map(|route| route.named(self.prefix))
    }

    fn router(&self) -> Router<Arc<Desk>> {
        let routes = (self.refusing)(route::router(self.routes));
        Router::new().nest(self.prefix, routes)
    }
}

/// Every dialect there is.
pub const DIALECTS: &[Dialect] = &[solapi::DIALECT, thulium::DIALECT, misskey::DIALECT];

/// What dialects can be told.
#[derive(Clone, Debug)]
pub struct DialectSettings {
    /// The events that SOLAPI's registrants can choose from.
    pub solapi_events: Vec<EventEntry>,
    /// How many hooks an account of Misskey may have.
    pub misskey_webhook_limit: u32,
}

impl Default for DialectSettings {
    fn default() -> Self {
        Self {
            solapi_events: Vec::new(),
            misskey_webhook_limit: 3,
        }
    }
}

/// The routes of all dialects.
pub(crate) fn routes(desk: &Arc<Desk>) -> Router<Arc<crate::state::ApiState>> {
    DIALECTS
        .iter()
        .map(|dialect| dialect.router().with_state(desk.clone()))
        .fold(Router::new(), Router::merge)
}
