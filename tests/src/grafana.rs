//! The dashboards and alert rules of `grafana/`, as tests read them.

use crate::project;
use serde_json::Value;
use std::collections::BTreeMap;

/// A dashboard, as it is in its file.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// The name by which links find it.
    pub uid: String,
    /// All of it.
    pub json: Value,
    /// Its panels, rows left out.
    pub panels: Vec<Panel>,
}

/// A panel of a dashboard.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its number in the dashboard.
    pub id: u64,
    /// Its title.
    pub title: String,
    /// What its values are.
    pub unit: String,
    /// What it asks Prometheus.
    pub queries: Vec<String>,
    /// All of it.
    pub json: Value,
}

/// A rule of `grafana/alerts.yml`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Whether it is an alert; else it makes a series of that name.
    pub alert: bool,
    /// Its text, without the line that names it.
    pub text: String,
}

/// All dashboards.
///
/// # Panics
/// When one cannot be read.
pub fn dashboards() -> Vec<Dashboard> {
    let folder = std::fs::read_dir(project("grafana/dashboards")).expect("the dashboards");
    let mut all: Vec<_> = folder
        .map(|file| {
            let path = file.expect("a dashboard").path();
            let text = std::fs::read_to_string(&path).expect("a dashboard");
            let json: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let panels = json["panels"].as_array().expect("panels");
            let panels = panels.iter().filter(|panel| panel["type"] != "row");
            Dashboard {
                uid: text_of(&json["uid"]),
                panels: panels.map(panel).collect(),
                json,
            }
        })
        .collect();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    all
}

/// The rules, in their order.
///
/// # Panics
/// When they cannot be read.
pub fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string(project("grafana/alerts.yml")).expect("the rules");
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let begins = ["- alert: ", "- record: "]
            .iter()
            .find_map(|begin| Some((*begin, trimmed.strip_prefix(begin)?)));
        match (begins, rules.last_mut()) {
            (Some((begin, name)), _) => rules.push(Rule {
                name: name.to_owned(),
                alert: begin.contains("alert"),
                text: String::new(),
            }),
            (None, Some(rule)) => {
                rule.text.push_str(line);
                rule.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(!rules.is_empty());
    rules
}

impl Rule {
    /// The value of a field on one line.
    ///
    /// # Panics
    /// When there is none.
    pub fn field(&self, name: &str) -> &str {
        let begin = format!("{name}: ");
        let mut lines = self.text.lines();
        let value = lines.find_map(|line| line.trim_start().strip_prefix(&begin));
        value.unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    /// The names of series in its expression.
    pub fn series(&self) -> Vec<String> {
        let end = ["for:", "labels:", "annotations:"]
            .iter()
            .filter_map(|field| self.text.find(&format!("        {field}")))
            .min();
        let expression = &self.text[..end.unwrap_or(self.text.len())];
        names(expression, series_char)
            .into_iter()
            .filter(|name| name.contains("postrider_"))
            .collect()
    }
}

/// What a query asks of a metric: the values that its labels must have, as far as they must be
/// equal to something, and else nothing for each label that is named.
pub type Selectors = Vec<(String, BTreeMap<String, Option<String>>)>;

/// The metrics that a query uses, each with the selectors in its braces.
pub fn selectors(query: &str) -> Selectors {
    let mut found = Vec::new();
    for (at, _) in query.match_indices(['p', 'A']) {
        let before = query[..at].chars().next_back();
        let name: String = query[at..]
            .chars()
            .take_while(|c| series_char(*c))
            .collect();
        let is_name = ["postrider_", "process_", "ALERTS"]
            .iter()
            .any(|begin| name.starts_with(begin));
        if !is_name || before.is_some_and(series_char) {
            continue;
        }
        let rest = &query[at + name.len()..];
        let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = braces.map_or("", |(inside, _)| inside);
        found.push((name, labels(matchers)));
    }
    found
}

/// Every name in a text that could be one of a metric, a table or a function of ours.
pub fn our_names(text: &str) -> Vec<String> {
    let ours = |name: &String| name.starts_with("postrider_");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    names(text, plain).into_iter().filter(ours).collect()
}

fn labels(matchers: &str) -> BTreeMap<String, Option<String>> {
    let parts = matchers.split(", ").filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let at = part.find(['=', '!']).expect("a matcher");
            let (label, matcher) = part.split_at(at);
            let exact = matcher.strip_prefix("=\"");
            let value = exact.map(|value| value.trim_end_matches('"').to_owned());
            (label.to_owned(), value)
        })
        .collect()
}

fn series_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

fn names(text: &str, is_part: impl Fn(char) -> bool) -> Vec<String> {
    text.split(|c| !is_part(c))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn panel(json: &Value) -> Panel {
    let targets = json["targets"].as_array().expect("targets");
    Panel {
        id: json["id"].as_u64().expect("an id"),
        title: text_of(&json["title"]),
        unit: text_of(&json["fieldConfig"]["defaults"]["unit"]),
        queries: targets
            .iter()
            .map(|target| text_of(&target["expr"]))
            .collect(),
        json: json.clone(),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart() {
        let query =
            r#"sum by (job) (rate(postrider_a_total{job=~"$job", x="1"}[5m])) / process_b > 0"#;
        let found = selectors(query);
        assert_eq!(found.len(), 2);
        let (name, labels) = &found[0];
        assert_eq!(name, "postrider_a_total");
        assert_eq!(labels["x"].as_deref(), Some("1"));
        assert_eq!(labels["job"], None);
        assert_eq!(found[1].0, "process_b");
    }
}
