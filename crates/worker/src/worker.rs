//! A worker: dispatcher, senders and settler, started and stopped together.
//!
//! The first signal drains: the worker leases nothing more, releases what it has not started,
//! and finishes and records requests in flight. The second signal, or the deadline, aborts them.

mod polling;
mod senders;

use crate::address::AddressGuard;
use crate::admission::Admission;
use crate::client::Client;
use crate::clock::WorkerClock;
use crate::dispatch::{DispatchState, Dispatcher};
use crate::hints::Hints;
use crate::last_answers::LastAnswers;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::send::Sender;
use crate::settings::{HookDefaults, WorkerSettings};
use crate::settle::Settler;
use crate::traces::AttemptTraces;
use crate::tuning::{PollingTuning, Tuning};
use crate::watchdog::Progress;
use polling::{IdleWait, Polling};
use postrider_core::{MonotonicClock, WorkerId};
use postrider_store::{Result, Store};
use senders::{send_one, send_until_closed};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Finished attempts that may wait for the settler before senders wait for it.
const SENT_MAX: usize = 2_048;
/// How long recording may go on after a cut.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What a worker is made of.
pub struct WorkerParts {
    /// The database that holds the work.
    pub store: Arc<dyn Store>,
    /// Source of the current time.
    pub clock: Arc<dyn WorkerClock>,
    /// Source of the instants by which the worker decides what to start and what to do next.
    pub monotonic: Arc<dyn MonotonicClock>,
    /// The section `[worker]` of the configuration.
    pub settings: WorkerSettings,
    /// The section `[hooks]` of the configuration.
    pub hooks: HookDefaults,
    /// How long events are kept: nothing may be delivered later.
    pub keep_events: Duration,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Follows attempts in traces; `None` without tracing.
    pub traces: Option<Arc<dyn AttemptTraces>>,
}

/// Fans out, leases, sends and settles on one database until it is stopped.
pub struct Worker {
    dispatcher: Mutex<Dispatcher>,
    settler: Arc<Settler>,
    sender: Arc<Sender>,
    admission: Arc<Admission>,
    monotonic: Arc<dyn MonotonicClock>,
    settings: WorkerSettings,
    polling: PollingTuning,
    progress: Arc<Progress>,
}

/// Stops a worker.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Lease nothing more and finish what is in flight.
    pub drain: CancellationToken,
    /// Stop now; what is in flight is repeated by another worker.
    pub cut: CancellationToken,
}

/// What a worker did while it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Leases given back unused.
    pub released: usize,
    /// Requests that were cut off.
    pub cut: u32,
}

impl Worker {
    /// A worker that has not begun.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(parts: WorkerParts) -> std::io::Result<Self> {
        let WorkerParts {
            store,
            clock,
            monotonic,
            settings,
            hooks,
            keep_events,
            metrics,
            traces,
        } = parts;
        let defaults = Arc::new(hooks);
        let tuning = Tuning::default();
        let admission = Arc::new(Admission::new(
            settings.per_hook,
            settings.concurrency,
            defaults.clone(),
            tuning,
            monotonic.clone(),
        ));
        let hints = Arc::new(Hints::default());
        let progress = Arc::new(Progress::new(monotonic.clone()));
        metrics.worker_slots.set(i64::from(settings.concurrency));
        let guard = AddressGuard::new(&settings.allow_addresses);
        let client = Client::new(guard, Names::new(&settings.name_servers))?;
        let sender = Sender::new(
            client,
            clock.clone(),
            defaults.clone(),
            settings.request_timeout.get(),
            metrics.clone(),
            traces,
        );
        let settler = Arc::new(Settler {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            hints: hints.clone(),
            admission: admission.clone(),
            progress: progress.clone(),
            latest: Arc::new(LastAnswers::new(store.clone(), defaults.clone())),
        });
        let dispatcher = Dispatcher {
            batches: defaults.batches(),
            store,
            settler: settler.clone(),
            settings: settings.clone(),
            tuning: tuning.dispatch,
            defaults,
            keep_events,
            metrics,
            admission: admission.clone(),
            hints,
            prepared: sender.prepared_hooks(),
            worker: WorkerId::draw(clock.now()),
            clock,
            monotonic: monotonic.clone(),
            state: DispatchState::default(),
        };
        Ok(Self {
            dispatcher: Mutex::new(dispatcher),
            settler,
            sender: Arc::new(sender),
            admission,
            monotonic,
            settings,
            polling: tuning.polling,
            progress,
        })
    }

    /// For how long the worker has made no progress.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// A handle that wakes this worker for a new event, so that it need not wait for its next
    /// step.
    pub fn waker(&self) -> Waker {
        Waker(self.settler.hints.clone())
    }

    /// Works until told to stop; returns when everything is recorded or cut.
    pub async fn run(&self, shutdown: Shutdown) -> Drained {
        let (sent, to_settle) = mpsc::channel(SENT_MAX);
        let mut senders = JoinSet::new();
        for _ in 0..self.settings.concurrency {
            senders.spawn(send_until_closed(
                self.admission.clone(),
                self.sender.clone(),
                sent.clone(),
            ));
        }
        drop(sent);
        let admission = self.admission.clone();
        let adjusting = tokio::spawn(async move { admission.adjust_concurrency().await });
        let latest = self.settler.latest.clone();
        let recorded = CancellationToken::new();
        let stop = recorded.clone();
        let latest = tokio::spawn(async move { latest.keep_writing(stop).await });
        let settler = self.settler.clone();
        let mut settling = tokio::spawn(async move { settler.run(to_settle).await });

        tokio::select! {
            () = self.dispatch(&shutdown) => {}
            // Without a settler nothing is recorded, and every delivery is repeated: stop.
            Err(ended) = &mut settling => resume_unwind(ended.into_panic()),
        }
        adjusting.abort();
        let unstarted = self.admission.close();
        let mut drained = Drained {
            released: unstarted.len(),
            cut: 0,
        };
        let finish = async {
            self.settler.give_back(unstarted).await;
            self.dispatcher.lock().await.keep_gates_in_use().await;
            while senders.join_next().await.is_some() {}
        };
        if shutdown.cut.run_until_cancelled(finish).await.is_none() {
            drained.cut = self.admission.counts().1;
            senders.shutdown().await;
        }
        // What was sent must be recorded, unless the database does not answer even now.
        tokio::select! {
            _ = &mut settling => {}
            () = async { shutdown.cut.cancelled().await; tokio::time::sleep(LAST_WRITE).await } => {
                settling.abort();
                warn!("Some finished attempts could not be recorded in time; their deliveries are repeated");
            }
        }
        recorded.cancel();
        let leave = async {
            // An error here is a panic, which is logged already.
            let _ = latest.await;
            self.dispatcher.lock().await.leave_gates().await;
        };
        shutdown.cut.run_until_cancelled(leave).await;
        drained
    }

    /// One round of work, for tests: leases everything that is due and fits, attempts it, and
    /// settles it. Returns how many events were fanned out and deliveries leased.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tick(&self) -> Result<u32> {
        let mut dispatcher = self.dispatcher.lock().await;
        dispatcher.look_over_everything();
        let mut work = 0;
        loop {
            let (found, looked) = dispatcher.step().await;
            looked?;
            work += found.work;
            // A failure may have blocked other deliveries until it was recorded.
            while self.send_all().await > 0 {}
            if !found.more {
                return Ok(work);
            }
        }
    }

    async fn send_all(&self) -> usize {
        let mut sending = JoinSet::new();
        let mut sent = Vec::new();
        loop {
            while sending.len() < self.settings.concurrency as usize
                && let Some(leased) = self.admission.try_next()
            {
                let (admission, sender) = (self.admission.clone(), self.sender.clone());
                sending.spawn(async move { send_one(&admission, &sender, leased).await });
            }
            match sending.join_next().await {
                Some(Ok(result)) => sent.push(result),
                Some(Err(_)) => {}
                None => break,
            }
        }
        let count = sent.len();
        self.settler.settle(sent).await;
        self.settler.latest.write().await;
        count
    }

    /// Looks for work until told to drain. A step that has begun is finished: cut short, it could
    /// have leased deliveries that nothing here knows of.
    async fn dispatch(&self, shutdown: &Shutdown) {
        let drain = &shutdown.drain;
        let mut dispatcher = self.dispatcher.lock().await;
        let interval = self.settings.poll_interval.get();
        let mut polling = Polling::new(interval, self.polling, self.monotonic.instant());
        self.progress.begun();
        while !drain.is_cancelled() {
            self.progress.sign_of_life();
            let Some((found, looked)) = shutdown.cut.run_until_cancelled(dispatcher.step()).await
            else {
                break;
            };
            if looked.is_ok() {
                self.progress.looked(found.waits, found.work > 0);
            }
            let (is_low, now) = (self.admission.is_low(), self.monotonic.instant());
            match polling.after(found, looked.as_ref().err(), is_low, now) {
                IdleWait::None => {}
                IdleWait::UntilLow(wait) => {
                    let low = timeout(wait, self.admission.until_low());
                    drain.run_until_cancelled(low).await;
                }
                IdleWait::UntilHint(wait) => {
                    let woken = timeout(wait, self.settler.hints.woken());
                    drain.run_until_cancelled(woken).await;
                }
            }
        }
        self.progress.ended();
    }
}

/// Wakes a worker of the same process after an insert into the outbox.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Hints>);

impl Waker {
    /// Wakes the worker.
    pub fn wake(&self) {
        self.0.wake();
    }
}
