//! Sends one leased request to its hook and makes its settlement.
//!
//! No transaction is open while the request is in flight: the lease keeps other workers away.
//! If this worker dies the lease runs out and the delivery is attempted again, so a receiver
//! sees each event at least once and knows a repeat by its `webhook-id`.

use crate::client::{Client, Exchange};
use crate::local_fault::{FaultLog, LocalFault};
use crate::metrics::Metrics;
use crate::prepared_hooks::PreparedHooks;
use crate::profiles::{PrepareError, Prepared, Sending};
use crate::settings::HookDefaults;
use crate::traces::{AttemptSpan, AttemptTraces};
use http::HeaderMap;
use postrider_core::{
    Attempt, AttemptId, Clock, Event, EventId, Hook, NextStep, Outcome, Payload, Schedules,
    TRACEPARENT, Timestamp, monotonic_now, next_step,
};
use postrider_store::{HookRequest, OneOrMore, Settlement, Step};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::error;

/// How much of a lease must be left beyond the request's deadline when an attempt starts.
const START_MARGIN: Duration = Duration::from_secs(1);

/// How long an attempt that could not be tried keeps its place, so that a worker without file
/// descriptors does not spin.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of an answer that are kept with each delivery of a batch but the first.
const BATCH_MEMBER_EXCERPT: usize = 1024;

/// The result of sending a leased request.
pub(crate) enum Sent {
    /// It was attempted.
    Settle(Settlement),
    /// It was not attempted: its lease is given back.
    GiveBack(HookRequest),
    /// This worker cannot send to the hook as it is: the lease is given back.
    CannotSend(HookRequest),
    /// A local fault, already logged, prevented the attempt: the lease is given back.
    NotTried(HookRequest),
}

/// Why a test event could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The hook cannot be sent to by this worker.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The request could not be tried here.
    #[error("the request could not be tried: {0}")]
    NotTried(LocalFault),
}

/// Sends requests; keeps what the requests of a hook share.
pub struct Sender {
    client: Client,
    clock: Arc<dyn Clock>,
    defaults: Arc<HookDefaults>,
    request_timeout: Duration,
    metrics: Arc<Metrics>,
    traces: Option<Arc<dyn AttemptTraces>>,
    prepared: Arc<PreparedHooks>,
    told: Mutex<FaultLog>,
}

impl Sender {
    /// A sender whose requests never take longer than `request_timeout`; `traces` follow them.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        defaults: Arc<HookDefaults>,
        request_timeout: Duration,
        metrics: Arc<Metrics>,
        traces: Option<Arc<dyn AttemptTraces>>,
    ) -> Self {
        Self {
            client,
            clock,
            defaults,
            request_timeout,
            metrics,
            traces,
            prepared: Arc::default(),
            told: Mutex::default(),
        }
    }

    /// What is prepared for each hook. The dispatcher drops it when the hook changes.
    pub(crate) fn prepared_hooks(&self) -> Arc<PreparedHooks> {
        self.prepared.clone()
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends a leased request, unless too little of its lease is left.
    pub(crate) async fn send(&self, leased: HookRequest) -> Sent {
        let started_at = self.clock.now();
        let left = (leased.lease.expires_at - started_at)
            .to_std()
            .unwrap_or_default();
        if left < self.request_timeout + START_MARGIN {
            return Sent::GiveBack(leased);
        }
        let prepared = match self.prepared_for(&leased, started_at) {
            Ok(prepared) => prepared,
            Err(problem) if problem.is_hook_failure() => {
                let attempt = unsendable(&problem, leased.attempts + 1, started_at);
                self.observe(&leased, &attempt);
                return Sent::Settle(self.settlement(leased, attempt));
            }
            Err(problem) => {
                error!(hook.id = %leased.hook.id, "Cannot send to hook {}: {problem}", leased.hook.id);
                return Sent::CannotSend(leased);
            }
        };
        let attempt = self
            .attempt(
                &prepared,
                &Sending {
                    hook: &leased.hook,
                    event: &leased.first().event,
                    others: &leased.deliveries.rest,
                    number: leased.attempts + 1,
                    now: started_at,
                },
            )
            .await;
        match attempt {
            Ok(attempt) => {
                self.observe(&leased, &attempt);
                Sent::Settle(self.settlement(leased, attempt))
            }
            Err(fault) => {
                self.tell(fault);
                tokio::time::sleep(FAULT_PAUSE).await;
                Sent::NotTried(leased)
            }
        }
    }

    /// Sends `hook` a test event of the type `postrider.test`; nothing is recorded.
    ///
    /// # Errors
    /// When the hook cannot be sent to by this worker, or the request cannot be tried here.
    pub async fn send_test(&self, hook: &Hook) -> Result<Attempt, TestError> {
        let payload = r#"{"message":"A test of this hook by Postrider"}"#;
        self.send_sample(hook, "postrider.test", payload).await
    }

    /// Sends `hook` an event of this type with this payload, which must be JSON; nothing is
    /// recorded.
    ///
    /// # Errors
    /// When the hook cannot be sent to by this worker, or the request cannot be tried here.
    pub async fn send_sample(
        &self,
        hook: &Hook,
        event_type: &str,
        payload: &str,
    ) -> Result<Attempt, TestError> {
        let now = self.clock.now();
        let event = Event {
            id: EventId::draw(now),
            account: hook.account.clone(),
            event_type: event_type.into(),
            payload: Payload::from_checked(payload),
            ordering_key: None,
            headers: None,
            occurred_at: now,
        };
        let prepared = match self.prepare(hook, now) {
            Ok(prepared) => prepared,
            Err(problem) if problem.is_hook_failure() => return Ok(unsendable(&problem, 1, now)),
            Err(problem) => return Err(problem.into()),
        };
        let sending = Sending {
            hook,
            event: &event,
            others: &[],
            number: 1,
            now,
        };
        let attempt = self.attempt(&prepared, &sending).await;
        attempt.map_err(TestError::NotTried)
    }

    async fn attempt(
        &self,
        prepared: &Prepared,
        sending: &Sending<'_>,
    ) -> Result<Attempt, LocalFault> {
        let mut request = prepared.request(sending);
        let span = self.follow(prepared, sending, &mut request.headers);
        let begun = monotonic_now();
        let exchange = self.client.send(request).await;
        let duration = monotonic_now() - begun;
        let (outcome, response) = match exchange {
            Exchange::Answered {
                status,
                headers,
                excerpt,
            } => (
                prepared
                    .profile
                    .format
                    .judge(status, &headers, self.clock.now()),
                excerpt,
            ),
            Exchange::TimedOut => (Outcome::TimedOut, Vec::new()),
            Exchange::Unreachable { reason } => (Outcome::Unreachable { reason }, Vec::new()),
            Exchange::Blocked(address) => (Outcome::Blocked { address }, Vec::new()),
            Exchange::NotTried(fault) => {
                span.into_iter().for_each(|span| span.end(Err(fault)));
                return Err(fault);
            }
        };
        span.into_iter().for_each(|span| span.end(Ok(&outcome)));
        Ok(Attempt {
            id: AttemptId::draw(sending.now),
            number: sending.number,
            at: sending.now,
            duration,
            outcome,
            response,
        })
    }

    /// Begins the span of an attempt whose event is in a trace. A hook that sets `traceparent`
    /// for itself is left out: what a registrant chose must not decide what is recorded.
    fn follow(
        &self,
        prepared: &Prepared,
        sending: &Sending<'_>,
        headers: &mut HeaderMap,
    ) -> Option<Box<dyn AttemptSpan>> {
        let traces = self.traces.as_ref()?;
        if sending.event.headers.is_none() || prepared.sets(TRACEPARENT) {
            return None;
        }
        traces.begin(sending, headers)
    }

    /// Counts a local fault, and logs it once a minute.
    fn tell(&self, fault: LocalFault) {
        let counter = self.metrics.own_faults.with_label_values(&[fault.name()]);
        counter.inc();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_news(fault, monotonic_now()) {
            error!(
                kind = fault.name(),
                count = counter.get(),
                "Cannot make requests: {fault}. Deliveries wait and are tried again; nothing is \
                 counted against their hooks"
            );
        }
    }

    /// The settlement of a request: its deliveries all get the same next step.
    fn settlement(&self, mut leased: HookRequest, attempt: Attempt) -> Settlement {
        leased.forget_payload();
        let in_round = attempt.number - leased.earlier_attempts;
        let schedule = Schedules::of(&*self.defaults, Some(&leased.hook));
        let step = match next_step(&attempt.outcome, leased.first().id, in_round, schedule) {
            NextStep::Delivered => Step::Delivered,
            NextStep::RetryIn(wait) => Step::Retry(self.clock.now() + wait),
            NextStep::Failed(reason) => Step::Failed(reason),
        };
        let policy = self.defaults.health_policy(&leased.hook);
        let keeps_target = self.defaults.profiles.of(&leased.hook).policy.keeps_target;
        let others = leased.deliveries.rest.iter();
        let rest = others.map(|_| of_batch_member(&attempt)).collect();
        Settlement {
            request: leased,
            attempts: OneOrMore {
                first: attempt,
                rest,
            },
            step,
            policy,
            keeps_target,
        }
    }

    fn observe(&self, leased: &HookRequest, attempt: &Attempt) {
        let metrics = &self.metrics;
        metrics.attempted(&attempt.outcome);
        metrics
            .attempt_seconds
            .observe(attempt.duration.as_secs_f64());
        if attempt.number == 1 {
            for event in leased.events() {
                let latency = (attempt.at - event.occurred_at).as_seconds_f64();
                metrics.delivery_latency_seconds.observe(latency.max(0.0));
            }
        }
    }

    /// Prepares a request for its hook, or for the target kept with an earlier attempt. The
    /// latter is not shared by the hook's requests, and is not cached.
    fn prepared_for(
        &self,
        leased: &HookRequest,
        now: Timestamp,
    ) -> Result<Arc<Prepared>, PrepareError> {
        let hook = &leased.hook;
        match leased.target.as_ref().filter(|target| !target.is_of(hook)) {
            None => self.prepared(hook, now),
            Some(target) => Ok(Arc::new(self.prepare(&hook.pointed_at(target), now)?)),
        }
    }

    fn prepare(&self, hook: &Hook, now: Timestamp) -> Result<Prepared, PrepareError> {
        Prepared::new(
            hook,
            self.request_timeout,
            self.defaults.profiles.named(&hook.profile),
            now,
        )
    }

    fn prepared(&self, hook: &Hook, now: Timestamp) -> Result<Arc<Prepared>, PrepareError> {
        if let Some(prepared) = self.prepared.get(hook, now) {
            return Ok(prepared);
        }
        let prepared = Arc::new(self.prepare(hook, now)?);
        self.prepared.insert(hook.id, prepared.clone());
        Ok(prepared)
    }
}

/// The failed attempt for a hook that no request can be made for, such as one whose URL is not
/// accepted any more.
fn unsendable(problem: &PrepareError, number: u32, now: Timestamp) -> Attempt {
    Attempt {
        id: AttemptId::draw(now),
        number,
        at: now,
        duration: Duration::ZERO,
        outcome: Outcome::Unreachable {
            reason: problem.to_string(),
        },
        response: Vec::new(),
    }
}

/// The attempt as it is recorded with another delivery of the same request. Only the first keeps
/// the whole answer.
fn of_batch_member(attempt: &Attempt) -> Attempt {
    let response = &attempt.response;
    Attempt {
        id: AttemptId::draw(attempt.at),
        response: response[..response.len().min(BATCH_MEMBER_EXCERPT)].to_vec(),
        outcome: attempt.outcome.clone(),
        ..*attempt
    }
}
