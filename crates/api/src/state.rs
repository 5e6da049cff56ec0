//! What the handlers of the native API share. No router is known here.

use crate::keys::Keys;
use crate::limits::Limits;
use crate::outage_log::Trouble;
use crate::problem::Problem;
use crate::publisher::Publisher;
use crate::test_places::TestPlaces;
use crate::test_sender::TestSender;
use bytes::Bytes;
use postrider_core::{Clock, Span};
use postrider_store::{Error, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How often rate limits that have recovered fully are dropped from memory.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The state of every handler.
pub(crate) struct ApiState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep_events: Span,
    /// Memory left for request bodies, in KiB.
    pub(crate) capacity: Arc<Semaphore>,
    pub(crate) limits: Limits,
    pub(crate) tests: Arc<dyn TestSender>,
    pub(crate) test_places: Arc<TestPlaces>,
    /// One permit for each commit of events beside the publisher.
    pub(crate) commit_turns: Semaphore,
    pub(crate) published: Arc<dyn Fn() + Send + Sync>,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) pages: Pages,
}

/// The OpenAPI document and the page that shows it, as they are answered.
pub(crate) struct Pages {
    pub(crate) document: Bytes,
    pub(crate) page: Bytes,
}

impl ApiState {
    /// The result of a call of the store, with its error as a problem. An outage of the database
    /// is logged once when it begins and once when it ends.
    pub(crate) fn told<T>(&self, result: Result<T, Error>) -> Result<T, Problem> {
        match &result {
            Err(error @ (Error::Unavailable(_) | Error::Denied(_) | Error::Schema(_))) => {
                self.trouble.met(error);
            }
            _ => self.trouble.passed(),
        }
        result.map_err(Problem::from)
    }

    /// Drops rate limits that have recovered fully from memory, until `closed`.
    pub(crate) async fn forget(&self, closed: CancellationToken) {
        while closed
            .run_until_cancelled(tokio::time::sleep(FORGET_EVERY))
            .await
            .is_some()
        {
            self.limits.forget(self.clock.now());
        }
    }
}
