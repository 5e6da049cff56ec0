//! No statement of the hot path walks through a table, whatever waits in it.

use super::*;
use sqlx::{AssertSqlSafe, Row};

/// The files whose statements run all the time.
const HOT: [&str; 12] = [
    include_str!("../outbox.rs"),
    include_str!("../outbox_rows.rs"),
    include_str!("../leases.rs"),
    include_str!("../batches.rs"),
    include_str!("../recover.rs"),
    include_str!("../settle.rs"),
    include_str!("../attempt_rows.rs"),
    include_str!("../settle_rows.rs"),
    include_str!("../lease_group.rs"),
    include_str!("../health.rs"),
    include_str!("../gates.rs"),
    include_str!("../upkeep.rs"),
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
const OF_ALL: [&str; 4] = ["started", "recover_started", "recover_any", "cancel_hooks"];

/// The statements in a source file, each with its name.
fn statements(source: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    source.split("\"-- postrider: ").skip(1).map(|rest| {
        let (name, statement) = rest.split_once('\n').unwrap();
        (name, statement.split('"').next().unwrap())
    })
}

#[tokio::test]
async fn every_statement_goes_by_an_index() {
    let file = TestFile::new().await;
    let mut connection = file.application().await;
    let mut seen = 0;
    for (name, statement) in HOT.into_iter().flat_map(statements) {
        // Columns that a macro names are no part of the literal, and of no plan.
        let returned = match statement.trim_end().ends_with("RETURNING") {
            true => "id",
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
                || FROM_ONE_END.contains(&name)
                || table == "postrider_leases" && OF_ALL.contains(&name);
            matches!(table, "d" | "o" | "h") || table.starts_with("postrider_") && !stops
        };
        assert_eq!(plan.iter().find(walks), None, "{name}: {plan:#?}");
        // A primary key or an index is only of use as far as its columns are given.
        let half = |line: &&String| line.contains("(slot=?)") && !OF_ALL.contains(&name);
        assert_eq!(plan.iter().find(half), None, "{name}: {plan:#?}");
        if matches!(
            name,
            "lease" | "due_hooks" | "recover_find" | "cancel_hooks"
        ) {
            let sorts = |line: &&String| line.contains("TEMP B-TREE");
            assert_eq!(plan.iter().find(sorts), None, "{name}: {plan:#?}");
        }
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}
