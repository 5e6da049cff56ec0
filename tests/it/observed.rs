//! A deployment under load as Prometheus sees it: every query of every dashboard and rule gets a
//! plausible answer.

use postrider_store::Backend;
use postrider_tests::{
    Caller, PATIENCE, Postrider, Process, Receiver, TestDatabase, dashboards, eventually, project,
    prometheus, rules,
};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Looks at a minute of time series as a panel looks at an hour.
const RATE_INTERVAL: &str = "20s";

/// A year: no age or duration here is longer.
const LONGEST_SECONDS: f64 = 365.0 * 86_400.0;

/// Events of the account `default`, some of them for each hook.
const LOAD: &str = "INSERT INTO postrider_outbox (event_type, payload)
    SELECT (ARRAY['good', 'bad', 'held'])[1 + n % 3], '{\"n\":1}' FROM generate_series(1, 30) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_gets_an_answer_to_every_query_of_dashboards_and_rules() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let postrider = Postrider::on(&database).with("POSTRIDER_RETENTION__EVENTS", "30d");
    let (good, bad) = (
        Receiver::accepting().await,
        Receiver::answering([500]).await,
    );
    for (receiver, event) in [(&good, "good"), (&bad, "bad"), (&good, "held")] {
        let add = ["hook", "add", "--url", &receiver.url(), "--event", event];
        let hook = postrider.json(&add).await;
        if event == "held" {
            let id = hook["id"].as_str().expect("an id");
            postrider.json(&["hook", "pause", id]).await;
        }
    }
    let workers = [
        postrider.serve_as("worker").await,
        postrider.serve_as("worker").await,
    ];
    let api = postrider.serve_as("api").await;
    let caller = Caller::publishing(&postrider, &api).await;
    let watching = Watching::of(&[&workers[0], &workers[1], &api]).await;

    let stop = CancellationToken::new();
    let load = tokio::spawn({
        let stop = stop.clone();
        let mut sql = database.connect().await;
        async move {
            let mut inserted = 0;
            while !stop.is_cancelled() {
                sql.run(LOAD).await;
                let body = r#"{"event_type":"good","payload":{}}"#;
                caller.publish(body).await.accepted();
                inserted += 31;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            inserted
        }
    });
    let queries = queries();
    assert!(queries.len() > 80, "{}", queries.len());
    // Each is asked until it has been answered once; time series need some time to begin.
    let mut open: Vec<_> = queries.iter().collect();
    eventually(async || {
        let mut problems = Vec::new();
        let mut still = Vec::new();
        for query in open.drain(..) {
            if let Err(problem) = watching.plausible(query).await {
                problems.push(problem);
                still.push(query);
            }
        }
        open = still;
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("\n")),
        }
    })
    .await;
    watching.check_rules().await;

    stop.cancel();
    let inserted = load.await.expect("the load");
    for (query, expected) in [
        (
            "sum(postrider_events_fanned_out_total)",
            f64::from(inserted),
        ),
        (
            "sum(postrider_http_requests_total{status=\"202\"})",
            f64::from(inserted / 31),
        ),
        ("count(postrider_build_info)", 3.0),
        ("max(postrider_hooks{status=\"paused\"})", 1.0),
        ("max(postrider_hooks_held_back{phase=\"backed_off\"})", 1.0),
        ("sum(postrider_worker_slots)", 512.0),
        ("max(postrider_outbox_rows)", 0.0),
        ("max(postrider_due_deliveries)", 0.0),
        (
            "max(postrider_held_deliveries)",
            f64::from(inserted / 31 * 10),
        ),
        // All processes show the same sample.
        (
            "count(count by (instance) (postrider_held_deliveries))",
            3.0,
        ),
        (
            "max(postrider_held_deliveries) - min(postrider_held_deliveries)",
            0.0,
        ),
        ("max(postrider_db_partitions_ahead_days)", 3.0),
        ("sum(up)", 3.0),
    ] {
        eventually(async || match watching.values(query).await.as_slice() {
            [value] if *value == expected => Ok(()),
            other => Err(format!("{query}: {other:?} instead of {expected}")),
        })
        .await;
    }
    let sum = "sum(postrider_attempts_total{outcome=\"refused\", status_class=\"5xx\"})";
    let refused = watching.values(sum).await;
    assert_eq!(refused, [bad.requests().len() as f64]);
}

/// A query, and where it stands.
struct Query {
    place: String,
    text: String,
    unit: String,
}

/// The queries of all dashboards, and the series that alerts watch.
fn queries() -> Vec<Query> {
    let mut all = Vec::new();
    for board in dashboards() {
        for panel in &board.panels {
            all.extend(panel.queries.iter().map(|query| {
                Query {
                    place: format!("{} {:?}", board.uid, panel.title),
                    text: query
                        .replace("$job", ".+")
                        .replace("$instance", ".+")
                        .replace("$__rate_interval", RATE_INTERVAL),
                    unit: panel.unit.clone(),
                }
            }));
        }
    }
    for rule in rules() {
        all.extend(rule.series().into_iter().map(|series| Query {
            place: rule.name.clone(),
            text: series,
            unit: String::new(),
        }));
    }
    all
}

/// A Prometheus that scrapes every second.
struct Watching {
    address: String,
    _process: Process,
    _folder: TempDir,
}

impl Watching {
    async fn of(processes: &[&Process]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut targets = Vec::new();
        for process in processes {
            targets.push(format!("'{}'", process.address_of("metrics").await));
        }
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: postrider\n  static_configs: [{{targets: [{}]}}]\n",
            project("grafana/alerts.yml").display(),
            targets.join(", ")
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("write the configuration");
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("its address").to_string();
        drop(free);
        let mut command = prometheus("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ));
        command.arg(format!("--web.listen-address={address}"));
        let watching = Self {
            _process: Process::start("prometheus", &mut command),
            address,
            _folder: folder,
        };
        eventually(async || match watching.ask("/-/ready").await {
            Ok(answer) if answer.starts_with("HTTP/1.0 200") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        watching
    }

    async fn ask(&self, path: &str) -> std::io::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| panic!("Prometheus does not answer {path}"))
    }

    async fn api(&self, path: &str) -> Value {
        let answer = self.ask(path).await.expect("an answer of Prometheus");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let json: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].clone()
    }

    /// The values that a query has now.
    async fn values(&self, query: &str) -> Vec<f64> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("/api/v1/query?query={query}")).await;
        let result = data["result"].as_array().expect("a result");
        let value = |series: &Value| {
            let text = series["value"][1].as_str().expect("a value");
            text.parse().expect("a number")
        };
        result.iter().map(value).collect()
    }

    /// Whether a query has an answer that can be true: some number, none below 0, parts of a
    /// whole up to 1, times shorter than a year.
    async fn plausible(&self, query: &Query) -> Result<(), String> {
        let values = self.values(&query.text).await;
        let told = || format!("{}: {} is {values:?}", query.place, query.text);
        // What has not been called yet has no mean and no percentile.
        let numbers: Vec<_> = values.iter().filter(|value| !value.is_nan()).collect();
        let longest = match query.unit.as_str() {
            "percentunit" => 1.0,
            "s" => LONGEST_SECONDS,
            _ => f64::MAX,
        };
        let possible = numbers.iter().all(|value| (0.0..=longest).contains(*value));
        match !numbers.is_empty() && possible {
            true => Ok(()),
            false => Err(told()),
        }
    }

    /// All rules are evaluated without an error.
    async fn check_rules(&self) {
        let data = self.api("/api/v1/rules").await;
        let groups = data["groups"].as_array().expect("groups");
        let evaluated: Vec<_> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules"))
            .collect();
        assert_eq!(evaluated.len(), rules().len());
        for rule in evaluated {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    }
}
