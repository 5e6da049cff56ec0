//! No statement of the hot path scans a table, however many rows it has.

use super::*;
use crate::sqlite::leased_rows::leased_columns;
use sqlx::{AssertSqlSafe, Row};

/// The files whose statements run all the time.
const HOT: [(&str, &str); 12] = [
    ("outbox.rs", include_str!("../outbox.rs")),
    ("outbox_rows.rs", include_str!("../outbox_rows.rs")),
    ("leases.rs", include_str!("../leases.rs")),
    ("batches.rs", include_str!("../batches.rs")),
    ("recover.rs", include_str!("../recover.rs")),
    ("settle.rs", include_str!("../settle.rs")),
    ("attempt_rows.rs", include_str!("../attempt_rows.rs")),
    ("settle_rows.rs", include_str!("../settle_rows.rs")),
    ("lease_group.rs", include_str!("../lease_group.rs")),
    ("health.rs", include_str!("../health.rs")),
    ("gates.rs", include_str!("../gates.rs")),
    ("upkeep.rs", include_str!("../upkeep.rs")),
];

/// Statements that begin at one end of a table and stop at their limit, or after one row.
const FROM_ONE_END: [&str; 5] = [
    "peek",
    "fan_out_head",
    "fan_out_bound",
    "fan_out_first",
    "slots",
];

/// Statements that look at every lease row (never more than there are fan-outs in flight), or
/// at every hook.
const OF_ALL: [&str; 4] = [
    "lease_groups",
    "recover_leases",
    "recover_any",
    "cancel_hooks",
];

/// Statements that must not sort.
const UNSORTED: [&str; 4] = ["lease", "due_hooks", "recover_find", "cancel_hooks"];

/// The statements in a source file, each with its name.
///
/// Every statement must be one plain literal that begins with its name, or such a literal and the
/// columns of a leased row after it: of anything else, only a part would be checked.
fn statements(file: &str, source: &'static str) -> Vec<(&'static str, &'static str)> {
    const BEGINNING: &str = "\"-- postrider: ";
    let mut found = Vec::new();
    for (at, _) in source.match_indices(BEGINNING) {
        let literal = &source[at + BEGINNING.len()..];
        let (name, statement) = literal.split_once('\n').expect("a line with the name");
        let (statement, after) = statement.split_once('"').expect("the end of the literal");
        let before = source[..at].trim_end();
        let plain = match before.ends_with("concat!(") {
            true => after
                .split_whitespace()
                .take(3)
                .eq([",", "leased_columns!(),", "))"]),
            false => !before.ends_with(['#', '!']),
        };
        assert!(
            plain && !statement.contains('\\'),
            "{file}: {name} is no plain literal"
        );
        found.push((name, statement));
    }
    let named = source.matches("-- postrider: ").count();
    assert_eq!(found.len(), named, "{file}: not every statement was found");
    assert!(named > 0, "{file}: no statement was found");
    found
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let file = TestFile::new().await;
    let mut connection = file.application().await;
    let all = HOT
        .into_iter()
        .flat_map(|(file, source)| statements(file, source));
    let all: Vec<_> = all.collect();
    for (name, statement) in &all {
        let returned = match statement.trim_end().ends_with("RETURNING") {
            true => leased_columns!(),
            false => "",
        };
        let explain = format!("EXPLAIN QUERY PLAN {statement}{returned}");
        let plan = sqlx::query(AssertSqlSafe(explain))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let walks = |line: &&String| {
            let table = line.strip_prefix("SCAN ").unwrap_or_default();
            let table = table.split(' ').next().unwrap_or_default();
            let stops = table == "postrider_meta"
                || FROM_ONE_END.contains(name)
                || table == "postrider_leases" && OF_ALL.contains(name);
            matches!(table, "d" | "o" | "h") || table.starts_with("postrider_") && !stops
        };
        assert_eq!(plan.iter().find(walks), None, "{name}: {plan:#?}");
        // A primary key or an index is only of use as far as its columns are given.
        let half = |line: &&String| line.contains("(slot=?)") && !OF_ALL.contains(name);
        assert_eq!(plan.iter().find(half), None, "{name}: {plan:#?}");
        if UNSORTED.contains(name) {
            let sorts = |line: &&String| line.contains("TEMP B-TREE");
            assert_eq!(plan.iter().find(sorts), None, "{name}: {plan:#?}");
        }
    }
    for expected in FROM_ONE_END.iter().chain(&OF_ALL).chain(&UNSORTED) {
        let found = all.iter().any(|(name, _)| name == expected);
        assert!(found, "no statement is called {expected} any more");
    }
}
