//! A dialect, and the routes of all of them.

use super::credentials::{Brought, IssueError, Issued};
use super::registrar::Registrar;
use super::route::{self, Route};
use axum::Router;
use std::sync::Arc;

/// The router of a dialect before it gets its registrar.
pub type DialectRouter = Router<Arc<Registrar>>;

/// The API that registrants know from another system.
#[derive(Clone)]
pub struct Dialect {
    /// The system's name, which is that of its profile.
    pub name: &'static str,
    /// Issues a credential, from what the registrant brings or from drawn secrets.
    pub issue: fn(Brought) -> Result<Issued, IssueError>,
    /// The path prefix of every route. Everything else below it is refused in the system's form.
    pub prefix: &'static str,
    /// The routes below the prefix.
    pub routes: &'static [Route],
    /// Completes the router of the routes: adds the answers to unknown paths and methods, and the
    /// settings that handlers extract.
    pub complete: Arc<dyn Fn(DialectRouter) -> DialectRouter + Send + Sync>,
}

impl Dialect {
    /// The method and the full path of each route, with `{id}` for an id.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.routes.iter().map(|route| route.named(self.prefix))
    }

    /// The router of the dialect.
    pub fn router(&self) -> DialectRouter {
        let routes = (self.complete)(route::router(self.routes));
        Router::new().nest(self.prefix, routes)
    }
}

/// The routes of all dialects, whatever the state of the router they are merged into.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    dialects: &[Dialect],
    registrar: &Arc<Registrar>,
) -> Router<S> {
    dialects
        .iter()
        .map(|dialect| dialect.router().with_state(registrar.clone()))
        .fold(Router::new(), Router::merge)
}
