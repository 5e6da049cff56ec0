//! The routes of a dialect as data. The router is made from nothing else, so the list of routes is
//! complete.

use super::registrar::Registrar;
use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use std::sync::Arc;

/// A route: its method, and its path below the dialect's prefix.
pub struct Route {
    method: &'static str,
    path: &'static str,
    filter: MethodFilter,
    serve: Serve,
}

/// The handler, made to answer the method that it is given.
type Serve = fn(MethodFilter) -> MethodRouter<Arc<Registrar>>;

impl Route {
    /// A route for `GET`; `serve` makes the handler answer the method it is given.
    pub const fn get(path: &'static str, serve: Serve) -> Self {
        Self::of("GET", MethodFilter::GET, path, serve)
    }

    /// A route for `POST`; `serve` makes the handler answer the method it is given.
    pub const fn post(path: &'static str, serve: Serve) -> Self {
        Self::of("POST", MethodFilter::POST, path, serve)
    }

    /// A route for `PUT`; `serve` makes the handler answer the method it is given.
    pub const fn put(path: &'static str, serve: Serve) -> Self {
        Self::of("PUT", MethodFilter::PUT, path, serve)
    }

    /// A route for `DELETE`; `serve` makes the handler answer the method it is given.
    pub const fn delete(path: &'static str, serve: Serve) -> Self {
        Self::of("DELETE", MethodFilter::DELETE, path, serve)
    }

    const fn of(
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        serve: Serve,
    ) -> Self {
        Self {
            method,
            path,
            filter,
            serve,
        }
    }

    /// The method and the whole path.
    pub(super) fn named(&self, prefix: &str) -> (&'static str, String) {
        let path = format!("{prefix}{}", self.path);
        (self.method, path.trim_end_matches('/').to_owned())
    }
}

/// The router of these routes, without their prefix.
pub(super) fn router(routes: &[Route]) -> Router<Arc<Registrar>> {
    let add = |router: Router<_>, route: &Route| {
        let answer = (route.serve)(route.filter);
        router.route(route.path, answer)
    };
    routes.iter().fold(Router::new(), add)
}
