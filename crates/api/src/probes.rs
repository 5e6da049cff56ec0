//! `/livez` and `/readyz`.
//!
//! `/livez` answers as long as the process runs and its worker's loop is alive; a platform restarts
//! a process that does not answer so. `/readyz` says whether it can work; a platform sends no traffic to a process that is not
//! ready. So an unavailable database makes a process unready, never dead.

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;

/// The checks behind `/readyz`.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// The reasons why the process is not ready, one sentence each; empty when it is ready. Must
    /// return within a few seconds even when the database does not respond.
    async fn problems(&self) -> Vec<String>;

    /// Why the process must be restarted; `None` while it is alive.
    fn lifeless(&self) -> Option<String> {
        None
    }
}

/// The routes of both probes.
pub fn probes(readiness: Arc<dyn Readiness>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn livez(State(readiness): State<Arc<dyn Readiness>>) -> (StatusCode, String) {
    match readiness.lifeless() {
        None => (StatusCode::OK, "alive\n".into()),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not alive\n{why}\n"),
        ),
    }
}

async fn readyz(State(readiness): State<Arc<dyn Readiness>>) -> (StatusCode, String) {
    match readiness.problems().await.as_slice() {
        [] => (StatusCode::OK, "ready\n".into()),
        problems => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready\n{}\n", problems.join("\n")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct With(Vec<String>);

    #[async_trait]
    impl Readiness for With {
        async fn problems(&self) -> Vec<String> {
            self.0.clone()
        }
    }

    struct Lifeless;

    #[async_trait]
    impl Readiness for Lifeless {
        async fn problems(&self) -> Vec<String> {
            Vec::new()
        }

        fn lifeless(&self) -> Option<String> {
            Some("the loop hangs".into())
        }
    }

    #[tokio::test]
    async fn a_process_with_problems_is_alive_and_a_lifeless_one_is_not() {
        let away = With(vec!["the database is away".into()]);
        let (status, text) = livez(State(Arc::new(away))).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "alive\n"));
        let (status, text) = livez(State(Arc::new(Lifeless))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not alive\nthe loop hangs\n");
    }

    #[tokio::test]
    async fn a_process_without_problems_is_ready() {
        let (status, text) = readyz(State(Arc::new(With(Vec::new())))).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ready\n"));
        let draining = With(vec!["draining".into(), "the database is away".into()]);
        let (status, text) = readyz(State(Arc::new(draining))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not ready\ndraining\nthe database is away\n");
    }
}
