//! How long a worker waits between two steps of its dispatcher.

use crate::dispatch::StepResult;
use crate::tuning::PollingTuning;
use postrider_store::Error;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What a worker waits for before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleWait {
    /// Nothing.
    None,
    /// The queue to run low, or this time.
    UntilLow(Duration),
    /// A hint, or this time.
    UntilHint(Duration),
}

/// Decides how long to wait, by what the latest steps found.
#[derive(Debug)]
pub(super) struct Polling {
    tuning: PollingTuning,
    /// `worker.poll_interval`.
    interval: Duration,
    last_work: Instant,
    outage: Option<StoreOutage>,
}

/// The database fails: logged once when that begins and once when it is over.
#[derive(Debug)]
struct StoreOutage {
    since: Instant,
    latest: Instant,
    wait: Duration,
}

impl Polling {
    pub(super) fn new(interval: Duration, tuning: PollingTuning, now: Instant) -> Self {
        Self {
            tuning,
            interval,
            last_work: now,
            outage: None,
        }
    }

    /// The wait after a step that found `found`, and failed with `problem` if it did.
    pub(super) fn after(
        &mut self,
        found: StepResult,
        problem: Option<&Error>,
        is_low: bool,
        now: Instant,
    ) -> IdleWait {
        if found.work > 0 {
            self.last_work = now;
        }
        match problem {
            None => self.succeeded(now),
            Some(problem) => {
                let wait = self.failed(problem, now);
                // A step that failed in part and found work goes on at full speed.
                if found.work == 0 {
                    return IdleWait::UntilHint(wait);
                }
            }
        }
        if found.more {
            return match is_low {
                true => IdleWait::None,
                false => IdleWait::UntilLow(self.tuning.until_low),
            };
        }
        let since_work = now.saturating_duration_since(self.last_work);
        IdleWait::UntilHint(match found.work {
            0 if since_work < self.tuning.busy_for => self.tuning.busy.min(self.interval),
            0 => self.interval,
            _ => self.tuning.after_work,
        })
    }

    /// A step failed. Returns how long to wait.
    fn failed(&mut self, problem: &Error, now: Instant) -> Duration {
        let wait = match &self.outage {
            None => {
                warn!("Could not look for work, trying again until it works: {problem}");
                self.tuning.error_first
            }
            Some(outage) => (outage.wait * 2).min(self.tuning.error_max),
        };
        self.outage = Some(StoreOutage {
            since: self.outage.as_ref().map_or(now, |outage| outage.since),
            latest: now,
            wait,
        });
        wait
    }

    /// A step succeeded. Not every step makes every call, so an outage is over only when none
    /// has failed for a while.
    fn succeeded(&mut self, now: Instant) {
        if let Some(outage) = &self.outage
            && now.saturating_duration_since(outage.latest) > self.tuning.error_max
        {
            let lasted = now.saturating_duration_since(outage.since);
            info!("The database answers again, after {} s", lasted.as_secs());
            self.outage = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::monotonic_now;

    const INTERVAL: Duration = Duration::from_millis(25);

    fn polling(start: Instant) -> (Polling, PollingTuning) {
        let tuning = PollingTuning::default();
        (Polling::new(INTERVAL, tuning, start), tuning)
    }

    fn found(work: u32, more: bool) -> StepResult {
        StepResult {
            work,
            more,
            waits: false,
        }
    }

    #[test]
    fn a_worker_that_lately_found_work_looks_more_often() {
        let start = monotonic_now();
        let (mut polling, tuning) = polling(start);
        let later = start + tuning.busy_for;
        let table = [
            (found(3, true), true, start, IdleWait::None),
            (
                found(3, true),
                false,
                start,
                IdleWait::UntilLow(tuning.until_low),
            ),
            (
                found(3, false),
                true,
                start,
                IdleWait::UntilHint(tuning.after_work),
            ),
            (
                found(0, false),
                true,
                start,
                IdleWait::UntilHint(tuning.busy),
            ),
            (found(0, false), true, later, IdleWait::UntilHint(INTERVAL)),
        ];
        for (found, is_low, now, expected) in table {
            let wait = polling.after(found, None, is_low, now);
            assert_eq!(wait, expected, "{found:?}");
        }
    }

    #[test]
    fn a_database_that_fails_is_asked_less_and_less_often() {
        let start = monotonic_now();
        let (mut polling, tuning) = polling(start);
        let problem = Error::Database("no".into());
        let fail =
            |polling: &mut Polling, now| polling.after(found(0, false), Some(&problem), true, now);
        let waits: Vec<_> = (0..8).map(|_| fail(&mut polling, start)).collect();
        let ms = |ms| IdleWait::UntilHint(Duration::from_millis(ms));
        let expected = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000];
        assert_eq!(waits, expected.map(ms));
        // One success is not the end of it …
        polling.after(found(0, false), None, true, start + tuning.error_max);
        assert_eq!(fail(&mut polling, start), ms(5_000));
        // … but a while without failures is.
        let later = start + tuning.error_max + Duration::from_millis(1);
        polling.after(found(0, false), None, true, later);
        assert_eq!(fail(&mut polling, later), ms(100));
    }
}
