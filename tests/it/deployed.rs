//! The deployment files: valid by their schemas and consistent with the program; the containers'
//! commands are run here.

use postrider_store::Backend;
use postrider_tests::{
    Caller, Ended, KEY, Postrider, Process, Receiver, TestDatabase, ended, eventually, project,
    python, python_module,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

/// Manifests of Kubernetes itself; those of others have no schema here.
const MANIFESTS: [&str; 6] = [
    "namespace",
    "config",
    "secret.example",
    "migrate",
    "api",
    "worker",
];

/// What a worker has to finish beyond the longest request: 5 s to record it, 5 s for answers.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn compose_and_manifests_are_valid_by_their_schemas() {
    let mut schema = python_module("check_jsonschema");
    schema.args(["--builtin-schema", "vendor.compose-spec"]);
    ended(schema.arg(project("docker-compose.yml")))
        .await
        .succeeded();
    for version in ["1.30.0", "1.37.0"] {
        let mut validate = python_module("kubernetes_validate");
        validate.args(["--strict", "-k", version]);
        let files = MANIFESTS.map(|name| project(&format!("deploy/kubernetes/{name}.yaml")));
        ended(validate.args(files)).await.succeeded();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_compose_starts_works_with_its_environment() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let compose = yaml("docker-compose.yml").await.remove(0);
    let service = |name: &'static str| Service::new(&compose["services"][name], &database);

    let migrate = service("migrate");
    migrate.run().await.succeeded();
    let (api, workers) = (service("api"), [service("worker"), service("worker")]);
    assert_eq!(compose["services"]["worker"]["deploy"]["replicas"], 2);
    for unstarted in [&api, &workers[0]] {
        let health = unstarted.health().await;
        assert!(health.refused().is_empty(), "it says so on standard output");
    }
    let serving = api.start().await;
    let mut working = Vec::new();
    for worker in &workers {
        working.push(worker.start().await);
    }
    for service in [&api, &workers[0], &workers[1]] {
        eventually(async || {
            let health = service.health().await;
            match health.status.success() {
                true => Ok(()),
                false => Err(health.to_string()),
            }
        })
        .await;
    }

    let receiver = Receiver::accepting().await;
    let url = receiver.url();
    let add = ["hook", "add", "--url", &url, "--event", "invoice.*"];
    api.postrider.json(&add).await;
    let caller = Caller::publishing(&api.postrider, &serving).await;
    let published = caller.publish(r#"{"event_type":"invoice.paid","payload":{}}"#);
    let id = published.await.accepted();
    receiver.wait_for(1).await;
    assert_eq!(receiver.requests()[0].id(), id);
    for mut process in working {
        process.terminate().await;
        assert!(process.ended().await.success(), "{process}");
    }
}

#[tokio::test]
async fn everything_gets_longer_to_stop_than_a_drain_takes() {
    let compose = yaml("docker-compose.yml").await.remove(0);
    let worker = &compose["services"]["worker"];
    let longest = seconds(&worker["environment"]["POSTRIDER_WORKER__REQUEST_TIMEOUT"]);
    assert!(seconds(&worker["stop_grace_period"]) > longest + DRAIN_MARGIN);

    let config = yaml("deploy/kubernetes/config.yaml").await.remove(0);
    let longest = seconds(&config["data"]["POSTRIDER_WORKER__REQUEST_TIMEOUT"]);
    let worker = yaml("deploy/kubernetes/worker.yaml").await.remove(0);
    let grace = &worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let grace = Duration::from_secs(grace.as_u64().expect("seconds"));
    assert!(grace > longest + DRAIN_MARGIN);

    let unit = text("deploy/systemd/postrider.service");
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let stop = seconds(&Value::from(stop.expect("TimeoutStopSec")));
    assert!(stop > Duration::from_secs(15) + DRAIN_MARGIN);
}

#[tokio::test]
async fn services_of_ours_may_nothing_that_they_do_not_need() {
    let compose = yaml("docker-compose.yml").await.remove(0);
    let services = compose["services"].as_object().expect("services");
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        let options = serde_json::json!(["no-new-privileges:true"]);
        assert_eq!(service["security_opt"], options, "{name}");
        assert!(service["healthcheck"].is_object(), "{name}");
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.rsplit_once(':').expect("a tag");
        assert!(
            tag.contains('.') && !tag.contains("latest"),
            "{name}: {image}"
        );
    }
    for role in ["api", "worker"] {
        let manifest = yaml(&format!("deploy/kubernetes/{role}.yaml"))
            .await
            .remove(0);
        let pod = &manifest["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        let may = &container["securityContext"];
        assert_eq!(may["readOnlyRootFilesystem"], true);
        assert_eq!(may["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
        let command = ["serve", "--role", role, "--log-format", "json"];
        assert_eq!(container["args"], serde_json::json!(command));
        assert_eq!(services[role]["command"], serde_json::json!(command));
    }
}

#[test]
fn every_setting_of_a_deployment_is_documented() {
    let documented = text("docs/configuration.md");
    let mut found = BTreeSet::new();
    for file in [
        "Dockerfile",
        "docker-compose.yml",
        "deploy/compose.env.example",
        "deploy/kubernetes/config.yaml",
        "deploy/kubernetes/secret.example.yaml",
        "deploy/kubernetes/keda.yaml",
        "deploy/systemd/postrider.service",
    ] {
        let plain = |c: char| c.is_ascii_uppercase() || c == '_';
        let text = text(file);
        let names = text
            .split(|c| !plain(c))
            .filter(|n| n.starts_with("POSTRIDER_"));
        found.extend(names.map(|name| name.trim_end_matches("_FILE").to_owned()));
    }
    assert!(found.len() >= 5, "{found:?}");
    for name in found {
        assert!(
            documented.contains(&name),
            "docs/configuration.md has no {name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scaler_asks_for_one_number() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let keda = yaml("deploy/kubernetes/keda.yaml").await.remove(1);
    let query = &keda["spec"]["triggers"][0]["metadata"]["query"];
    let query = query.as_str().expect("a query");
    let mut sql = database.connect().await;
    assert_eq!(sql.number(query).await, 0, "nobody has sampled yet");
    // Only an API, so that nobody takes them away.
    let insert = "INSERT INTO postrider_outbox (event_type, payload)
                  SELECT 'a', '{}' FROM generate_series(1, 7)";
    sql.run(insert).await;
    let _api = Postrider::on(&database).serve_as("api").await;
    eventually(async || match sql.number(query).await {
        7 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
}

#[tokio::test]
async fn systemd_is_notified_when_the_service_is_ready_and_when_it_ends() {
    let database = TestDatabase::migrated(Backend::Sqlite).await;
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("notify");
    let heard = UnixDatagram::bind(&path).expect("a socket");
    let postrider = Postrider::on(&database)
        .with("NOTIFY_SOCKET", path.display().to_string())
        .with("WATCHDOG_USEC", "300000");
    let mut serving = postrider.serve().await;
    let mut said = [0; 64];
    let mut next = async || {
        let length = heard.recv(&mut said).await.expect("a word of the service");
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    assert_eq!(next().await, "READY=1");
    assert_eq!(next().await, "WATCHDOG=1");
    assert_eq!(next().await, "WATCHDOG=1", "again and again");
    serving.terminate().await;
    while next().await != "STOPPING=1" {}
    assert!(serving.ended().await.success());
    let unit = text("deploy/systemd/postrider.service");
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nWatchdogSec="));
}

/// A service of compose, to be run here.
struct Service {
    postrider: Postrider,
    command: Vec<String>,
    health: Vec<String>,
}

impl Service {
    /// With the environment that compose would give it. Only what compose fills in from outside
    /// is filled in here: the database, the key, the networks; and the ports are free ones.
    fn new(service: &Value, database: &TestDatabase) -> Self {
        let mut postrider = Postrider::bare();
        for (name, value) in service["environment"].as_object().expect("an environment") {
            let value = value.as_str().expect("a text");
            let value = match name.as_str() {
                "POSTRIDER_DATABASE__URL" => {
                    assert!(value.starts_with("postgres://postrider:${POSTGRES_PASSWORD"));
                    database.url().to_owned()
                }
                "POSTRIDER_SECRETS__KEY" => KEY.to_owned(),
                "POSTRIDER_WORKER__ALLOW_ADDRESSES" => "127.0.0.0/8".to_owned(),
                name if name.ends_with("__LISTEN") => {
                    let (host, _) = value.rsplit_once(':').expect("host and port");
                    format!("{host}:{}", free_port())
                }
                _ => value.to_owned(),
            };
            postrider = postrider.with(name, value);
        }
        let strings = |list: &Value| -> Vec<String> {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            let text = |item: &Value| item.as_str().expect("a text").to_owned();
            list.iter().map(text).collect()
        };
        Self {
            postrider,
            command: strings(&service["command"]),
            health: strings(&service["healthcheck"]["test"]),
        }
    }

    async fn run(&self) -> Ended {
        self.postrider.run(&self.arguments(&self.command)).await
    }

    /// Starts it, and waits until it says that it is ready. Its other output is as compose has
    /// it; what it says of itself is asked for as JSON, to be read here.
    async fn start(&self) -> Process {
        let arguments = [&self.arguments(&self.command)[..], &["--json"]].concat();
        let process = self.postrider.start(&arguments);
        process.wait_for_lines(1).await;
        process
    }

    async fn health(&self) -> Ended {
        let [how, program, arguments @ ..] = self.health.as_slice() else {
            panic!("no health check");
        };
        assert_eq!(
            (how.as_str(), program.as_str()),
            ("CMD", "/usr/local/bin/postrider")
        );
        self.postrider.run(&self.arguments(arguments)).await
    }

    fn arguments<'a>(&self, list: &'a [String]) -> Vec<&'a str> {
        list.iter().map(String::as_str).collect()
    }
}

/// A port that is free now, and seldom taken by others soon.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn yaml(path: &str) -> Vec<Value> {
    let parsed = ended(python("yaml_as_json.py").arg(project(path)))
        .await
        .succeeded();
    serde_json::from_str(&parsed.stdout).expect("JSON")
}

fn seconds(value: &Value) -> Duration {
    let text = value.as_str().expect("a duration");
    let number = text.strip_suffix('s').expect("seconds");
    Duration::from_secs(number.parse().expect("a number of seconds"))
}
