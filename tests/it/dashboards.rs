//! Dashboards, alert rules and documents name only what exists, and cover all of it.
//!
//! The rules for dashboards are those that Grafana's dashboard-linter publishes, stated again.

use postrider_tests::{
    Dashboard, Panel, dashboards, ended, our_names, project, prometheus, rules, selectors,
};
use postrider_worker::{Entry, Kind, Metrics};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Labels that Prometheus puts to every series, and that of buckets.
const EVERYWHERE: [&str; 3] = ["job", "instance", "le"];

/// The cases of the alerts.
const CASES: [&str; 2] = ["grafana/alerts_prompt_test.yml", "grafana/alerts_test.yml"];

/// Units of Grafana that our panels have.
const UNITS: [&str; 7] = ["s", "ops", "reqps", "short", "bytes", "percentunit", "none"];

/// Names of ours in documents that are neither metrics nor in the migrations.
const OTHER_NAMES: [&str; 9] = [
    "postrider_api",
    "postrider_core",
    "postrider_migrations",
    "postrider_moved",
    "postrider_producer",
    "postrider_store",
    "postrider_worker",
    "postrider_role",
    "postrider_slots",
];

#[test]
fn each_dashboard_has_the_variables_that_its_queries_use() {
    for Dashboard { uid, json, .. } in dashboards() {
        let variables = json["templating"]["list"].as_array().expect("variables");
        let of = |name: &str| {
            let found: Vec<_> = variables.iter().filter(|v| v["name"] == name).collect();
            assert_eq!(found.len(), 1, "{uid}: {name}");
            found[0]
        };
        let source = of("datasource");
        assert_eq!(source["type"], "datasource", "{uid}");
        assert_eq!(source["query"], "prometheus", "{uid}");
        assert_eq!(source["label"], "Data Source", "{uid}");
        for name in ["job", "instance"] {
            let variable = of(name);
            assert_eq!(variable["type"], "query", "{uid}: {name}");
            assert_eq!(variable["label"], name, "{uid}: {name}");
            assert_eq!(
                variable["datasource"]["uid"], "${datasource}",
                "{uid}: {name}"
            );
            assert_eq!(variable["multi"], true, "{uid}: {name}");
            assert_eq!(variable["includeAll"], true, "{uid}: {name}");
            assert_eq!(variable["allValue"], ".+", "{uid}: {name}");
            assert_eq!(
                variable["refresh"], 2,
                "{uid}: {name}: on a change of the time"
            );
            let query = variable["query"]["query"].as_str().expect("a query");
            assert!(
                query.starts_with("label_values(postrider_build_info"),
                "{query}"
            );
            assert!(query.ends_with(&format!(", {name})")), "{query}");
        }
    }
}

#[test]
fn each_dashboard_can_be_provisioned_and_not_edited() {
    let all = dashboards();
    let uids: BTreeSet<_> = all.iter().map(|board| board.uid.as_str()).collect();
    let expected = [
        "postrider-database",
        "postrider-overview",
        "postrider-worker",
    ];
    assert_eq!(uids, BTreeSet::from(expected));
    for Dashboard { uid, json, panels } in &all {
        assert_eq!(json["id"], Value::Null, "{uid}");
        assert_eq!(json["editable"], false, "{uid}");
        assert_eq!(json.get("__inputs"), None, "{uid}");
        assert!(json["schemaVersion"].as_u64() <= Some(41), "{uid}");
        assert!(
            json["title"]
                .as_str()
                .is_some_and(|t| t.starts_with("Postrider / ")),
            "{uid}"
        );
        assert!(
            !json["description"].as_str().unwrap_or_default().is_empty(),
            "{uid}"
        );
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel.id).collect();
        assert_eq!(ids.len(), panels.len(), "{uid}: a number for each panel");
    }
}

#[test]
fn each_panel_says_what_it_shows_in_which_unit() {
    for_each_panel(|place, panel| {
        let json = &panel.json;
        assert_eq!(json["datasource"]["type"], "prometheus", "{place}");
        assert_eq!(json["datasource"]["uid"], "${datasource}", "{place}");
        assert!(!panel.title.is_empty(), "{place}");
        let description = json["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{place}: {description:?}");
        assert!(
            UNITS.contains(&panel.unit.as_str()),
            "{place}: {}",
            panel.unit
        );
        assert!(!panel.queries.is_empty(), "{place}");
        for target in json["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{place}");
        }
    });
}

#[test]
fn each_query_goes_by_the_variables_and_the_interval_of_the_panel() {
    let catalogue = catalogue();
    for_each_query(|place, query| {
        let found = selectors(query);
        assert!(!found.is_empty(), "{place}: {query}");
        for (name, _) in &found {
            assert!(
                query.contains(&format!("{name}{{")),
                "{place}: {name} without matchers"
            );
            let begin = format!("{name}{{");
            let matchers = query.split(&begin).skip(1);
            for inside in matchers.filter_map(|rest| rest.split_once('}')) {
                assert!(inside.0.contains("job=~\"$job\""), "{place}: {query}");
                // Alerts are about jobs; most know no instance.
                let instance = inside.0.contains("instance=~\"$instance\"");
                assert!(instance || name == "ALERTS", "{place}: {query}");
            }
            let Some((entry, _)) = catalogue.get(name.as_str()) else {
                continue;
            };
            if entry.kind != Kind::Gauge {
                let rate = format!("rate({name}{{");
                assert!(query.contains(&rate), "{place}: {name} only grows: {query}");
            }
        }
        for range in query.split('[').skip(1) {
            assert!(range.starts_with("$__rate_interval]"), "{place}: {query}");
        }
    });
}

#[test]
fn what_is_named_exists_with_its_labels_and_values() {
    let catalogue = catalogue();
    let known = |place: &str, query: &str| {
        for (name, labels) in selectors(query) {
            if name == "ALERTS" {
                continue;
            }
            let Some((entry, _)) = catalogue.get(name.as_str()) else {
                panic!("{place}: there is no metric {name}");
            };
            for (label, value) in labels {
                if EVERYWHERE.contains(&label.as_str()) {
                    continue;
                }
                let found = entry.labels.iter().find(|(known, _)| *known == label);
                let (_, values) = found.unwrap_or_else(|| panic!("{place}: {name} has no {label}"));
                if let Some(value) = value.filter(|_| !values.is_empty()) {
                    assert!(
                        values.contains(&value),
                        "{place}: no {label} {value} of {name}"
                    );
                }
            }
            for by in query.split(" by (").skip(1) {
                let (grouped, _) = by.split_once(')').expect("an end of the labels");
                for label in grouped.split(", ") {
                    let own = entry.labels.iter().any(|(known, _)| *known == label);
                    let fits = own || EVERYWHERE.contains(&label);
                    assert!(fits, "{place}: {name} has no {label}");
                }
            }
        }
    };
    for_each_query(|place, query| known(place, query));
    let records: BTreeSet<_> = rules().iter().map(|rule| rule.name.clone()).collect();
    for rule in rules() {
        for name in rule.series() {
            let exists = match name.contains(':') {
                true => records.contains(&name),
                false => catalogue.contains_key(name.as_str()),
            };
            assert!(exists, "{}: there is no {name}", rule.name);
        }
    }
}

#[test]
fn every_metric_is_shown() {
    let mut shown = BTreeSet::new();
    for_each_query(|_, query| shown.extend(selectors(query).into_iter().map(|(name, _)| name)));
    for entry in Metrics::new().catalogue() {
        let is_shown = entry.series().iter().any(|series| shown.contains(series));
        assert!(is_shown, "no dashboard shows {}", entry.name);
    }
}

#[test]
fn documents_name_nothing_that_is_not_there() {
    let mut known: BTreeSet<String> = OTHER_NAMES.map(str::to_owned).into();
    for entry in Metrics::new().catalogue() {
        known.insert(entry.name.clone());
        known.extend(entry.series());
    }
    for database in ["postgres", "sqlite"] {
        let folder = project("migrations").join(database);
        for file in std::fs::read_dir(folder).expect("the migrations") {
            let path = file.expect("a migration").path();
            known.extend(our_names(
                &std::fs::read_to_string(path).expect("a migration"),
            ));
        }
    }
    let mut documents: Vec<_> = std::fs::read_dir(project("docs"))
        .expect("the documents")
        .map(|file| file.expect("a document").path())
        .collect();
    documents.push(project("README.md"));
    documents.push(project("CHANGELOG.md"));
    for path in documents
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(path).expect("a document");
        for name in our_names(&text) {
            // `postrider_…` stands for all of them, and `postrider_bench_…` for databases.
            let general = name.ends_with('_') || name.starts_with("postrider_bench");
            let exists = general || known.contains(&name);
            assert!(exists, "{}: there is no {name}", path.display());
        }
    }
}

#[test]
fn each_alert_has_a_panel_a_section_of_the_runbook_and_cases() {
    let runbook = std::fs::read_to_string(project("docs/runbook.md")).expect("the runbook");
    let cases = CASES.map(|file| std::fs::read_to_string(project(file)).expect("the cases"));
    let cases = cases.concat();
    let boards = dashboards();
    let mut alerts = BTreeSet::new();
    for alert in rules().iter().filter(|rule| rule.alert) {
        let name = &alert.name;
        alerts.insert(name.clone());
        let link = alert.field("dashboard_url");
        let (uid, panel) = link
            .strip_prefix("/d/")
            .and_then(|rest| rest.split_once("?viewPanel="))
            .unwrap_or_else(|| panic!("{name}: {link}"));
        let board = boards.iter().find(|board| board.uid == uid);
        let board = board.unwrap_or_else(|| panic!("{name}: no dashboard {uid}"));
        let found = board.panels.iter().any(|p| p.id.to_string() == panel);
        assert!(found, "{name}: no panel {panel} of {uid}");
        let section = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(alert.field("runbook_url"), section);
        let (_, section) = runbook
            .split_once(&format!("\n## {name}\n"))
            .unwrap_or_else(|| panic!("the runbook has no section {name}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        for part in ["**What it means.**", "**How to look.**", "**What to do.**"] {
            assert!(section.contains(part), "the runbook on {name}: no {part}");
        }
        alert.field("summary");
        alert.field("description");
        alert.field("severity");
        let of_alert: Vec<_> = cases.split("alertname: ").skip(1).collect();
        let of_alert = of_alert.iter().filter_map(|case| {
            let (tested, rest) = case.split_once('\n')?;
            (tested == name).then_some(rest.trim_start().starts_with("exp_alerts: []"))
        });
        let quiet: BTreeSet<_> = of_alert.collect();
        assert_eq!(
            quiet,
            BTreeSet::from([false, true]),
            "{name}: cases that fire and do not"
        );
    }
    let sections: BTreeSet<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.starts_with("Postrider"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        sections, alerts,
        "the runbook speaks of the alerts that there are"
    );
}

#[tokio::test]
async fn the_rules_pass_their_own_cases() {
    for arguments in [
        ["check", "rules", "grafana/alerts.yml"],
        ["test", "rules", CASES[0]],
        ["test", "rules", CASES[1]],
    ] {
        let mut promtool = prometheus("promtool");
        let command = promtool.args(arguments).current_dir(project("."));
        ended(command).await.succeeded();
    }
}

#[tokio::test]
async fn every_query_of_a_dashboard_can_be_parsed() {
    let mut scratch = String::from("groups:\n- name: queries\n  rules:\n");
    let mut count = 0;
    for_each_query(|_, query| {
        let query = query.replace("$__rate_interval", "1m").replace('\'', "''");
        // Writing to a string cannot fail.
        let _ = writeln!(scratch, "  - record: query:{count}\n    expr: '{query}'");
        count += 1;
    });
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, scratch).expect("write the queries");
    let mut promtool = prometheus("promtool");
    let command = promtool.args(["check", "rules"]).arg(&file);
    let checked = ended(command).await.succeeded();
    assert!(
        checked.stdout.contains(&format!("{count} rules found")),
        "{checked}"
    );
}

/// Every series that a process serves, with its metric.
fn catalogue() -> BTreeMap<String, (Entry, String)> {
    let mut all = BTreeMap::new();
    for entry in Metrics::new().catalogue() {
        for series in entry.series() {
            all.insert(series.clone(), (entry.clone(), series));
        }
    }
    all
}

fn for_each_panel(mut see: impl FnMut(&str, &Panel)) {
    for board in dashboards() {
        for panel in &board.panels {
            see(
                &format!("{} {} {:?}", board.uid, panel.id, panel.title),
                panel,
            );
        }
    }
}

fn for_each_query(mut see: impl FnMut(&str, &str)) {
    for_each_panel(|place, panel| {
        for query in &panel.queries {
            see(place, query);
        }
    });
}
