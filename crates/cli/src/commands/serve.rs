//! `postrider serve`: runs the worker and the HTTP interfaces until a signal stops them.
//!
//! The first signal drains: nothing more is leased, and attempts in flight are finished and recorded.
//! The second signal, or the deadline, cuts them; the next worker repeats what was cut.

use super::hook_test;
use super::readiness::{AnswerCounter, Observed};
use crate::config::Settings;
use crate::database::{self, try_write};
use crate::failure::{Result, Silent};
use crate::globals::Globals;
use crate::open_files;
use crate::sd_notify::Supervisor;
use crate::secrets::Need;
use crate::traces::Traces;
use anyhow::Context;
use async_trait::async_trait;
use clap::{Args, ValueEnum};
use postrider_api::{Api, ApiLimits, ApiParts, Readiness, TestSender, probes, serve as answer};
use postrider_core::{Attempt, Hook, SystemMonotonicClock};
use postrider_store::{Backend, Store, WorkerClaim};
use postrider_worker::{
    DatabaseClock, IDLE_MAX, Metrics, Pruner, Sampler, Sender, Shutdown, Waker, Worker, WorkerParts,
};
use serde::Serialize;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// How much longer than `worker.request_timeout` a drain may take.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// How long the API may take to answer the remaining requests at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The same after a cut.
const LAST_ANSWERS_CUT: Duration = Duration::from_secs(1);

/// Deliver events and accept them over HTTP: run the worker and the API until stopped.
///
/// Serves /metrics, /livez and /readyz on metrics.listen in every role, and the API and the two
/// probes on api.listen in the roles all and api. SIGTERM or Ctrl-C drains: nothing new is started;
/// attempts in flight are finished and recorded, for at most worker.request_timeout and 5 s; then
/// the API answers the requests it has accepted and closes. A second signal cuts the attempts in
/// flight; they are repeated later, and the exit code is 1.
///
/// Prints its addresses on standard output when it is ready; with --json one object: ready, role,
/// database, metrics, api.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  postrider serve
  postrider serve --role worker --database postgres://postrider@db/app
  postrider serve --role api --database postgres://postrider@db/app
  POSTRIDER_WORKER__ALLOW_ADDRESSES=127.0.0.0/8,::1/128 postrider serve    with local receivers

PostgreSQL allows any number of worker processes, SQLite one for each file.")]
pub struct Serve {
    /// The role of this process
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Deliver and serve the API
    All,
    /// Deliver
    Worker,
    /// Serve the API
    Api,
}

/// The announcement of a process that is ready.
#[derive(Serialize)]
struct Started {
    ready: bool,
    role: Role,
    database: String,
    metrics: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<String>,
}

impl Serve {
    /// Runs the command.
    pub async fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let traces = Traces::start()?;
        let signals = Signals::new()?;
        let delivers = self.role != Role::Api;
        // Without a key the API still accepts events, and refuses requests that need secrets.
        let keyless = settings.backend()? == Backend::Postgres && settings.secrets.key.is_none();
        let need = match delivers || !keyless {
            true => Need::Secrets,
            false => Need::Nothing,
        };
        if delivers {
            let in_flight = settings.worker.concurrency.into();
            open_files::raise_limit(in_flight, IDLE_MAX as u64);
        }
        let store = database::open(&settings, need).await?;
        try_write(store.as_ref()).await?;
        let claim = match delivers {
            true => store.claim_worker().await?,
            false => WorkerClaim::default(),
        };
        let outcome = self
            .serve(globals, &settings, &store, signals, &traces)
            .await;
        drop(claim);
        tokio::join!(store.close(), traces.finish());
        outcome
    }

    async fn serve(
        self,
        globals: &Globals,
        settings: &Settings,
        store: &Arc<dyn Store>,
        signals: Signals,
        traces: &Traces,
    ) -> Result<()> {
        let metrics_listener = bind("metrics", &settings.metrics.listen).await?;
        let api_listener = match self.role {
            Role::Worker => None,
            Role::All | Role::Api => Some(bind("api", &settings.api.listen).await?),
        };
        let metrics = Arc::new(Metrics::new());
        let clock = DatabaseClock::start(store.clone()).await?;
        metrics.show_retention(
            settings.retention.events.get(),
            settings.retention.attempts().get(),
        );
        let sampler = Sampler::new(store.clone(), clock.clone(), metrics.clone());
        let _sampling = AbortOnDropHandle::new(tokio::spawn(sampler.run()));
        let worker = match self.role {
            Role::Api => None,
            Role::All | Role::Worker => Some(worker(
                settings,
                store,
                clock.clone(),
                metrics.clone(),
                traces,
            )?),
        };
        let pruner = Pruner {
            store: store.clone(),
            clock: clock.clone(),
            keep: settings.retention.keep(),
            metrics: metrics.clone(),
        };
        let started = Started {
            ready: true,
            role: self.role,
            database: store.describe(),
            metrics: url_of(&metrics_listener)?,
            api: api_listener.as_ref().map(url_of).transpose()?,
        };
        let shutdown = Shutdown::default();
        let observed = Observed {
            store: store.clone(),
            metrics: metrics.clone(),
            progress: worker.as_ref().map(Worker::progress),
            drain: shutdown.drain.clone(),
        };
        let readiness: Arc<dyn Readiness> = Arc::new(observed.readiness(&settings.worker));
        let closed = CancellationToken::new();
        let mut servers = JoinSet::new();
        let metrics_router = observed.routes().merge(probes(readiness.clone()));
        servers.spawn(answer(metrics_listener, metrics_router, closed.clone()));
        let mut api = None;
        if let Some(listener) = api_listener {
            let waker = worker.as_ref().map(Worker::waker);
            let tests = hook_test::sender(settings, clock.clone(), metrics.clone())?;
            let started = Api::start(ApiParts {
                store: store.clone(),
                clock,
                keep_events: settings.retention.events,
                commits: match settings.backend()? {
                    Backend::Postgres => 2,
                    Backend::Sqlite => 1,
                },
                published: Arc::new(move || waker.iter().for_each(Waker::wake)),
                tests: Arc::new(TestEvents(tests)),
                limits: ApiLimits {
                    publishing: settings.api.publish_limit,
                    managing: settings.api.rate_limit,
                },
                cors_origins: settings.api.cors_origins.clone(),
                observer: Arc::new(AnswerCounter(metrics)),
                traces: traces.publishing(),
                dialects: settings.dialects(),
            });
            let router = started.router().merge(probes(readiness.clone()));
            servers.spawn(answer(listener, router, closed.clone()));
            api = Some(started);
        }
        let deadline = settings.worker.request_timeout.get() + DRAIN_MARGIN;
        let cut = shutdown.cut.clone();
        let supervisor = Arc::new(Supervisor::from_environment());
        let signals = signals.obey(shutdown.clone(), deadline, supervisor.clone());
        let signals = tokio::spawn(signals);
        globals
            .output()
            .result(&started, || sentence(&started, settings))?;
        supervisor.ready();
        let alive = readiness.clone();
        let _alive = AbortOnDropHandle::new(tokio::spawn(async move {
            supervisor.keep_alive(|| alive.lifeless()).await;
        }));
        let was_cut = match worker {
            Some(worker) => {
                let drain = shutdown.drain.clone();
                tokio::spawn(async move { pruner.run(drain).await });
                let drained = worker.run(shutdown).await;
                info!(
                    released = drained.released,
                    cut = drained.cut,
                    "Stopped: {} unstarted leases released, {} requests cut",
                    drained.released,
                    drained.cut
                );
                drained.cut > 0
            }
            None => {
                shutdown.drain.cancelled().await;
                false
            }
        };
        closed.cancel();
        let answered = async {
            while servers.join_next().await.is_some() {}
            if let Some(api) = api {
                api.finish().await;
            }
        };
        tokio::select! {
            () = answered => {}
            () = tokio::time::sleep(LAST_ANSWERS) => {}
            () = async { cut.cancelled().await; tokio::time::sleep(LAST_ANSWERS_CUT).await } => {}
        }
        signals.abort();
        match was_cut {
            true => Err(Silent.into()),
            false => Ok(()),
        }
    }
}

fn worker(
    settings: &Settings,
    store: &Arc<dyn Store>,
    clock: Arc<DatabaseClock>,
    metrics: Arc<Metrics>,
    traces: &Traces,
) -> Result<Worker> {
    Worker::new(WorkerParts {
        store: store.clone(),
        clock,
        monotonic: Arc::new(SystemMonotonicClock),
        settings: settings.worker.clone(),
        hooks: settings.hook_defaults(),
        keep_events: settings.retention.events.get(),
        metrics,
        traces: traces.attempts(),
    })
    .context("the HTTP client cannot be set up")
}

async fn bind(section: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let variable = format!("POSTRIDER_{}__LISTEN", section.to_uppercase());
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "another process, perhaps another postrider, listens on it: stop it, or set \
                 {section}.listen ({variable}) to another port"
            ),
            _ => {
                format!("{error}; set {section}.listen ({variable}) to an address of this machine")
            }
        };
        anyhow::anyhow!("cannot listen on {address}: {advice}")
    })
}

fn url_of(listener: &TcpListener) -> Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

fn sentence(started: &Started, settings: &Settings) -> String {
    let mut lines = vec![format!("Database: {}.", started.database)];
    lines.push(format!(
        "Metrics and health on {} (/metrics, /livez, /readyz).",
        started.metrics
    ));
    lines.extend(
        started
            .api
            .as_ref()
            .map(|url| format!("API on {url} (/docs, /openapi.json, /livez, /readyz).")),
    );
    lines.push(match started.role {
        Role::Api => "Ready. Ctrl-C stops.".into(),
        Role::All | Role::Worker => format!(
            "Ready: delivering, up to {} requests at a time. Ctrl-C drains and stops.",
            settings.worker.concurrency
        ),
    });
    lines.join("\n")
}

/// Sends test events for the API.
struct TestEvents(Sender);

#[async_trait]
impl TestSender for TestEvents {
    async fn send_test(&self, hook: &Hook) -> std::result::Result<Attempt, String> {
        let attempt = self.0.send_test(hook).await;
        attempt.map_err(|error| error.to_string())
    }

    async fn send_sample(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> std::result::Result<Attempt, String> {
        let attempt = self.0.send_sample(hook, event_type, payload).await;
        attempt.map_err(|error| error.to_string())
    }
}

/// SIGTERM and SIGINT, received from its creation on.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Drains at the first signal, and cuts at the second or after `deadline`.
    async fn obey(mut self, shutdown: Shutdown, deadline: Duration, supervisor: Arc<Supervisor>) {
        self.next().await;
        shutdown.drain.cancel();
        supervisor.stopping();
        info!(
            "Draining: finishing attempts in flight, for at most {} s; a second signal cuts them",
            deadline.as_secs()
        );
        tokio::select! {
            () = self.next() => warn!("Cut by a second signal; attempts in flight will be repeated"),
            () = tokio::time::sleep(deadline) => {
                warn!("Cut at the deadline; attempts in flight will be repeated");
            }
        }
        shutdown.cut.cancel();
    }
}
