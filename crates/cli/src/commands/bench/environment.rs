//! What a measurement runs in: a database of its own, with hooks, events and workers.
//!
//! Everything is ended when the lab is: processes by their ids, the database by its name.

use super::options::{Shape, Stage, event_type};
use super::processes::{LOOK_EVERY, ReceiverProcess, WorkerOptions, WorkerProcess};
use super::progress::Progress;
use crate::failure::Result;
use anyhow::bail;
use postrider_core::{
    EventPattern, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook, SigningSecret,
    monotonic_now,
};
use postrider_store::{DatabaseSettings, HookChange, ScratchDatabase, Store};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Events inserted in one transaction, where they are not inserted while workers deliver.
const INSERT_BATCH: u64 = 1_000;
/// How long a worker may take to record the last of what has arrived …
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// … and to fan out a thousand events.
const FAN_OUT_STALLED_AFTER: Duration = Duration::from_secs(30);

/// The benchmark was told to stop.
#[derive(Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped by a signal")
    }
}

impl std::error::Error for Stopped {}

/// Does something until it is done, a signal asks to stop, or the stage's time is over.
pub async fn bounded<T>(stage: &Stage, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = stage.time_limit();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = doing => done,
        _ = interrupt.recv() => Err(Stopped.into()),
        _ = terminate.recv() => Err(Stopped.into()),
        () = tokio::time::sleep(limit) => bail!(
            "not everything was done in {} s: measure less with --events",
            limit.as_secs()
        ),
    }
}

/// A database of its own, with its keys.
pub struct Lab {
    /// The database itself.
    pub scratch: ScratchDatabase,
    folder: TempDir,
    key: String,
    concurrency: Option<u32>,
    /// The store on it.
    pub store: Arc<dyn Store>,
}

impl Lab {
    /// Measures in a database of its own beside the one that the stage names, and drops it
    /// whatever happens, Ctrl-C included.
    pub async fn run<T>(stage: &Stage, measure: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let folder = TempDir::with_prefix("postrider-bench-")?;
        let scratch = ScratchDatabase::create(&stage.url, folder.path()).await?;
        let key = KeyRing::generate_key();
        let store = match open(&scratch, &key).await {
            Ok(store) => store,
            Err(error) => {
                scratch.drop().await?;
                return Err(error);
            }
        };
        let lab = Self {
            scratch,
            folder,
            key,
            concurrency: stage.concurrency,
            store,
        };
        let measured = bounded(stage, measure(&lab)).await;
        lab.store.close().await;
        lab.scratch.drop().await?;
        measured
    }

    /// Registers the hooks of a shape, at paths that are answered 200.
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
        let hook = NewHook {
            alias: None,
            account: "default".into(),
            url,
            events: types.iter().cloned().map(EventPattern::Exactly).collect(),
            profile: "standard".into(),
            settings: HookSettings::default(),
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

    /// Inserts events of these kinds in turn, in transactions of up to a thousand, two at a
    /// time.
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

    /// Starts a worker process and waits until it says that it is ready.
    pub async fn worker(&self) -> Result<WorkerProcess> {
        self.serve("worker", None).await
    }

    /// The same, and events are kept for so long.
    pub async fn worker_that_keeps(&self, events: &str) -> Result<WorkerProcess> {
        self.serve("worker", Some(events)).await
    }

    /// Starts a process in all roles, which takes events through its API and delivers them.
    pub async fn server(&self) -> Result<WorkerProcess> {
        self.serve("all", None).await
    }

    async fn serve(&self, role: &str, keep_events: Option<&str>) -> Result<WorkerProcess> {
        WorkerProcess::start(&WorkerOptions {
            role,
            database: self.scratch.url(),
            key: &self.key,
            folder: self.folder.path(),
            concurrency: self.concurrency,
            keep_events,
        })
        .await
    }

    /// Waits until the worker has fanned out this many events since its start.
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
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every delivery is recorded, ends the workers, and says how many deliveries
    /// had arrived more than once by then. Nothing is leased any more, so none comes later.
    pub async fn finish(
        &self,
        receiver: &mut ReceiverProcess,
        workers: Vec<WorkerProcess>,
    ) -> Result<u64> {
        let arrived = monotonic_now();
        while !self.store.slots().await?.is_empty() {
            if monotonic_now() - arrived > SETTLED_WITHIN {
                bail!(
                    "everything arrived, but not everything was recorded in the {} s after that",
                    SETTLED_WITHIN.as_secs()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        end(receiver, workers).await
    }
}

/// Ends the workers, and says how many deliveries had arrived more than once by then.
pub async fn end(receiver: &mut ReceiverProcess, workers: Vec<WorkerProcess>) -> Result<u64> {
    for worker in workers {
        worker.stop().await?;
    }
    let seen = receiver.seen().await?;
    Ok(seen.accepted - seen.unique)
}

async fn open(scratch: &ScratchDatabase, key: &str) -> Result<Arc<dyn Store>> {
    let settings = DatabaseSettings {
        url: scratch.url().to_owned(),
    };
    let store = postrider_store::open(&settings, KeyRing::new([key])?).await?;
    store.migrate(None, store.now().await?).await?;
    Ok(store)
}
