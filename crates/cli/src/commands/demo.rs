//! `postrider demo`: shows the main job in one process and leaves nothing behind.
//!
//! Every step waits for an observed result, never for a fixed time. A step without its result ends
//! the demo with an error.

use crate::clock::wall_clock;
use crate::failure::Result;
use crate::globals::Globals;
use crate::output::Output;
use crate::receiver::{Answers, Arrival, Receiver};
use anyhow::{Context, anyhow};
use axum::http::StatusCode;
use clap::Args;
use postrider_core::{
    EventPattern, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook, RetrySchedule,
    SigningSecret, Span,
};
use postrider_store::{DatabaseSettings, HookChange, HookReport, Store};
use postrider_worker::{
    DatabaseClock, Drained, HookDefaults, Metrics, Shutdown, Worker, WorkerParts, WorkerSettings,
};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
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

/// A receiver with a name, its hook, and its arrivals.
struct Shop {
    name: &'static str,
    url: String,
    hook: HookId,
    receiver: Receiver,
    arrived: Arc<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    arrivals: Mutex<Vec<Arrival>>,
    changed: Notify,
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
    fn is_one_message(&self) -> bool {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals
            .windows(2)
            .all(|two| two[0].id == two[1].id && two[0].body == two[1].body)
    }

    /// Number of requests, and of those that were verified and accepted.
    fn counts(&self) -> (usize, usize) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |a: &&Arrival| a.verified == Some(true) && a.status_answered == 200;
        (arrivals.len(), arrivals.iter().filter(good).count())
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
            shop("bakery", Answers::accepting(), store.as_ref(), &mut servers).await?,
            shop("florist", failing(503, 2), store.as_ref(), &mut servers).await?,
            shop(
                "grocer",
                failing(500, u64::MAX),
                store.as_ref(),
                &mut servers,
            )
            .await?,
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

fn failing(status: u16, times: u64) -> Answers {
    Answers {
        fail_first: times,
        failure: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        ..Answers::accepting()
    }
}

/// Starts a receiver and registers a hook for it.
async fn shop(
    name: &'static str,
    answers: Answers,
    store: &dyn Store,
    servers: &mut JoinSet<()>,
) -> Result<Shop> {
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
    Ok(Shop {
        name,
        url,
        hook,
        receiver,
        arrived,
    })
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
        settings,
        hooks,
        keep_events: Duration::from_secs(24 * 3600),
        metrics: Arc::new(Metrics::new()),
        traces: None,
    })
    .context("the HTTP client cannot be set up")
}

/// Prints the steps: as text, or as one JSON object a line.
#[derive(Clone, Copy)]
struct Narrator(Output);

#[derive(Serialize)]
struct DemoLine<'a> {
    kind: &'a str,
    text: &'a str,
}

impl Narrator {
    fn plain(self, text: impl AsRef<str>) -> Result<()> {
        self.say("plain", "", text.as_ref())
    }

    fn step(self, text: impl AsRef<str>) -> Result<()> {
        self.say("step", "\n", text.as_ref())
    }

    fn detail(self, text: impl AsRef<str>) -> Result<()> {
        self.say("detail", "  ", text.as_ref())
    }

    fn done(self, text: impl AsRef<str>) -> Result<()> {
        self.say("done", "  ✓ ", text.as_ref())
    }

    fn say(self, kind: &str, before: &str, text: &str) -> Result<()> {
        self.0
            .result(&DemoLine { kind, text }, || format!("{before}{text}"))
    }

    fn end(self) -> Result<()> {
        let me = std::env::args()
            .next()
            .unwrap_or_else(|| "postrider".into());
        self.step(
            "The demo is over and its temporary folder removed. Try it yourself, in this order:",
        )?;
        for (command, comment) in [
            (
                "hook add --url http://127.0.0.1:9000 --event 'order.*'",
                "prints a secret",
            ),
            (
                "listen --secret whsec_…",
                "with that secret, in a second terminal",
            ),
            ("serve", "in a third"),
            ("event send --type order.paid --payload '{\"order\":1}'", ""),
            ("delivery list", ""),
        ] {
            let allow = match command {
                "serve" => "POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8 ",
                _ => "",
            };
            let comment = match comment {
                "" => String::new(),
                text => format!("    # {text}"),
            };
            self.detail(format!("{allow}{me} {command}{comment}"))?;
        }
        Ok(())
    }
}
