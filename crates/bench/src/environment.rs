//! The environment of one measurement: a database of its own, with hooks, events and workers.
//!
//! Nothing outlives it: its processes are stopped by id, its database is dropped by name.

use crate::bench_database::BenchDatabase;
use crate::error::Result;
use crate::options::{Plan, Shape, event_type};
use crate::processes::{POLL_EVERY, ReceiverProcess, WorkerOptions, WorkerProcess};
use crate::progress::Progress;
use anyhow::bail;
use postrider_core::{
    EventPattern, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook, SigningSecret,
    monotonic_now,
};
use postrider_store::{DatabaseSettings, HookChange, Store};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Events in one transaction when a backlog is inserted before the workers start.
const INSERT_BATCH: u64 = 1_000;
/// How long a worker may take to record the last deliveries after they have arrived.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A measurement fails when no event is fanned out for this long.
const FAN_OUT_STALLED_AFTER: Duration = Duration::from_secs(30);

/// The benchmark was stopped by SIGINT or SIGTERM.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped by a signal")
    }
}

impl std::error::Error for Stopped {}

/// Runs `work` until it ends, a signal arrives, or the plan's time limit is reached.
pub async fn bounded<T>(plan: &Plan, work: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = plan.time_limit();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Stopped.into()),
        _ = terminate.recv() => Err(Stopped.into()),
        () = tokio::time::sleep(limit) => bail!(
            "the measurement did not end within {} s: use a smaller --events",
            limit.as_secs()
        ),
    }
}

/// A database with its keys, and the program that works on it.
pub struct Environment {
    /// The database, for what the store does not offer.
    pub database: BenchDatabase,
    /// A store on the database.
    pub store: Arc<dyn Store>,
    folder: TempDir,
    key: String,
    program: PathBuf,
    concurrency: Option<u32>,
}

impl Environment {
    /// Runs `measure` in a new environment, and drops its database also after an error or Ctrl-C.
    pub async fn run<T>(plan: &Plan, measure: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let folder = TempDir::with_prefix("postrider-bench-")?;
        let database = BenchDatabase::create(&plan.url, folder.path()).await?;
        let key = KeyRing::generate_key();
        let store = match open(&database, &key).await {
            Ok(store) => store,
            Err(error) => {
                database.drop().await?;
                return Err(error);
            }
        };
        let env = Self {
            database,
            store,
            folder,
            key,
            program: plan.program.clone(),
            concurrency: plan.concurrency,
        };
        let measured = bounded(plan, measure(&env)).await;
        env.store.close().await;
        env.database.drop().await?;
        measured
    }

    /// Registers the hooks of a shape, at receiver paths that answer 200.
    pub async fn hooks(&self, shape: Shape, receiver: SocketAddr) -> Result<Vec<HookId>> {
        let mut hooks = Vec::new();
        for number in 0..shape.hooks {
            let url = format!("http://{receiver}/ok/{number}");
            let group = event_type(number % shape.groups());
            hooks.push(self.hook(url, &[group]).await?);
        }
        Ok(hooks)
    }

    /// Registers a hook for events of these types.
    pub async fn hook(&self, url: String, types: &[String]) -> Result<HookId> {
        self.hook_of("default", url, types, HookSettings::default())
            .await
    }

    /// Registers a hook of an account, with settings of its own.
    pub async fn hook_of(
        &self,
        account: &str,
        url: String,
        types: &[String],
        settings: HookSettings,
    ) -> Result<HookId> {
        let hook = NewHook {
            alias: None,
            account: account.into(),
            url,
            events: types.iter().cloned().map(EventPattern::Exactly).collect(),
            profile: "standard".into(),
            settings,
            credentials: HookCredentials::signed_with(SigningSecret::generate()),
            at_most: None,
        };
        let now = self.store.now().await?;
        Ok(self.store.create_hook(hook, "bench", now).await?.id)
    }

    /// Changes a hook.
    pub async fn change(&self, hook: HookId, change: HookChange) -> Result<()> {
        let now = self.store.now().await?;
        self.store.change_hook(hook, change, "bench", now).await?;
        Ok(())
    }

    /// Inserts `count` events, the given ones in turn, over two connections in transactions of
    /// [`INSERT_BATCH`].
    pub async fn insert(&self, count: u64, kinds: &[NewEvent]) -> Result<()> {
        let kinds = Mutex::new(kinds.iter().cycle());
        let progress = Mutex::new((0, Progress::new("inserted", count)));
        let part = async |count: u64| -> Result<()> {
            let mut left = count;
            while left > 0 {
                let size = INSERT_BATCH.min(left);
                let batch: Vec<_> = {
                    let mut kinds = kinds.lock().unwrap_or_else(PoisonError::into_inner);
                    kinds.by_ref().take(size as usize).cloned().collect()
                };
                self.store.enqueue(&batch).await?;
                left -= size;
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                let (done, progress) = &mut *progress;
                *done += size;
                progress.at(*done);
            }
            Ok(())
        };
        tokio::try_join!(part(count / 2), part(count - count / 2))?;
        Ok(())
    }

    /// Starts a worker process and waits until it is ready.
    pub async fn worker(&self) -> Result<WorkerProcess> {
        self.serve("worker", None).await
    }

    /// The same with another `retention.events`.
    pub async fn worker_that_keeps(&self, events: &str) -> Result<WorkerProcess> {
        self.serve("worker", Some(events)).await
    }

    /// Starts a process in all roles: it accepts events through its API and delivers them.
    pub async fn server(&self) -> Result<WorkerProcess> {
        self.serve("all", None).await
    }

    async fn serve(&self, role: &str, keep_events: Option<&str>) -> Result<WorkerProcess> {
        WorkerProcess::start(&WorkerOptions {
            program: &self.program,
            role,
            database: self.database.url(),
            key: &self.key,
            folder: self.folder.path(),
            concurrency: self.concurrency,
            keep_events,
        })
        .await
    }

    /// Waits until the worker has fanned out `events` events since its start.
    pub async fn fanned_out(&self, worker: &WorkerProcess, events: u64) -> Result<()> {
        let mut progress = Progress::new("fanned out", events);
        let (mut last, mut moved) = (0, monotonic_now());
        loop {
            let scrape = worker.scrape().await?;
            let done = scrape.value("postrider_events_fanned_out_total") as u64;
            progress.at(done);
            if done >= events {
                return Ok(());
            }
            if done > last {
                (last, moved) = (done, monotonic_now());
            }
            if monotonic_now() - moved > FAN_OUT_STALLED_AFTER {
                bail!(
                    "only {done} of {events} events were fanned out, and none in the last {} s",
                    FAN_OUT_STALLED_AFTER.as_secs()
                );
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Waits until every delivery is recorded, stops the workers and returns how many deliveries
    /// have arrived more than once. No delivery is leased by then, so none arrives later.
    pub async fn finish(
        &self,
        receiver: &mut ReceiverProcess,
        workers: Vec<WorkerProcess>,
    ) -> Result<u64> {
        let arrived = monotonic_now();
        while !self.store.slots().await?.is_empty() {
            if monotonic_now() - arrived > SETTLED_WITHIN {
                bail!(
                    "all deliveries arrived, but not all were recorded within {} s",
                    SETTLED_WITHIN.as_secs()
                );
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        end(receiver, workers).await
    }
}

/// Stops the workers and returns how many deliveries have arrived more than once.
pub async fn end(receiver: &mut ReceiverProcess, workers: Vec<WorkerProcess>) -> Result<u64> {
    for worker in workers {
        worker.stop().await?;
    }
    let seen = receiver.seen().await?;
    Ok(seen.accepted - seen.unique)
}

async fn open(database: &BenchDatabase, key: &str) -> Result<Arc<dyn Store>> {
    let settings = DatabaseSettings {
        url: database.url().to_owned(),
    };
    let store = postrider_store::open(&settings, KeyRing::new([key])?).await?;
    store.migrate(None, store.now().await?).await?;
    Ok(store)
}
