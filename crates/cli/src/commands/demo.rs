//! `postrider demo`: the main job in front of the reader, in one process and without traces.
//!
//! Every step waits for what it says to have happened, never for a length of time; a step that
//! does not happen ends the demo with an error.

use crate::cli::Globals;
use crate::clock::wall_clock;
use crate::failure::Result;
use crate::output::Output;
use crate::receiver::{Answers, Arrival, Receiver};
use anyhow::{Context, anyhow};
use axum::http::StatusCode;
use clap::Args;
use postrider_core::{
    EventPattern, HookCredentials, HookId, HookSettings, KeyRing, NewEvent, NewHook, RetrySchedule,
    SigningSecret, Span, SystemMonotonicClock,
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

/// A step that takes longer has gone wrong.
const STEP_MAX: Duration = Duration::from_secs(15);

/// How often the database is asked whether a step has happened.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The wait between attempts in the demo.
const RETRY: Span = Span::secs(1);

/// A hook that fails so often, for so long, is disabled in the demo.
const DISABLE_AFTER_FAILURES: u32 = 3;
const DISABLE_AFTER: Span = Span::millis(1_500);

/// See the main job at work, in half a minute and without traces.
///
/// Runs on a SQLite database in a temporary folder, with receivers of its own, all in this
/// process: events arrive signed, a receiver fails and recovers, another goes on failing and
/// its hook is disabled, is enabled again and catches up. Reads no configuration.
#[derive(Debug, Args)]
pub struct Demo {}

impl Demo {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let tell = Teller(globals.output());
        let stage = Stage::set(tell).await?;
        let outcome = tokio::select! {
            outcome = stage.play() => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow!("stopped before the end")),
        };
        stage.clear().await;
        outcome?;
        tell.end()
    }
}

/// A receiver with a name, its hook, and what it got.
struct Shop {
    name: &'static str,
    url: String,
    hook: HookId,
    receiver: Receiver,
    got: Arc<Got>,
}

#[derive(Default)]
struct Got {
    arrivals: Mutex<Vec<Arrival>>,
    changed: Notify,
}

impl Got {
    fn push(&self, arrival: Arrival) {
        self.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(arrival);
        self.changed.notify_waiters();
    }

    /// Whether every request carried the same id and the same body.
    fn is_one_message(&self) -> bool {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals
            .windows(2)
            .all(|two| two[0].id == two[1].id && two[0].body == two[1].body)
    }

    /// How many requests came, and how many of them were verified and accepted.
    fn counts(&self) -> (usize, usize) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |a: &&Arrival| a.verified == Some(true) && a.status_answered == 200;
        (arrivals.len(), arrivals.iter().filter(good).count())
    }
}

/// Everything the demo consists of.
struct Stage {
    tell: Teller,
    folder: TempDir,
    store: Arc<dyn Store>,
    shops: [Shop; 3],
    shutdown: Shutdown,
    worker: JoinHandle<Drained>,
    servers: JoinSet<()>,
}

impl Stage {
    async fn set(tell: Teller) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("postrider-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
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
            tell,
            folder,
            store,
            shops,
            shutdown,
            worker,
            servers,
        })
    }

    /// The story.
    async fn play(&self) -> Result<()> {
        let [bakery, florist, grocer] = &self.shops;
        let tell = self.tell;
        tell.plain(
            "Postrider delivers webhooks from an outbox table in your own database.\n\
             This demo runs in one process, on a SQLite database in a temporary folder.",
        )?;
        tell.step("Three receivers, and a hook for each")?;
        tell.detail(format!("bakery   {}  accepts everything", bakery.url))?;
        tell.detail(format!(
            "florist  {}  will fail twice, then recover",
            florist.url
        ))?;
        tell.detail(format!("grocer   {}  is broken", grocer.url))?;
        tell.detail("Each hook has its own secret; the receivers verify every signature with it.")?;

        tell.step("Your application inserts an event, in its own transaction")?;
        tell.detail("INSERT INTO postrider_outbox (event_type, payload) VALUES ('order.paid', '{\"order\":1}')")?;
        self.send(1..=1).await?;
        self.until("the bakery has its order", || bakery.got.counts() == (1, 1))
            .await?;
        tell.done("The bakery has it: signed, verified, at the first attempt.")?;

        tell.step("A receiver fails and recovers")?;
        tell.detail(
            "The florist answers 503. Its delivery waits and is tried again, here after 1 s.",
        )?;
        self.until("the florist has its order", || {
            florist.got.counts() == (3, 1)
        })
        .await?;
        self.until_hook(florist, "is healthy", |hook| hook.fail_count == 0)
            .await?;
        if !florist.got.is_one_message() {
            return Err(anyhow!(
                "the florist's three requests were not the same message"
            ));
        }
        tell.done("The florist took it at the third attempt, with the same webhook-id and body. Its fail count is back at 0.")?;

        tell.step("Another goes on failing, and its hook is disabled")?;
        tell.detail("The grocer answers 500 again and again. In earnest a hook is disabled after 20 failures")?;
        tell.detail("in a row over 24 h; here after 3 over 1.5 s.")?;
        let disabled = self
            .until_hook(grocer, "is disabled", |hook| hook.status == "disabled")
            .await?;
        tell.done(format!(
            "The grocer's hook is disabled: {} failures in a row, the last one: {}.",
            disabled.fail_count,
            disabled.last_error.as_deref().unwrap_or("unknown")
        ))?;

        tell.step("Four more orders come in")?;
        self.send(2..=5).await?;
        self.until("the healthy receivers have them", || {
            bakery.got.counts().1 == 5 && florist.got.counts().1 == 5
        })
        .await?;
        tell.done(
            "The bakery and the florist have them at once: one broken receiver slows nobody down.",
        )?;
        self.until_hook(grocer, "holds five deliveries", |hook| hook.held == 5)
            .await?;
        tell.done("The grocer's 5 deliveries are held. Nothing is lost.")?;

        tell.step("The grocer is mended and its hook enabled: postrider hook enable ID")?;
        grocer.receiver.answer_with(Answers::accepting());
        let now = self.store.now().await?;
        self.store
            .change_hook(grocer.hook, HookChange::Enable, "demo", now)
            .await?;
        self.until("the grocer has caught up", || grocer.got.counts().1 == 5)
            .await?;
        self.until_hook(grocer, "holds nothing", |hook| {
            hook.held == 0 && hook.fail_count == 0
        })
        .await?;
        tell.done("The grocer has caught up: all 5 orders, every signature verified.")
    }

    async fn send(&self, orders: std::ops::RangeInclusive<u32>) -> Result<()> {
        let event = |order| NewEvent::new("order.paid", &serde_json::json!({ "order": order }));
        let events = orders
            .map(event)
            .collect::<std::result::Result<Vec<_>, _>>()?;
        self.store.enqueue(&events).await?;
        Ok(())
    }

    /// Waits for something that shows in what the receivers got.
    async fn until(&self, what: &str, happened: impl Fn() -> bool) -> Result<()> {
        let waiting = async {
            loop {
                let changes = self
                    .shops
                    .each_ref()
                    .map(|shop| shop.got.changed.notified());
                if happened() {
                    return;
                }
                futures_util::future::select_all(changes.map(Box::pin)).await;
            }
        };
        let in_time = tokio::time::timeout(STEP_MAX, waiting).await;
        in_time.map_err(|_| too_late(what))
    }

    /// Waits for something that shows in the hook's row.
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
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(STEP_MAX, waiting).await;
        in_time.map_err(|_| too_late(&format!("the hook of the {} {what}", shop.name)))?
    }

    /// Stops everything and removes the folder.
    async fn clear(mut self) {
        self.shutdown.drain.cancel();
        self.shutdown.cut.cancel();
        // Its end was asked for; how it ended changes nothing any more.
        let _ = self.worker.await;
        self.servers.shutdown().await;
        self.store.close().await;
        if let Err(error) = self.folder.close() {
            crate::output::notice(format_args!("The temporary folder remains: {error}"));
        }
    }
}

fn too_late(what: &str) -> anyhow::Error {
    anyhow!(
        "the demo waited {} s for this and it did not happen: {what}; POSTRIDER_LOG=debug \
         postrider demo shows more",
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

/// Opens a receiver and registers a hook for it.
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
    let got = Arc::new(Got::default());
    let receiver = Receiver::new(vec![secret.verification_key()], answers, wall_clock, {
        let got = got.clone();
        move |arrival| got.push(arrival)
    });
    let router = receiver.router();
    servers.spawn(async move {
        // Serving only ends when the demo does.
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
        got,
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
        monotonic: Arc::new(SystemMonotonicClock),
        settings,
        hooks,
        keep_events: Duration::from_secs(24 * 3600),
        metrics: Arc::new(Metrics::new()),
        traces: None,
    })
    .context("the HTTP client cannot be set up")
}

/// Tells the story: as text, or an object for each thing said.
#[derive(Clone, Copy)]
struct Teller(Output);

#[derive(Serialize)]
struct Said<'a> {
    kind: &'a str,
    text: &'a str,
}

impl Teller {
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
            .result(&Said { kind, text }, || format!("{before}{text}"))
    }

    fn end(self) -> Result<()> {
        let me = std::env::args()
            .next()
            .unwrap_or_else(|| "postrider".into());
        self.step("That was all; the temporary folder is gone. Try it yourself, in this order:")?;
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
