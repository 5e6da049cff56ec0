//! The receivers of the demo, each with a hook.

use crate::clock::wall_clock;
use crate::failure::Result;
use crate::receiver::{Answers, Arrival, Receiver};
use anyhow::Context;
use axum::http::StatusCode;
use postrider_core::{EventPattern, HookCredentials, HookId, HookSettings, NewHook, SigningSecret};
use postrider_store::Store;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A receiver with a name, its hook, and its arrivals.
pub(super) struct Shop {
    pub(super) name: &'static str,
    pub(super) url: String,
    pub(super) hook: HookId,
    pub(super) receiver: Receiver,
    pub(super) arrived: Arc<Arrivals>,
}

#[derive(Default)]
pub(super) struct Arrivals {
    arrivals: Mutex<Vec<Arrival>>,
    pub(super) changed: Notify,
}

impl Shop {
    /// Starts a receiver and registers a hook for it.
    pub(super) async fn open(
        name: &'static str,
        answers: Answers,
        store: &dyn Store,
        servers: &mut JoinSet<()>,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen on 127.0.0.1")?;
        let url = format!("http://{}/{name}", listener.local_addr()?);
        let secret = SigningSecret::generate();
        let arrived = Arc::new(Arrivals::default());
        let receiver = Receiver::new(vec![secret.verification_key()], answers, wall_clock, {
            let arrived = arrived.clone();
            move |arrival| arrived.push(arrival)
        });
        let router = receiver.router();
        servers.spawn(async move {
            // It serves until the demo stops it.
            let _ = axum::serve(listener, router).await;
        });
        let hook = NewHook {
            alias: None,
            account: "default".into(),
            url: url.clone(),
            events: vec![EventPattern::Below("order".into())],
            profile: "standard".into(),
            settings: HookSettings::default(),
            credentials: HookCredentials::signed_with(secret),
            at_most: None,
        };
        let hook = store
            .create_hook(hook, "demo", store.now().await?)
            .await?
            .id;
        Ok(Self {
            name,
            url,
            hook,
            receiver,
            arrived,
        })
    }
}

impl Arrivals {
    fn push(&self, arrival: Arrival) {
        self.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(arrival);
        self.changed.notify_waiters();
    }

    /// Whether all requests had the same id and body.
    pub(super) fn is_one_message(&self) -> bool {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals
            .windows(2)
            .all(|two| two[0].id == two[1].id && two[0].body == two[1].body)
    }

    /// Number of requests, and of those that were verified and accepted.
    pub(super) fn counts(&self) -> (usize, usize) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |a: &&Arrival| a.verified == Some(true) && a.status_answered == 200;
        (arrivals.len(), arrivals.iter().filter(good).count())
    }
}

/// Answers this status `times` times, and accepts afterwards.
pub(super) fn failing(status: u16, times: u64) -> Answers {
    Answers {
        fail_first: times,
        failure: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        ..Answers::accepting()
    }
}
