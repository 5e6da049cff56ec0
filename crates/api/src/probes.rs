//! `/livez` and `/readyz`.
//!
//! Alive means that the process answers at all; a platform restarts it when it does not. Ready
//! means that it does its work; a platform only stops sending it traffic when it is not, so a
//! database that is away makes a process unready, never dead.

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;

/// What `/readyz` asks.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// What keeps the process from being ready, in sentences; empty when it is ready. Answers
    /// within a few seconds whatever the database does.
    async fn problems(&self) -> Vec<String>;
}

/// The routes of both probes.
pub fn probes(readiness: Arc<dyn Readiness>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn livez() -> &'static str {
    "alive\n"
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

    #[tokio::test]
    async fn ready_is_when_nothing_is_in_the_way() {
        let (status, text) = readyz(State(Arc::new(With(Vec::new())))).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ready\n"));
        let draining = With(vec!["draining".into(), "the database is away".into()]);
        let (status, text) = readyz(State(Arc::new(draining))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "not ready\ndraining\nthe database is away\n");
    }
}
