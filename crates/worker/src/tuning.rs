//! The constants by which a worker paces itself, one struct for each component.
//!
//! They depend on each other, so they stand together. They are not configuration: each default
//! was chosen by measurement, and a test may set another.

use std::time::Duration;

/// The tuning of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tuning {
    pub(crate) admission: AdmissionTuning,
    pub(crate) concurrency: ConcurrencyTuning,
    pub(crate) dispatch: DispatchTuning,
    pub(crate) polling: PollingTuning,
}

/// What may be leased ahead, and which hooks count as slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmissionTuning {
    /// Deliveries queued at most, over all hooks.
    pub(crate) queue_max: u32,
    /// Bytes of payload queued, over all hooks, above which nothing more is leased.
    pub(crate) queue_max_bytes: usize,
    /// Hooks that are not known to be quick have at most one in this many of both.
    pub(crate) doubtful_part: u32,
    /// With this many deliveries queued the queue is never low, however large the windows are:
    /// the senders must not run dry while the next batch is made.
    pub(crate) low_water: u32,
    /// The largest window of one hook, in deliveries. With 0 every window is twice the hook's
    /// cap.
    pub(crate) window_max: u32,
    /// A hook that takes half of its window within this time gets a window twice as large.
    pub(crate) window_grows_within: Duration,
    /// Slow hooks together hold at most one in this many of the places of the process.
    pub(crate) slow_part: u32,
    /// Of these places one in this many is kept for the first request to a hook.
    pub(crate) untried_part: u32,
    /// One account holds at most one in this many of the places while another waits.
    pub(crate) account_part: u32,
    /// A hook to which this many requests were started since its last answer is slow …
    pub(crate) slow_after_started: u32,
    /// … and so is one whose requests in flight have all gone unanswered for this long, or
    /// lately took longer than this to be answered …
    pub(crate) slow_after: Duration,
    /// … or one that has not answered for this long. What it answered then is forgotten.
    pub(crate) trusted_for: Duration,
    /// A hook with all its places taken and no answer for this long is stalled: its queue does
    /// not count when the process decides whether to lease more, as that of a hook which waits for
    /// the slow share.
    pub(crate) stalled_after: Duration,
    /// A hook that has not shown that it accepts deliveries, and gives neither an answer nor an
    /// error for this long, is taken to be slow rather than dead.
    pub(crate) silent_after: Duration,
    /// How long a hook waits when a local fault kept a request from being tried.
    pub(crate) faulted_for: Duration,
    /// The requests of a hook that has answered nothing for this long occupy no processor here,
    /// and do not count against the concurrency limit.
    pub(crate) remote_after: Duration,
}

impl Default for AdmissionTuning {
    fn default() -> Self {
        Self {
            queue_max: 4_096,
            queue_max_bytes: 48 * 1024 * 1024,
            doubtful_part: 2,
            low_water: 1_024,
            window_max: 2_048,
            window_grows_within: Duration::from_millis(250),
            slow_part: 2,
            untried_part: 4,
            account_part: 2,
            slow_after_started: 4,
            slow_after: Duration::from_secs(1),
            trusted_for: Duration::from_secs(600),
            stalled_after: Duration::from_millis(100),
            silent_after: Duration::from_millis(500),
            faulted_for: Duration::from_secs(1),
            remote_after: Duration::from_millis(25),
        }
    }
}

/// How many requests the processors are given at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConcurrencyTuning {
    /// The lowest limit, in requests for each core. With `u32::MAX` the limit is
    /// `worker.concurrency`, always.
    pub(crate) least_per_core: u32,
    /// A task that waits longer than this for its turn finds the processors busy.
    pub(crate) busy_delay: Duration,
    /// Samples between two changes of the limit.
    pub(crate) samples: u32,
    /// The time between two samples.
    pub(crate) sample_every: Duration,
}

impl Default for ConcurrencyTuning {
    fn default() -> Self {
        Self {
            least_per_core: 32,
            busy_delay: Duration::from_millis(1),
            samples: 16,
            sample_every: Duration::from_millis(2),
        }
    }
}

/// How often the dispatcher does which of its duties.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DispatchTuning {
    /// Fan-out waits for the queue to run low, but not longer than this.
    pub(crate) fan_out_every: Duration,
    /// How often the hooks with due deliveries are searched for gated ones.
    pub(crate) own_every: Duration,
    /// How often the whole queue is searched for deliveries that other processes made due.
    pub(crate) sweep_every: Duration,
    /// Hooks read at once by this search.
    pub(crate) sweep_page: u32,
    /// How often lost leases are recovered, and how many deliveries in one transaction.
    pub(crate) recover_every: Duration,
    pub(crate) recover_max: u32,
    /// How often upkeep is done, and on how many rows in one transaction.
    pub(crate) upkeep_every: Duration,
    pub(crate) upkeep_max: u32,
    /// A call of the store is given up after this time. The store gives up each of its statements
    /// earlier; this bounds a call of many.
    pub(crate) longest_call: Duration,
    /// Sweep and recovery each take at most one in this many parts of the time …
    pub(crate) duty_part: u32,
    /// … unless they would be done less often than this.
    pub(crate) duty_least_often: Duration,
}

impl Default for DispatchTuning {
    fn default() -> Self {
        Self {
            fan_out_every: Duration::from_millis(50),
            own_every: Duration::from_millis(10),
            sweep_every: Duration::from_millis(500),
            sweep_page: 512,
            recover_every: Duration::from_secs(1),
            recover_max: 1_000,
            upkeep_every: Duration::from_secs(30),
            upkeep_max: 5_000,
            longest_call: Duration::from_secs(240),
            duty_part: 50,
            duty_least_often: Duration::from_secs(15),
        }
    }
}

/// How long a worker waits between two steps of its dispatcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollingTuning {
    /// The wait after a step that found work.
    pub(crate) after_work: Duration,
    /// The longest wait while work was found within `busy_for`; `worker.poll_interval` after
    /// that.
    pub(crate) busy: Duration,
    pub(crate) busy_for: Duration,
    /// The longest wait for the queue to run low while the outbox holds more.
    pub(crate) until_low: Duration,
    /// The first and the longest wait after a step that failed; each is twice the one before.
    pub(crate) error_first: Duration,
    pub(crate) error_max: Duration,
}

impl Default for PollingTuning {
    fn default() -> Self {
        Self {
            after_work: Duration::from_millis(1),
            busy: Duration::from_millis(4),
            busy_for: Duration::from_secs(1),
            until_low: Duration::from_millis(50),
            error_first: Duration::from_millis(100),
            error_max: Duration::from_secs(5),
        }
    }
}

/// How names are looked up, and when the name servers of this machine are at fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamesTuning {
    /// The longest time for one lookup: long enough for three tries.
    pub(crate) lookup: Duration,
    /// How long one name server may take to answer one question, and how often each is asked.
    pub(crate) each_try: Duration,
    pub(crate) rounds: u32,
    /// How long to wait for the IPv6 addresses of a host whose IPv4 addresses are known.
    pub(crate) other_kind: Duration,
    /// Lookups in flight at most, of names that resolved the last time, and of others. Each takes
    /// two sockets.
    pub(crate) in_flight: usize,
    /// A name that got no answer is not asked for again for this long: less than the first wait of
    /// the default schedule, so that each attempt asks.
    pub(crate) failed_for: Duration,
    /// A name that resolved within this time is a witness. The longest outage of the name servers
    /// that is not blamed on hooks.
    pub(crate) good_for: Duration,
    /// Witnesses asked at most, and how long each may take to answer.
    pub(crate) witnesses: usize,
    pub(crate) witness: Duration,
}

impl Default for NamesTuning {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(5),
            each_try: Duration::from_millis(1_600),
            rounds: 3,
            other_kind: Duration::from_secs(1),
            in_flight: 64,
            failed_for: Duration::from_secs(3),
            good_for: Duration::from_secs(1_800),
            witnesses: 5,
            witness: Duration::from_secs(2),
        }
    }
}
