//! The checks of `postrider check` inside the database: partitions, old transactions, dead rows,
//! grants, sizes.

use super::check_report::CheckReport;
use crate::failure::Result;
use crate::output::moment;
use postrider_core::Timestamp;
use postrider_store::{Diagnostics, Producer, Store};
use std::time::Duration;

/// A transaction that is open for longer is a warning.
const LONG: Duration = Duration::from_secs(300);

/// More dead rows in a queue table are a warning.
const MANY_DEAD: u64 = 200_000;

/// The tables that serve as queues.
const QUEUES: [&str; 3] = [
    "postrider_outbox",
    "postrider_deliveries",
    "postrider_leases",
];

/// A longer write-ahead log is a warning, in bytes.
const LONG_LOG: u64 = 512 << 20;

/// Number of tables that are listed with their sizes.
const SHOWN: usize = 4;

/// Reports the diagnostics of the database.
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
                "{} created by hand, such as {first}: Postrider neither lists nor prunes their \
                 rows, and beside a default partition it cannot prune at all; move their rows \
                 away and drop them",
                found.foreign_partitions.len()
            ),
        )?;
    }
    match found.missing_partitions.as_slice() {
        [] if found.unused.is_some() => Ok(()),
        [] => report.ok("partitions", "exist for today and the next days"),
        [first, rest @ ..] => report.warning(
            "partitions",
            format!(
                "{first} is missing, and {} more: without them no event of that day can be fanned \
                 out. A running worker creates them in advance; if one is running, see its log. \
                 `postrider migrate` creates them too",
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
                    "{} holds an old snapshot of the database{since}: dead rows cannot be \
                     vacuumed and history cannot be pruned; {}",
                    old.what, old.remedy
                ),
            )
        }
        _ if !found.sees_all_sessions => report.ok(
            "transactions",
            "none of this role is open for long (to see those of other roles, \
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
                    "the write-ahead log beside the file has grown to {}: a process keeps a read \
                     transaction open; end it, and the log shrinks",
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
                "{} has {} dead rows, which slow down finding work: check that autovacuum is on \
                 and that no transaction stays open, or run VACUUM {}",
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
        for problem in grant_problems(producer) {
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

/// The problems with the grants of a role.
fn grant_problems(producer: &Producer) -> Vec<String> {
    let role = &producer.role;
    let mut problems = Vec::new();
    if !producer.uses_schema {
        problems.push(format!(
            "role {role} may insert into the outbox but not use its schema: GRANT USAGE ON SCHEMA \
             to it"
        ));
    }
    // The other columns are optional: a role that never sets them needs no grant.
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
            "role {role} may set {} of the outbox, which only Postrider may set: REVOKE INSERT ON \
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
        format!("{} in total: {}{free}", size(total), largest.join(", ")),
    )
}

/// A number of bytes with a binary unit.
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
    fn sizes_have_binary_units() {
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
        assert!(grant_problems(&role(&[], &[])).is_empty());
        assert!(grant_problems(&role(&["headers", "dedup_key"], &[])).is_empty());
        let [problem] = grant_problems(&role(&["payload"], &[])).try_into().unwrap();
        assert!(problem.contains("GRANT INSERT (payload)"), "{problem}");
        let [problem] = grant_problems(&role(&[], &["id", "created_at"]))
            .try_into()
            .unwrap();
        assert!(problem.contains("may set id, created_at"), "{problem}");
    }
}
