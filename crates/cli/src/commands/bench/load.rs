//! Producers that insert into the outbox while workers deliver.
//!
//! They keep to a rate, or to a backlog, and always to an end: whatever happens, they insert
//! nothing after their time.

use super::environment::Lab;
use super::figures::percentile;
use super::options::Shape;
use super::processes::{LOOK_EVERY, ReceiverProcess};
use super::progress::Progress;
use super::received::{Seen, is_kept};
use crate::failure::Result;
use postrider_core::{NewEvent, monotonic_now};
use postrider_store::Store;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How often a producer that waits for the backlog to shrink looks at it.
const WAIT: Duration = Duration::from_millis(2);

/// How producers insert.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many there are.
    pub producers: u32,
    /// Events in one transaction.
    pub rows: u32,
    /// Events a second, all producers together; as many as go in if `None`.
    pub rate: Option<f64>,
    /// They wait while so many deliveries have been inserted and not arrived.
    pub backlog_max: u64,
    /// For how long they insert.
    pub lasts: Duration,
    /// Of one event in so many it is remembered when it was committed.
    pub every: u32,
}

/// Producers at work.
pub struct Producers {
    tasks: JoinSet<Result<Produced>>,
    done: Produced,
    flow: Arc<Flow>,
    begun: Instant,
    lasts: Duration,
    progress: Progress,
}

/// What producers have inserted.
#[derive(Debug, Default)]
pub struct Produced {
    /// How many events.
    pub events: u64,
    /// When those that are remembered were committed, in seconds from the receiver's zero.
    pub commits: HashMap<Uuid, f64>,
}

/// Deliveries in and out.
#[derive(Debug, Default)]
struct Flow {
    inserted: AtomicU64,
    delivered: AtomicU64,
}

struct Producer {
    store: Arc<dyn Store>,
    kinds: Arc<Vec<NewEvent>>,
    shape: Shape,
    pace: Pace,
    number: u32,
    flow: Arc<Flow>,
    begun: Instant,
    zero: Instant,
}

impl Producers {
    /// Starts them.
    pub async fn start(
        lab: &Lab,
        receiver: &mut ReceiverProcess,
        shape: Shape,
        pace: Pace,
    ) -> Result<Self> {
        let zero = receiver.zero().await?;
        let kinds = Arc::new(shape.events()?);
        let flow = Arc::<Flow>::default();
        let begun = monotonic_now();
        let mut tasks = JoinSet::new();
        for number in 0..pace.producers {
            let producer = Producer {
                store: lab.store.clone(),
                kinds: kinds.clone(),
                shape,
                pace,
                number,
                flow: flow.clone(),
                begun,
                zero,
            };
            tasks.spawn(producer.run());
        }
        Ok(Self {
            tasks,
            done: Produced::default(),
            flow,
            begun,
            lasts: pace.lasts,
            progress: Progress::new("seconds", pace.lasts.as_secs()),
        })
    }

    /// Lets them work until so long after their start, and returns what has arrived by then.
    pub async fn until(&mut self, after: Duration, receiver: &mut ReceiverProcess) -> Result<Seen> {
        let end = self.begun + after;
        loop {
            let seen = receiver.seen().await?;
            self.flow.delivered.store(seen.unique, Ordering::Relaxed);
            self.progress.at((monotonic_now() - self.begun).as_secs());
            while let Some(produced) = self.tasks.try_join_next() {
                self.done.add(produced??);
            }
            let left = end.saturating_duration_since(monotonic_now());
            if left.is_zero() {
                return Ok(seen);
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// Lets them work to their end, and returns what they inserted and what has arrived when
    /// their time is over.
    pub async fn finish(mut self, receiver: &mut ReceiverProcess) -> Result<(Produced, Seen)> {
        let seen = self.until(self.lasts, receiver).await?;
        while let Some(produced) = self.tasks.join_next().await {
            self.done.add(produced??);
        }
        Ok((self.done, seen))
    }

    /// When they end, in seconds from `zero`.
    pub fn end(&self, zero: Instant) -> f64 {
        (self.begun + self.lasts - zero).as_secs_f64()
    }
}

impl Produced {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.commits.extend(other.commits);
    }

    /// How long after their commit those deliveries arrived that arrived by `end`, sorted. One
    /// that was quicker than its producer's own answer took no time.
    pub fn waits(&self, arrivals: &HashMap<(Uuid, u32), f64>, end: f64) -> Vec<f64> {
        let waits = arrivals
            .iter()
            .filter(|(_, arrived)| **arrived <= end)
            .filter_map(|((event, _), arrived)| Some(arrived - self.commits.get(event)?));
        let mut waits: Vec<f64> = waits.map(|wait| wait.max(0.0)).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }
}

impl Producer {
    /// Inserts until its time is over.
    async fn run(self) -> Result<Produced> {
        let end = self.begun + self.pace.lasts;
        let mut produced = Produced::default();
        let mut turn = u64::from(self.number);
        while self.wait_for(turn, end).await {
            let batch = self.batch(turn);
            let ids = self.store.enqueue(&batch).await?;
            let at = (monotonic_now() - self.zero).as_secs_f64();
            let count = ids.len() as u64;
            produced.events += count;
            let kept = ids.iter().filter(|id| is_kept(id.0, self.pace.every));
            produced.commits.extend(kept.map(|id| (id.0, at)));
            let deliveries = count * u64::from(self.shape.fan_out);
            self.flow.inserted.fetch_add(deliveries, Ordering::Relaxed);
            turn += u64::from(self.pace.producers);
        }
        Ok(produced)
    }

    /// Waits until it is time for the `turn`-th transaction of all producers; `false` when
    /// their time is over before.
    async fn wait_for(&self, turn: u64, end: Instant) -> bool {
        if let Some(rate) = self.pace.rate {
            let due = turn as f64 * f64::from(self.pace.rows) / rate;
            let due = self.begun + Duration::from_secs_f64(due);
            if due >= end {
                return false;
            }
            tokio::time::sleep_until(due.into()).await;
        }
        loop {
            let inserted = self.flow.inserted.load(Ordering::Relaxed);
            let delivered = self.flow.delivered.load(Ordering::Relaxed);
            if monotonic_now() >= end {
                return false;
            }
            if inserted.saturating_sub(delivered) < self.pace.backlog_max {
                return true;
            }
            tokio::time::sleep(WAIT).await;
        }
    }

    /// The events of the `turn`-th transaction: of each kind in turn.
    fn batch(&self, turn: u64) -> Vec<NewEvent> {
        let rows = u64::from(self.pace.rows);
        let first = (turn * rows % self.kinds.len() as u64) as usize;
        let endless = self.kinds.iter().cycle().skip(first);
        endless.take(rows as usize).cloned().collect()
    }
}

/// So many percent of the waits were not longer than this, in milliseconds.
pub fn milliseconds(waits: &[f64], percent: usize) -> f64 {
    percentile(waits, percent) * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_those_of_what_arrived_in_time() {
        let id = Uuid::from_u128;
        let produced = Produced {
            events: 3,
            commits: HashMap::from([(id(1), 1.0), (id(2), 2.0), (id(3), 3.0)]),
        };
        let arrivals = HashMap::from([
            ((id(1), 0), 1.5),
            ((id(1), 1), 1.25),
            ((id(2), 0), 1.75),
            ((id(3), 0), 9.0),
            ((id(4), 0), 2.0),
        ]);
        assert_eq!(produced.waits(&arrivals, 5.0), [0.0, 0.25, 0.5]);
        assert_eq!(milliseconds(&produced.waits(&arrivals, 9.0), 100), 6_000.0);
    }
}
