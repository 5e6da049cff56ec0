//! A worker: dispatcher, senders and settler, started and stopped together.
//!
//! The first signal drains: nothing more is leased, unstarted leases are given back at once,
//! what is in flight is finished and recorded. The second signal, or the deadline, cuts.

use crate::address::AddressGuard;
use crate::client::Client;
use crate::clock::WorkerClock;
use crate::dispatch::{Dispatcher, Found, Hints, State};
use crate::gate::Ended;
use crate::last_answers::LastAnswers;
use crate::metrics::Metrics;
use crate::pace;
use crate::ready::Ready;
use crate::send::{Sender, Sent};
use crate::settings::{HookDefaults, WorkerSettings};
use crate::settle::Settler;
use crate::traces::AttemptTraces;
use crate::watchdog::Progress;
use futures_util::FutureExt;
use postrider_core::{HookId, WorkerId};
use postrider_store::{HookRequest, Result, Store};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Finished attempts that may wait for the settler before senders wait for it.
const SENT_MAX: usize = 2_048;
/// How often a worker looks for work that has lately found some.
const POLL_BUSY: Duration = Duration::from_millis(4);
/// For how long it then counts as busy.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// The longest wait for the queue to run low before the outbox is looked at all the same.
const LOW_WAIT: Duration = Duration::from_millis(50);
const ERROR_WAIT_FIRST: Duration = Duration::from_millis(100);
const ERROR_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a worker is made of.
pub struct WorkerParts {
    /// Where the work is.
    pub store: Arc<dyn Store>,
    /// What it goes by.
    pub clock: Arc<dyn WorkerClock>,
    /// How it works.
    pub settings: WorkerSettings,
    /// What holds for hooks that do not say otherwise.
    pub hooks: HookDefaults,
    /// How long events are kept: nothing may be delivered later.
    pub keep_events: Duration,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Follows attempts in traces, where that is wanted.
    pub traces: Option<Arc<dyn AttemptTraces>>,
}

/// A worker.
pub struct Worker {
    dispatcher: Mutex<Dispatcher>,
    settler: Arc<Settler>,
    sender: Arc<Sender>,
    ready: Arc<Ready>,
    settings: WorkerSettings,
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
            settings,
            hooks,
            keep_events,
            metrics,
            traces,
        } = parts;
        let defaults = Arc::new(hooks);
        let ready = Arc::new(Ready::new(
            settings.per_hook,
            settings.concurrency,
            defaults.back_off_after,
        ));
        let hints = Arc::new(Hints::default());
        let progress = Arc::new(Progress::default());
        metrics.worker_slots.set(i64::from(settings.concurrency));
        let client = Client::new(AddressGuard::new(&settings.allow_addresses))?;
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
            ready: ready.clone(),
            progress: progress.clone(),
            latest: Arc::new(LastAnswers::new(store.clone())),
        });
        let dispatcher = Dispatcher {
            batches: defaults.batches(),
            store,
            settler: settler.clone(),
            settings: settings.clone(),
            defaults,
            keep_events,
            metrics,
            ready: ready.clone(),
            hints,
            worker: WorkerId::draw(clock.now()),
            clock,
            state: State::default(),
        };
        Ok(Self {
            dispatcher: Mutex::new(dispatcher),
            settler,
            sender: Arc::new(sender),
            ready,
            settings,
            progress,
        })
    }

    /// Whether the worker moves.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// A handle that tells this worker of a new event, so that it need not wait for its next
    /// look.
    pub fn waker(&self) -> Waker {
        Waker(self.settler.hints.clone())
    }

    /// Works until told to stop; returns when everything is recorded or cut.
    pub async fn run(&self, shutdown: Shutdown) -> Drained {
        let (sent, to_settle) = mpsc::channel(SENT_MAX);
        let mut senders = JoinSet::new();
        for _ in 0..self.settings.concurrency {
            senders.spawn(send_until_closed(
                self.ready.clone(),
                self.sender.clone(),
                sent.clone(),
            ));
        }
        drop(sent);
        let pace = tokio::spawn(pace::keep(self.ready.clone()));
        let latest = self.settler.latest.clone();
        let recorded = CancellationToken::new();
        let stop = recorded.clone();
        let latest = tokio::spawn(async move { latest.keep_writing(stop).await });
        let settler = self.settler.clone();
        let mut settling = tokio::spawn(async move { settler.run(to_settle).await });

        tokio::select! {
            () = self.dispatch(&shutdown) => {}
            // Nothing would be recorded any more: better no worker than one that only repeats.
            Err(ended) = &mut settling => resume_unwind(ended.into_panic()),
        }
        pace.abort();
        let unstarted = self.ready.close();
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
            drained.cut = self.ready.counts().1;
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
            // It only ends otherwise by a panic, which has been told.
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
            // What failed may have kept others waiting until it was recorded.
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
                && let Some(leased) = self.ready.try_next()
            {
                let (ready, sender) = (self.ready.clone(), self.sender.clone());
                sending.spawn(async move { send_one(&ready, &sender, leased).await });
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

    /// Looks for work until told to drain. A look that has begun is finished: cut short, it
    /// could have leased what nobody here knows of.
    async fn dispatch(&self, shutdown: &Shutdown) {
        let drain = &shutdown.drain;
        let mut dispatcher = self.dispatcher.lock().await;
        let mut last_work = Instant::now();
        let mut trouble = Trouble::default();
        while !drain.is_cancelled() {
            let Some((found, looked)) = shutdown.cut.run_until_cancelled(dispatcher.step()).await
            else {
                return;
            };
            if found.work > 0 {
                last_work = Instant::now();
            }
            let wait = match looked {
                Ok(()) => {
                    trouble.passed();
                    self.progress.looked(found.waits, found.work > 0);
                    self.idle(found, last_work)
                }
                // What can be done is done at full speed.
                Err(problem) => match (trouble.after(&problem), found.work) {
                    (wait, 0) => Idle::Sleep(wait),
                    _ => self.idle(found, last_work),
                },
            };
            match wait {
                Idle::No => {}
                Idle::UntilLow => {
                    let low = tokio::time::timeout(LOW_WAIT, self.ready.until_low());
                    drain.run_until_cancelled(low).await;
                }
                Idle::Sleep(wait) => {
                    let woken = tokio::time::timeout(wait, self.settler.hints.woken());
                    drain.run_until_cancelled(woken).await;
                }
            }
        }
    }

    fn idle(&self, found: Found, last_work: Instant) -> Idle {
        if found.more {
            match self.ready.is_low() {
                true => Idle::No,
                false => Idle::UntilLow,
            }
        } else if found.work > 0 {
            Idle::Sleep(Duration::from_millis(1))
        } else if last_work.elapsed() < BUSY_FOR {
            Idle::Sleep(POLL_BUSY.min(self.settings.poll_interval.get()))
        } else {
            Idle::Sleep(self.settings.poll_interval.get())
        }
    }
}

/// Trouble with the database: told once when it begins and once when it is over.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    latest: Option<Instant>,
    wait: Duration,
}

impl Trouble {
    /// A look failed: how long to wait before the next.
    fn after(&mut self, problem: &postrider_store::Error) -> Duration {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            self.wait = ERROR_WAIT_FIRST;
            warn!("Could not look for work, trying again until it works: {problem}");
        } else {
            self.wait = (self.wait * 2).min(ERROR_WAIT_MAX);
        }
        self.latest = Some(Instant::now());
        self.wait
    }

    /// A look succeeded. Not every look asks everything of the database, so trouble is over
    /// only when nothing has failed for a while.
    fn passed(&mut self) {
        if let (Some(since), Some(latest)) = (self.since, self.latest)
            && latest.elapsed() > ERROR_WAIT_MAX
        {
            *self = Self::default();
            info!(
                "The database answers again, after {} s",
                since.elapsed().as_secs()
            );
        }
    }
}

/// How long recording may go on after a cut.
const LAST_WRITE: Duration = Duration::from_secs(2);

enum Idle {
    No,
    UntilLow,
    Sleep(Duration),
}

/// Tells a worker of the same process that something was inserted into the outbox.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Hints>);

impl Waker {
    /// Wakes the worker.
    pub fn wake(&self) {
        self.0.wake();
    }
}

async fn send_until_closed(ready: Arc<Ready>, sender: Arc<Sender>, sent: mpsc::Sender<Sent>) {
    while let Some(leased) = ready.next().await {
        let delivery = leased.first().id;
        let sending = AssertUnwindSafe(send_one(&ready, &sender, leased));
        match sending.catch_unwind().await {
            Ok(result) => {
                if sent.send(result).await.is_err() {
                    return;
                }
            }
            // Its lease runs out, which is counted: the third time it counts as an attempt.
            Err(_) => error!(
                delivery.id = %delivery,
                "The attempt of delivery {delivery} panicked, which is a fault of Postrider; the \
                 delivery is tried again when its lease has run out"
            ),
        }
    }
}

async fn send_one(ready: &Ready, sender: &Sender, leased: HookRequest) -> Sent {
    let mut place = Place {
        ready,
        hook: leased.hook.id,
        ended: Ended::Unsent,
    };
    // It may have waited here while another worker took the hook over.
    if leased.hook.is_gated() && !ready.owns(leased.hook.id, sender.now()) {
        return Sent::GiveBack(leased);
    }
    let result = sender.send(leased).await;
    match &result {
        Sent::Settle(settlement) => place.ended = Ended::of(&settlement.attempt().outcome),
        Sent::CannotSend(leased) => ready.shut_out(&leased.hook),
        Sent::GiveBack(_) | Sent::NotTried(_) => {}
    }
    result
}

/// A place in flight; free again however the attempt ends, a panic included.
struct Place<'a> {
    ready: &'a Ready,
    hook: HookId,
    ended: Ended,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.ready.done(self.hook, self.ended);
    }
}
