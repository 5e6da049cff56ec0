//! Producers that insert into the outbox while workers deliver.
//!
//! They keep a rate or a backlog, and insert nothing after their time is over.

use crate::environment::Environment;
use crate::error::Result;
use crate::figures::percentile;
use crate::options::Shape;
use crate::processes::{POLL_EVERY, ReceiverProcess};
use crate::progress::Progress;
use crate::received::{Counts, is_sampled};
use postrider_core::NewEvent;
use postrider_store::Store;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How often a producer that waits for the backlog to shrink checks it.
const CHECK_EVERY: Duration = Duration::from_millis(2);

/// How producers insert.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of producers.
    pub producers: u32,
    /// Events in one transaction.
    pub rows: u32,
    /// Events per second of all producers together; as many as possible if `None`.
    pub rate: Option<f64>,
    /// They wait while this many deliveries have been inserted and have not arrived.
    pub backlog_max: u64,
    /// How long they insert.
    pub lasts: Duration,
    /// The time of commit is stored for one event in this many; for none if 0.
    pub every: u32,
}

/// Running producers.
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
    /// Number of events.
    pub events: u64,
    /// When the sampled events were committed, in seconds since the receiver started.
    pub commits: HashMap<Uuid, f64>,
}

/// Deliveries inserted and arrived.
#[derive(Debug, Default)]
struct Flow {
    inserted: AtomicU64,
    delivered: AtomicU64,
}

struct Producer {
    store: Arc<dyn Store>,
    kinds: Arc<Vec<NewEvent>>,
    shape: Shape,
    load: Load,
    number: u32,
    flow: Arc<Flow>,
    begun: Instant,
    zero: Instant,
}

impl Producers {
    /// Starts the producers.
    pub async fn start(
        env: &Environment,
        receiver: &mut ReceiverProcess,
        shape: Shape,
        load: Load,
    ) -> Result<Self> {
        let zero = receiver.zero().await?;
        let kinds = Arc::new(shape.events()?);
        let flow = Arc::<Flow>::default();
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for number in 0..load.producers {
            let producer = Producer {
                store: env.store.clone(),
                kinds: kinds.clone(),
                shape,
                load,
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
            lasts: load.lasts,
            progress: Progress::new("seconds", load.lasts.as_secs()),
        })
    }

    /// Waits until `after` their start, and returns what has arrived by then.
    pub async fn until(
        &mut self,
        after: Duration,
        receiver: &mut ReceiverProcess,
    ) -> Result<Counts> {
        let end = self.begun + after;
        loop {
            let seen = receiver.seen().await?;
            self.flow.delivered.store(seen.unique, Ordering::Relaxed);
            self.progress.at(self.begun.elapsed().as_secs());
            while let Some(produced) = self.tasks.try_join_next() {
                self.done.add(produced??);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(seen);
            }
            tokio::time::sleep(left.min(POLL_EVERY)).await;
        }
    }

    /// Waits until their time is over, and returns what they inserted and what has arrived by then.
    pub async fn finish(mut self, receiver: &mut ReceiverProcess) -> Result<(Produced, Counts)> {
        let seen = self.until(self.lasts, receiver).await?;
        while let Some(produced) = self.tasks.join_next().await {
            self.done.add(produced??);
        }
        Ok((self.done, seen))
    }

    /// When their time is over, in seconds since `zero`.
    pub fn end(&self, zero: Instant) -> f64 {
        (self.begun + self.lasts - zero).as_secs_f64()
    }
}

impl Produced {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.commits.extend(other.commits);
    }

    /// The times from commit to arrival of the deliveries that arrived by `end`, in seconds, sorted.
    /// 0 for a delivery that arrived before its producer learned of the commit.
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
    /// Inserts until the time is over.
    async fn run(self) -> Result<Produced> {
        let end = self.begun + self.load.lasts;
        let mut produced = Produced::default();
        let mut turn = u64::from(self.number);
        while self.wait_for(turn, end).await {
            let batch = self.batch(turn);
            let ids = self.store.enqueue(&batch).await?;
            let at = self.zero.elapsed().as_secs_f64();
            let count = ids.len() as u64;
            produced.events += count;
            let kept = ids.iter().filter(|id| is_sampled(id.0, self.load.every));
            produced.commits.extend(kept.map(|id| (id.0, at)));
            let deliveries = count * u64::from(self.shape.fan_out);
            self.flow.inserted.fetch_add(deliveries, Ordering::Relaxed);
            turn += u64::from(self.load.producers);
        }
        Ok(produced)
    }

    /// Waits until the `turn`-th transaction of all producers is due; `false` when the time is over
    /// before.
    async fn wait_for(&self, turn: u64, end: Instant) -> bool {
        if let Some(rate) = self.load.rate {
            let due = turn as f64 * f64::from(self.load.rows) / rate;
            let due = self.begun + Duration::from_secs_f64(due);
            if due >= end {
                return false;
            }
            tokio::time::sleep_until(due.into()).await;
        }
        loop {
            let inserted = self.flow.inserted.load(Ordering::Relaxed);
            let delivered = self.flow.delivered.load(Ordering::Relaxed);
            if Instant::now() >= end {
                return false;
            }
            if inserted.saturating_sub(delivered) < self.load.backlog_max {
                return true;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// The events of the `turn`-th transaction, the kinds in turn.
    fn batch(&self, turn: u64) -> Vec<NewEvent> {
        let rows = u64::from(self.load.rows);
        let first = (turn * rows % self.kinds.len() as u64) as usize;
        let repeated = self.kinds.iter().cycle().skip(first);
        repeated.take(rows as usize).cloned().collect()
    }
}

/// The percentile of sorted waits in seconds, in milliseconds.
pub fn milliseconds(waits: &[f64], percent: usize) -> f64 {
    percentile(waits, percent) * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_measured_for_deliveries_that_arrived_in_time() {
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
