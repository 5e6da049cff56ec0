//! Group commit of published events.
//!
//! One task receives events from all callers. Events that arrive during a commit go into the next
//! one, in a single call of the store, so that the cost of a commit is shared. An event never waits
//! for others to arrive.
//!
//! The hard rule: a caller gets success only after the commit that contains its event.

#[cfg(test)]
mod tests;

use crate::outage_log::Trouble;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use postrider_core::{EventId, NewEvent};
use postrider_store::{Error, Store};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Capacity of the queue of events; callers wait while it is full.
const WAITING_MAX: usize = 1_024;
/// Largest number of events in one commit.
const BATCH_EVENTS: usize = 1_000;
/// Largest total payload of one commit, in bytes (a single event may exceed it).
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The parts of a publisher.
pub(crate) struct PublisherParts {
    pub(crate) store: Arc<dyn Store>,
    /// Concurrent commits, at least 1: two keep a server busy while the first waits for the disk;
    /// more make batches small.
    pub(crate) commits: usize,
    /// Called after each commit.
    pub(crate) published: Arc<dyn Fn() + Send + Sync>,
    pub(crate) trouble: Arc<Trouble>,
    /// Ends the publisher; events received before are still committed.
    pub(crate) closed: CancellationToken,
}

/// The callers' side of the publisher.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(mpsc::Sender<Job>);

/// Why an event was not published.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The store failed. After [`Error::Unavailable`] the event may still have been recorded, if
    /// only the database's answer was lost.
    #[error(transparent)]
    Store(Arc<Error>),
    /// The publisher has ended and did not record the event.
    #[error("the process is ending")]
    Closed,
    /// The commit ended without an answer: a fault of Postrider.
    #[error("the commit gave no answer")]
    Lost,
}

#[derive(Debug)]
struct Job {
    event: NewEvent,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<EventId, PublishError>>;
type Answered = oneshot::Receiver<Result<EventId, PublishError>>;

impl Publisher {
    /// Creates a publisher. The returned future must run for it to work, and ends after `closed`.
    pub(crate) fn start(
        parts: PublisherParts,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, jobs) = mpsc::channel(WAITING_MAX);
        let gathering = Gathering {
            jobs,
            next: None,
            parts: Arc::new(parts),
        };
        (Self(sender), gathering.run())
    }

    /// Publishes an event and returns its id after the durable commit. If the future is dropped
    /// before, the event may or may not be published.
    ///
    /// # Errors
    /// When the store fails or refuses the event, or the publisher has ended.
    pub(crate) async fn publish(&self, event: NewEvent) -> Result<EventId, PublishError> {
        let answered = self.hand_in(event).await?;
        answered.await.map_err(|_| PublishError::Lost)?
    }

    async fn hand_in(&self, event: NewEvent) -> Result<Answered, PublishError> {
        let (answer, answered) = oneshot::channel();
        match self.0.send(Job { event, answer }).await {
            Ok(()) => Ok(answered),
            Err(_) => Err(PublishError::Closed),
        }
    }
}

/// The task's side of the publisher.
struct Gathering {
    jobs: mpsc::Receiver<Job>,
    /// An event that did not fit into the previous batch.
    next: Option<Job>,
    parts: Arc<PublisherParts>,
}

impl Gathering {
    async fn run(mut self) {
        let mut commits = FuturesUnordered::new();
        let closed = self.parts.closed.clone();
        loop {
            tokio::select! {
                Some(ended) = commits.next() => {
                    if let Some(error) = ended {
                        self.turn_away(&error);
                    }
                }
                first = self.first(), if commits.len() < self.parts.commits.max(1) => {
                    let Some(first) = first else { break };
                    let commit = commit(self.gather(first), self.parts.clone());
                    commits.push(guarded(commit));
                }
                () = closed.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
            }
        }
        while commits.next().await.is_some() {}
    }

    async fn first(&mut self) -> Option<Job> {
        match self.next.take() {
            Some(job) => Some(job),
            None => self.jobs.recv().await,
        }
    }

    /// The first event and those queued after it, up to the limits of one commit.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.bytes();
        let mut batch = Vec::with_capacity(self.jobs.len() + 1);
        batch.push(first);
        while batch.len() < BATCH_EVENTS
            && let Ok(job) = self.jobs.try_recv()
        {
            bytes += job.bytes();
            if bytes > BATCH_BYTES {
                self.next = Some(job);
                break;
            }
            batch.push(job);
        }
        batch
    }

    /// Fails all queued events after the database did not answer: otherwise each batch would wait
    /// for its own timeout.
    fn turn_away(&mut self, error: &Arc<Error>) {
        while let Some(job) = self.next.take().or_else(|| self.jobs.try_recv().ok()) {
            tell(job.answer, Err(PublishError::Store(error.clone())));
        }
    }
}

impl Job {
    fn bytes(&self) -> usize {
        self.event.payload.get().len()
    }
}

/// Commits a batch and answers each caller. A refused batch is halved repeatedly, until the refused
/// events are isolated. Returns the error when the database did not answer.
async fn commit(batch: Vec<Job>, parts: Arc<PublisherParts>) -> Option<Arc<Error>> {
    let (events, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|job| (job.event, job.answer)).unzip();
    let mut answers = answers.into_iter();
    // A stack of the parts still to commit.
    let mut to_do = vec![events.as_slice()];
    while let Some(part) = to_do.pop() {
        match parts.store.enqueue(part).await {
            Ok(ids) => {
                parts.trouble.passed();
                (parts.published)();
                let mut ids = ids.into_iter();
                for answer in answers.by_ref().take(part.len()) {
                    // Without an id the sender is dropped: the caller gets `PublishError::Lost`.
                    if let Some(id) = ids.next() {
                        tell(answer, Ok(id));
                    }
                }
            }
            Err(error) if is_of_the_data(&error) && part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                to_do.extend([second, first]);
            }
            Err(error) => {
                if !is_of_the_data(&error) {
                    parts.trouble.met(&error);
                }
                let no_answer = error.is_no_answer();
                let error = Arc::new(error);
                let concerned = match no_answer {
                    true => usize::MAX,
                    false => part.len(),
                };
                for answer in answers.by_ref().take(concerned) {
                    tell(answer, Err(PublishError::Store(error.clone())));
                }
                if no_answer {
                    return Some(error);
                }
            }
        }
    }
    None
}

/// Catches a panic of `commit`, so that only the callers of its batch lose their answer.
async fn guarded(commit: impl Future<Output = Option<Arc<Error>>>) -> Option<Arc<Error>> {
    match AssertUnwindSafe(commit).catch_unwind().await {
        Ok(ended) => ended,
        Err(_) => {
            error!("Committing published events panicked, which is a fault of Postrider");
            None
        }
    }
}

/// Whether the error is caused by the events, so that other events may succeed.
fn is_of_the_data(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::Event(_))
}

fn tell(answer: Answer, result: Result<EventId, PublishError>) {
    // The caller may have gone away.
    let _ = answer.send(result);
}
