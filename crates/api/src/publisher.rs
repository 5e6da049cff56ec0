//! Many publish at the same time; few commits are made.
//!
//! One task takes the events that callers hand in. Whatever has gathered while a commit was in
//! progress goes into the next one, in one call of the store, so that a commit costs each event
//! the less the more there are. Nobody waits for others to come.
//!
//! The hard rule: a caller is told of success only after the commit that holds its event.

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

/// Events that may wait for their commit before callers wait to hand theirs in.
const WAITING_MAX: usize = 1_024;
/// Events of one commit at most.
const BATCH_EVENTS: usize = 1_000;
/// Bytes of payload of one commit at most (a single event may exceed it).
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What a publisher is made of.
pub(crate) struct PublisherParts {
    /// Where events go.
    pub(crate) store: Arc<dyn Store>,
    /// Commits in progress at a time, at least 1: two keep a server busy while the first waits
    /// for the disk; more make batches small.
    pub(crate) commits: usize,
    /// Called after each commit.
    pub(crate) published: Arc<dyn Fn() + Send + Sync>,
    /// What is told of the database.
    pub(crate) trouble: Arc<Trouble>,
    /// Ends it: what was handed in by then is still committed.
    pub(crate) closed: CancellationToken,
}

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(mpsc::Sender<Job>);

/// Why an event was not published.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The store failed. After [`Error::Unavailable`] the event may have been recorded all the
    /// same: the answer of the database may be what was lost.
    #[error(transparent)]
    Store(Arc<Error>),
    /// The publisher has ended; the event was not recorded.
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
    /// Starts a publisher. The future does its work and ends after `closed`.
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

    /// Publishes an event: its id, when it is committed durably. Dropped while it waits, it
    /// publishes all the same, or not.
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

/// The task's side.
struct Gathering {
    jobs: mpsc::Receiver<Job>,
    /// An event that did not fit into the batch before.
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

    /// The first event and those that wait behind it, as far as one commit goes.
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

    /// The database does not answer: what waits behind would wait in vain, one batch after
    /// another.
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

/// Commits a batch and tells each caller. When the database refuses it, its halves are
/// committed one after the other, and so on, until what is refused stands alone. Returns the
/// error when the database did not answer.
async fn commit(batch: Vec<Job>, parts: Arc<PublisherParts>) -> Option<Arc<Error>> {
    let (events, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|job| (job.event, job.answer)).unzip();
    let mut answers = answers.into_iter();
    // The parts still to be committed, the next one last.
    let mut to_do = vec![events.as_slice()];
    while let Some(part) = to_do.pop() {
        match parts.store.enqueue(part).await {
            Ok(ids) => {
                parts.trouble.passed();
                (parts.published)();
                let mut ids = ids.into_iter();
                for answer in answers.by_ref().take(part.len()) {
                    // Without an id the answer is dropped, which tells its caller enough.
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

/// The same, so that a panic costs the callers of one batch their answer and nobody else's.
async fn guarded(commit: impl Future<Output = Option<Arc<Error>>>) -> Option<Arc<Error>> {
    match AssertUnwindSafe(commit).catch_unwind().await {
        Ok(ended) => ended,
        Err(_) => {
            error!("Committing published events panicked, which is a fault of Postrider");
            None
        }
    }
}

/// Whether it is the events' fault, so that another batch would fare better.
fn is_of_the_data(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::Event(_))
}

fn tell(answer: Answer, result: Result<EventId, PublishError>) {
    // Who has gone away needs no answer.
    let _ = answer.send(result);
}
