//! The routes of a dialect as data: the router is made of nothing else, so whoever asks for the
//! list is told every route there is.

use super::Desk;
use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use std::sync::Arc;

/// A route: its method, and its path below the dialect's prefix.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    filter: MethodFilter,
    serve: Serve,
}

/// The handler, made to answer the method that it is given.
type Serve = fn(MethodFilter) -> MethodRouter<Arc<Desk>>;

impl Route {
    pub(super) const fn get(path: &'static str, serve: Serve) -> Self {
        Self::of("GET", MethodFilter::GET, path, serve)
    }

    pub(super) const fn post(path: &'static str, serve: Serve) -> Self {
        Self::of("POST", MethodFilter::POST, path, serve)
    }

    pub(super) const fn put(path: &'static str, serve: Serve) -> Self {
        Self::of("PUT", MethodFilter::PUT, path, serve)
    }

    pub(super) const fn delete(path: &'static str, serve: Serve) -> Self {
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
pub(super) fn router(routes: &[Route]) -> Router<Arc<Desk>> {
    let add = |router: Router<_>, route: &Route| {
        let answer = (route.serve)(route.filter);
        router.route(route.path, answer)
    };
    routes.iter().fold(Router::new(), add)
}
