//! `postrider demo`: shows the main job in one process and leaves nothing behind.
//!
//! Every step waits for an observed result, never for a fixed time. A step without its result ends
//! the demo with an error.

mod narrator;
mod shop;

use crate::failure::Result;
use crate::globals::Globals;
use crate::receiver::Answers;
use anyhow::{Context, anyhow};
use clap::Args;
use narrator::Narrator;
use postrider_core::{KeyRing, NewEvent, RetrySchedule, Span, SystemMonotonicClock};
use postrider_store::{DatabaseSettings, HookChange, HookReport, Store};
use postrider_worker::{
    DatabaseClock, Drained, HookDefaults, Metrics, Shutdown, Worker, WorkerParts, WorkerSettings,
};
use shop::{Shop, failing};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::{JoinHandle, JoinSet};

/// A step that takes longer has failed.
const STEP_MAX: Duration = Duration::from_secs(15);

/// How often the database is polled for the result of a step.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// The wait between attempts in the demo.
const RETRY: Span = Span::secs(1);

/// A hook is disabled in the demo after this many failures in a row over this time.
const DISABLE_AFTER_FAILURES: u32 = 3;
const DISABLE_AFTER: Span = Span::millis(1_500);

/// Watch the main job at work for half a minute; nothing is left behind.
///
/// Runs in one process, with a SQLite database in a temporary folder and its own receivers: events
/// arrive signed; one receiver fails and recovers; another keeps failing, its hook is disabled, then
/// enabled again, and catches up. Reads no configuration.
#[derive(Debug, Args)]
pub struct Demo {}

impl Demo {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let narrator = Narrator(globals.output());
        let setup = DemoSetup::start(narrator).await?;
        let outcome = tokio::select! {
            outcome = setup.play() => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow!("stopped before the end")),
        };
        setup.stop().await;
        outcome?;
        narrator.end()
    }
}

/// The running parts of the demo.
struct DemoSetup {
    narrator: Narrator,
    folder: TempDir,
    store: Arc<dyn Store>,
    shops: [Shop; 3],
    shutdown: Shutdown,
    worker: JoinHandle<Drained>,
    servers: JoinSet<()>,
}

impl DemoSetup {
    async fn start(narrator: Narrator) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("postrider-demo-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let database = DatabaseSettings {
            url: format!("sqlite://{}", folder.path().join("demo.db").display()),
        };
        let keys = KeyRing::new([KeyRing::generate_key().as_str()])?;
        let store = postrider_store::open(&database, keys).await?;
        store.migrate(None, store.now().await?).await?;
        let mut servers = JoinSet::new();
        let shops = [
            Shop::open("bakery", Answers::accepting(), &*store, &mut servers).await?,
            Shop::open("florist", failing(503, 2), &*store, &mut servers).await?,
            Shop::open("grocer", failing(500, u64::MAX), &*store, &mut servers).await?,
        ];
        let shutdown = Shutdown::default();
        let worker = worker(store.clone()).await?;
        let stop = shutdown.clone();
        let worker = tokio::spawn(async move { worker.run(stop).await });
        Ok(Self {
            narrator,
            folder,
            store,
            shops,
            shutdown,
            worker,
            servers,
        })
    }

    /// Runs the steps.
    async fn play(&self) -> Result<()> {
        let [bakery, florist, grocer] = &self.shops;
        let narrator = self.narrator;
        narrator.plain(
            "Postrider delivers webhooks from an outbox table in your own database.\n\
             This demo runs in one process, on a SQLite database in a temporary folder.",
        )?;
        narrator.step("Three receivers, and a hook for each")?;
        narrator.detail(format!("bakery   {}  accepts everything", bakery.url))?;
        narrator.detail(format!(
            "florist  {}  will fail twice, then recover",
            florist.url
        ))?;
        narrator.detail(format!("grocer   {}  is broken", grocer.url))?;
        narrator.detail(
            "Each hook has its own secret; the receivers verify every signature with it.",
        )?;

        narrator.step("Your application inserts an event, in its own transaction")?;
        narrator.detail("INSERT INTO postrider_outbox (event_type, payload) VALUES ('order.paid', '{\"order\":1}')")?;
        self.send(1..=1).await?;
        self.until("the bakery has its order", || {
            bakery.arrived.counts() == (1, 1)
        })
        .await?;
        narrator.done("The bakery has received it: signed and verified, at the first attempt.")?;

        narrator.step("A receiver fails and recovers")?;
        narrator
            .detail("The florist answers 503. Its delivery is retried, in this demo after 1 s.")?;
        self.until("the florist has its order", || {
            florist.arrived.counts() == (3, 1)
        })
        .await?;
        self.until_hook(florist, "is healthy", |hook| hook.fail_count == 0)
            .await?;
        if !florist.arrived.is_one_message() {
            return Err(anyhow!(
                "the florist's three requests were not the same message"
            ));
        }
        narrator.done("The florist accepted it at the third attempt, with the same webhook-id and body. Its fail count is 0 again.")?;

        narrator.step("A receiver keeps failing, and its hook is disabled")?;
        narrator.detail(
            "The grocer always answers 500. By default a hook is disabled after 20 failures",
        )?;
        narrator.detail("in a row over 24 h; in this demo after 3 over 1.5 s.")?;
        let disabled = self
            .until_hook(grocer, "is disabled", |hook| hook.status == "disabled")
            .await?;
        narrator.done(format!(
            "The grocer's hook is disabled: {} failures in a row, the last one: {}.",
            disabled.fail_count,
            disabled.last_error.as_deref().unwrap_or("unknown")
        ))?;

        narrator.step("Four more orders come in")?;
        self.send(2..=5).await?;
        self.until("the healthy receivers have them", || {
            bakery.arrived.counts().1 == 5 && florist.arrived.counts().1 == 5
        })
        .await?;
        narrator.done(
            "The bakery and the florist have received them at once: a broken receiver slows no other down.",
        )?;
        self.until_hook(grocer, "holds five deliveries", |hook| hook.held == 5)
            .await?;
        narrator.done("The grocer's 5 deliveries are held. Nothing is lost.")?;

        narrator.step("The grocer is repaired and its hook enabled: postrider hook enable ID")?;
        grocer.receiver.answer_with(Answers::accepting());
        let now = self.store.now().await?;
        self.store
            .change_hook(grocer.hook, HookChange::Enable, "demo", now)
            .await?;
        self.until("the grocer has caught up", || {
            grocer.arrived.counts().1 == 5
        })
        .await?;
        self.until_hook(grocer, "holds nothing", |hook| {
            hook.held == 0 && hook.fail_count == 0
        })
        .await?;
        narrator.done("The grocer has caught up: all 5 orders, every signature verified.")
    }

    async fn send(&self, orders: std::ops::RangeInclusive<u32>) -> Result<()> {
        let event = |order| NewEvent::new("order.paid", &serde_json::json!({ "order": order }));
        let events = orders
            .map(event)
            .collect::<std::result::Result<Vec<_>, _>>()?;
        self.store.enqueue(&events).await?;
        Ok(())
    }

    /// Waits for a condition on the arrivals.
    async fn until(&self, what: &str, happened: impl Fn() -> bool) -> Result<()> {
        let waiting = async {
            loop {
                let changes = self
                    .shops
                    .each_ref()
                    .map(|shop| shop.arrived.changed.notified());
                if happened() {
                    return;
                }
                futures_util::future::select_all(changes.map(Box::pin)).await;
            }
        };
        let in_time = tokio::time::timeout(STEP_MAX, waiting).await;
        in_time.map_err(|_| too_late(what))
    }

    /// Waits for a condition on the stored hook, and returns it.
    async fn until_hook(
        &self,
        shop: &Shop,
        what: &str,
        happened: impl Fn(&HookReport) -> bool,
    ) -> Result<HookReport> {
        let waiting = async {
            loop {
                let hook = self.store.hook(shop.hook).await?;
                if happened(&hook) {
                    return anyhow::Ok(hook);
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(STEP_MAX, waiting).await;
        in_time.map_err(|_| too_late(&format!("the hook of the {} {what}", shop.name)))?
    }

    /// Stops everything and removes the folder.
    async fn stop(mut self) {
        self.shutdown.drain.cancel();
        self.shutdown.cut.cancel();
        // The worker was asked to stop; its result no longer matters.
        let _ = self.worker.await;
        self.servers.shutdown().await;
        self.store.close().await;
        if let Err(error) = self.folder.close() {
            crate::output::notice(format_args!(
                "The temporary folder could not be removed: {error}"
            ));
        }
    }
}

fn too_late(what: &str) -> anyhow::Error {
    anyhow!(
        "the demo waited {} s in vain until {what}; POSTRIDER_LOG=debug postrider demo shows \
         more",
        STEP_MAX.as_secs()
    )
}

async fn worker(store: Arc<dyn Store>) -> Result<Worker> {
    let settings = WorkerSettings {
        concurrency: 16,
        allow_addresses: vec!["127.0.0.0/8".parse()?],
        ..WorkerSettings::default()
    };
    let hooks = HookDefaults {
        retry_schedule: RetrySchedule::new(vec![RETRY; 9]),
        disable_after_failures: DISABLE_AFTER_FAILURES,
        disable_after: DISABLE_AFTER,
        ..HookDefaults::default()
    };
    Worker::new(WorkerParts {
        clock: DatabaseClock::start(store.clone()).await?,
        store,
        monotonic: Arc::new(SystemMonotonicClock),
        settings,
        hooks,
        keep_events: Duration::from_secs(24 * 3600),
        metrics: Arc::new(Metrics::new()),
        traces: None,
    })
    .context("the HTTP client cannot be set up")
}
