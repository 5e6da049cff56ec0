//! What `postrider check` says of the database beyond that it can be used: partitions, dead rows
//! and what keeps them, grants, sizes.

use super::check_report::CheckReport;
use crate::failure::Result;
use crate::output::moment;
use postrider_core::Timestamp;
use postrider_store::{Diagnostics, Producer, Store};
use std::time::Duration;

/// A transaction that is open for longer is worth a word.
const LONG: Duration = Duration::from_secs(300);

/// So many dead rows in a table that is a queue are worth a word.
const MANY_DEAD: u64 = 200_000;

/// The tables that rows pass through.
const QUEUES: [&str; 3] = [
    "postrider_outbox",
    "postrider_deliveries",
    "postrider_leases",
];

/// A log of so many bytes is not being written back.
const LONG_LOG: u64 = 512 << 20;

/// So many tables are named with their sizes.
const SHOWN: usize = 4;

/// Says what the database tells about itself.
pub(super) async fn diagnose(
    report: &mut CheckReport,
    store: &dyn Store,
    now: Timestamp,
) -> Result<()> {
    let found = store.diagnostics(now).await?;
    partitions(report, &found)?;
    snapshots(report, &found)?;
    dead_rows(report, &found)?;
    grants(report, &found)?;
    sizes(report, &found)
}

fn partitions(report: &mut CheckReport, found: &Diagnostics) -> Result<()> {
    if let [first, ..] = found.foreign_partitions.as_slice() {
        report.warning(
            "partitions",
            format!(
                "{} made by hand, such as {first}: Postrider neither lists what is in them nor \
                 takes it away when it is past its retention, and beside a default partition \
                 nothing can go; move their rows away and drop them",
                found.foreign_partitions.len()
            ),
        )?;
    }
    match found.missing_partitions.as_slice() {
        [] if found.unused.is_some() => Ok(()),
        [] => report.ok("partitions", "there for today and the next days"),
        [first, rest @ ..] => report.warning(
            "partitions",
            format!(
                "{first} is missing, and {} more: without them nothing can be fanned out on that \
                 day. A worker makes them ahead while it runs; if one does, see what its log \
                 says. `postrider migrate` makes them too",
                rest.len()
            ),
        ),
    }
}

fn snapshots(report: &mut CheckReport, found: &Diagnostics) -> Result<()> {
    if found.unused.is_some() {
        return Ok(());
    }
    match &found.oldest_snapshot {
        Some(old) if old.age > LONG || old.since.is_none() => {
            let since = old
                .since
                .map_or_else(String::new, |at| format!(" since {}", moment(at)));
            report.warning(
                "transactions",
                format!(
                    "{} keeps an old state of the database{since}: dead rows cannot be cleaned \
                     up and history cannot go; {}",
                    old.what, old.remedy
                ),
            )
        }
        _ if !found.sees_all_sessions => report.ok(
            "transactions",
            "none of this role's is open for long (to look at those of others, \
             GRANT pg_read_all_stats to it)",
        ),
        _ => report.ok("transactions", "none is open for long"),
    }
}

fn dead_rows(report: &mut CheckReport, found: &Diagnostics) -> Result<()> {
    if let Some(unused) = found.unused {
        return match unused.log > LONG_LOG {
            true => report.warning(
                "log",
                format!(
                    "the write-ahead log beside the file has grown to {}: some process reads \
                     without end; end it, then the log shrinks",
                    size(unused.log)
                ),
            ),
            false => report.ok("log", format!("{} long", size(unused.log))),
        };
    }
    let queues = found
        .tables
        .iter()
        .filter(|t| QUEUES.contains(&t.name.as_str()));
    let mut fine = true;
    for table in queues.filter(|table| table.dead_rows > MANY_DEAD) {
        fine = false;
        report.warning(
            "dead rows",
            format!(
                "{} has {} dead rows, which make looking for work slower: see that autovacuum is \
                 on and that no transaction stays open, or run VACUUM {}",
                table.name, table.dead_rows, table.name
            ),
        )?;
    }
    match fine {
        true => report.ok("dead rows", "few"),
        false => Ok(()),
    }
}

fn grants(report: &mut CheckReport, found: &Diagnostics) -> Result<()> {
    if found.unused.is_some() {
        return Ok(());
    }
    let mut fine = true;
    for producer in &found.producers {
        for problem in wrong(producer) {
            fine = false;
            report.warning("grants", problem)?;
        }
    }
    match (fine, found.producers.len()) {
        (false, _) => Ok(()),
        (true, 0) => report.ok("grants", "only the owner of the outbox inserts into it"),
        (true, n) => report.ok(
            "grants",
            format!("{n} roles may insert events, as documented"),
        ),
    }
}

/// What is wrong with what a role may do.
fn wrong(producer: &Producer) -> Vec<String> {
    let role = &producer.role;
    let mut problems = Vec::new();
    if !producer.uses_schema {
        problems.push(format!(
            "role {role} may insert into the outbox but not use its schema: GRANT USAGE ON SCHEMA \
             to it"
        ));
    }
    // A role that sets no keys or times needs no right to.
    let needed = ["event_type", "payload"];
    let missing = producer.missing.iter().map(String::as_str);
    let missing: Vec<_> = missing.filter(|column| needed.contains(column)).collect();
    if !missing.is_empty() {
        problems.push(format!(
            "role {role} cannot insert events, because it may not set {}: \
             GRANT INSERT ({}) ON postrider_outbox to it",
            missing.join(" and "),
            missing.join(", ")
        ));
    }
    if !producer.excess.is_empty() {
        problems.push(format!(
            "role {role} may set {} of the outbox, which are Postrider's to set: REVOKE INSERT ON \
             postrider_outbox from it and grant the documented columns only",
            producer.excess.join(", ")
        ));
    }
    problems
}

fn sizes(report: &mut CheckReport, found: &Diagnostics) -> Result<()> {
    let total: u64 = found.tables.iter().map(|table| table.bytes).sum();
    let largest = found.tables.iter().take(SHOWN);
    let largest: Vec<_> = largest
        .map(|table| format!("{} {}", table.name, size(table.bytes)))
        .collect();
    let free = match found.unused {
        Some(unused) if unused.free > 0 => format!("; {} free in the file", size(unused.free)),
        _ => String::new(),
    };
    report.ok(
        "size",
        format!("{} in all: {}{free}", size(total), largest.join(", ")),
    )
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_role_may_set_what_is_documented_and_no_more() {
        let role = |missing: &[&str], excess: &[&str]| Producer {
            role: "app".into(),
            missing: missing.iter().map(ToString::to_string).collect(),
            excess: excess.iter().map(ToString::to_string).collect(),
            uses_schema: true,
        };
        assert!(wrong(&role(&[], &[])).is_empty());
        assert!(wrong(&role(&["headers", "dedup_key"], &[])).is_empty());
        let [problem] = wrong(&role(&["payload"], &[])).try_into().unwrap();
        assert!(problem.contains("GRANT INSERT (payload)"), "{problem}");
        let [problem] = wrong(&role(&[], &["id", "created_at"])).try_into().unwrap();
        assert!(problem.contains("may set id, created_at"), "{problem}");
    }
}
