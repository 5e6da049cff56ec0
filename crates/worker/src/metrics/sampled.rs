//! Gauges that the store samples for all processes, as metrics of each.
//!
//! They exist from the first sample on, and vanish when the latest is too old: an old number must
//! not look like a new one.

use super::catalogue::{Labels, MetricScope, Registrar, gauges_of};
use postrider_core::Timestamp;
use postrider_store::{GaugeSample, Gauges, Waiting};
use prometheus::GaugeVec;
use std::time::{Duration, Instant};

/// A sample older than this is no longer shown.
const SHOWN_FOR: Duration = Duration::from_secs(300);

/// The metrics.
#[derive(Debug)]
pub(super) struct SampledGauges {
    /// When the sample that they show was taken; `None` when they show none.
    taken: Option<Instant>,
    age: GaugeVec,
    outbox: CountAndAge,
    due: CountAndAge,
    gated: CountAndAge,
    held: CountAndAge,
    scheduled: GaugeVec,
    leased: GaugeVec,
    hooks: GaugeVec,
    held_back: GaugeVec,
    database_bytes: GaugeVec,
    table_bytes: GaugeVec,
    dead_rows: GaugeVec,
    snapshot_seconds: GaugeVec,
    snapshot_transactions: GaugeVec,
    history_seconds: GaugeVec,
    partitions: GaugeVec,
    days_ahead: GaugeVec,
}

/// How many of something wait, and the age of the oldest.
#[derive(Debug)]
struct CountAndAge {
    count: GaugeVec,
    seconds: GaugeVec,
}

impl CountAndAge {
    fn new(r: &mut Registrar, count: (&str, &str), seconds: (&str, &str)) -> Self {
        Self {
            count: plain(r, count.0, count.1),
            seconds: plain(r, seconds.0, seconds.1),
        }
    }

    fn set(&self, waiting: Waiting) {
        set(&self.count, waiting.count);
        set(&self.seconds, waiting.oldest_seconds);
    }
}

impl SampledGauges {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            taken: None,
            age: plain(
                r,
                "postrider_sample_age_seconds",
                "Age of the sample that the metrics of the database come from.",
            ),
            outbox: CountAndAge::new(
                r,
                (
                    "postrider_outbox_rows",
                    "Outbox rows that are not fanned out yet.",
                ),
                (
                    "postrider_outbox_lag_seconds",
                    "How long the oldest of them has been in the outbox; 0 if there are none.",
                ),
            ),
            due: CountAndAge::new(
                r,
                (
                    "postrider_due_deliveries",
                    "Deliveries that any worker may start now.",
                ),
                (
                    "postrider_oldest_due_age_seconds",
                    "How long the oldest of them has been due; 0 if there are none.",
                ),
            ),
            gated: CountAndAge::new(
                r,
                (
                    "postrider_gated_deliveries",
                    "Due deliveries of hooks that are backed off, ramping up or limited.",
                ),
                (
                    "postrider_oldest_gated_age_seconds",
                    "How long the oldest of them has been due; 0 if there are none.",
                ),
            ),
            held: CountAndAge::new(
                r,
                (
                    "postrider_held_deliveries",
                    "Deliveries of hooks that are paused or disabled.",
                ),
                (
                    "postrider_oldest_held_age_seconds",
                    "How long the oldest of them would have been due; 0 if there are none.",
                ),
            ),
            scheduled: plain(
                r,
                "postrider_scheduled_deliveries",
                "Deliveries of active hooks whose next attempt is not due yet.",
            ),
            leased: plain(
                r,
                "postrider_leased_deliveries",
                "Deliveries that workers have leased.",
            ),
            hooks: labelled(
                r,
                "postrider_hooks",
                "Hooks by status.",
                &[("status", &["active", "paused", "disabled"])],
            ),
            held_back: labelled(
                r,
                "postrider_hooks_held_back",
                "Active hooks that are held back as a whole, by phase.",
                &[("phase", &["backed_off", "ramping"])],
            ),
            database_bytes: plain(
                r,
                "postrider_db_size_bytes",
                "The size of the whole database, other tables in it included.",
            ),
            table_bytes: labelled(
                r,
                "postrider_db_table_bytes",
                "The size of a table with its indexes and partitions.",
                &[("table", &[])],
            ),
            dead_rows: labelled(
                r,
                "postrider_db_dead_rows",
                "Rows of a queue table that vacuum has not removed yet.",
                &[("table", &[])],
            ),
            snapshot_seconds: plain(
                r,
                "postrider_db_oldest_snapshot_age_seconds",
                "How long the oldest transaction that holds back vacuum has been open.",
            ),
            snapshot_transactions: plain(
                r,
                "postrider_db_oldest_snapshot_transactions",
                "Transactions begun since then, replication slots included.",
            ),
            history_seconds: plain(
                r,
                "postrider_history_age_seconds",
                "How long ago the oldest day of history began; 0 if there is none.",
            ),
            partitions: labelled(
                r,
                "postrider_db_partitions",
                "Partitions of a table of history.",
                &[("table", &[])],
            ),
            days_ahead: plain(
                r,
                "postrider_db_partitions_ahead_days",
                "Days after today that have partitions already; negative when today has none.",
            ),
        }
    }

    /// Shows a sample.
    pub(super) fn show(&mut self, sampled: &GaugeSample, now: Timestamp, instant: Instant) {
        let age = (now - sampled.at).to_std().unwrap_or_default();
        self.forget();
        self.taken = instant.checked_sub(age);
        self.set(&sampled.gauges);
    }

    /// Brings the age up to date; forgets a sample that has become too old.
    pub(super) fn refresh(&mut self, now: Instant) {
        match self.taken.map(|taken| now.saturating_duration_since(taken)) {
            Some(age) if age < SHOWN_FOR => set(&self.age, age.as_secs_f64()),
            _ => self.forget(),
        }
    }

    fn set(&self, gauges: &Gauges) {
        self.outbox.set(gauges.outbox);
        self.due.set(gauges.due);
        self.gated.set(gauges.gated);
        self.held.set(gauges.held);
        set(&self.scheduled, gauges.scheduled);
        set(&self.leased, gauges.leased);
        let hooks = gauges.hooks;
        set_of(&self.hooks, "active", hooks.active);
        set_of(&self.hooks, "paused", hooks.paused);
        set_of(&self.hooks, "disabled", hooks.disabled);
        set_of(&self.held_back, "backed_off", hooks.backed_off);
        set_of(&self.held_back, "ramping", hooks.ramping);
        set(&self.database_bytes, gauges.database_bytes as f64);
        for table in &gauges.tables {
            set_of(&self.table_bytes, &table.table, table.bytes as f64);
            if let Some(dead) = table.dead_rows {
                set_of(&self.dead_rows, &table.table, dead as f64);
            }
        }
        if let Some(snapshot) = gauges.snapshot {
            set(&self.snapshot_seconds, snapshot.seconds);
            set(&self.snapshot_transactions, snapshot.transactions as f64);
        }
        set(&self.history_seconds, gauges.history_seconds);
        for history in &gauges.partitions {
            set_of(&self.partitions, &history.table, history.count);
        }
        if let Some(least) = gauges.partitions.iter().map(|p| p.days_ahead).min() {
            set(&self.days_ahead, least);
        }
    }

    fn forget(&mut self) {
        self.taken = None;
        let pairs = [&self.outbox, &self.due, &self.gated, &self.held];
        for pair in pairs {
            pair.count.reset();
            pair.seconds.reset();
        }
        for metric in [
            &self.age,
            &self.scheduled,
            &self.leased,
            &self.hooks,
            &self.held_back,
            &self.database_bytes,
            &self.table_bytes,
            &self.dead_rows,
            &self.snapshot_seconds,
            &self.snapshot_transactions,
            &self.history_seconds,
            &self.partitions,
            &self.days_ahead,
        ] {
            metric.reset();
        }
    }
}

fn plain(r: &mut Registrar, name: &str, help: &str) -> GaugeVec {
    labelled(r, name, help, &[])
}

fn labelled(r: &mut Registrar, name: &str, help: &str, labels: Labels<'_>) -> GaugeVec {
    gauges_of(r, MetricScope::Database, name, help, labels)
}

fn set(metric: &GaugeVec, value: impl Into<f64>) {
    let none: [&str; 0] = [];
    metric.with_label_values(&none).set(value.into());
}

fn set_of(metric: &GaugeVec, label: &str, value: impl Into<f64>) {
    metric.with_label_values(&[label]).set(value.into());
}
