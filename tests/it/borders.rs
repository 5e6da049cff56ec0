//! The borders between the crates, as `Cargo.toml` draws them.
//!
//! Arrows: core ← producer ← store ← {worker, api} ← {otel, compat, bench} ← cli. The cli depends
//! on otel through a feature only. The tables below list all that each crate may use: of this
//! workspace, and of the libraries that belong to one layer.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// The crates of this workspace that each crate may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("postrider-core", &[]),
    ("postrider-producer", &["postrider-core"]),
    ("postrider-store", &["postrider-core", "postrider-producer"]),
    ("postrider-worker", &["postrider-core", "postrider-store"]),
    ("postrider-api", &["postrider-core", "postrider-store"]),
    (
        "postrider-otel",
        &["postrider-api", "postrider-core", "postrider-worker"],
    ),
    (
        "postrider-bench",
        &["postrider-core", "postrider-store", "postrider-worker"],
    ),
    (
        "postrider-compat",
        &[
            "postrider-api",
            "postrider-core",
            "postrider-store",
            "postrider-worker",
        ],
    ),
    (
        "postrider",
        &[
            "postrider-api",
            "postrider-bench",
            "postrider-compat",
            "postrider-core",
            "postrider-otel",
            "postrider-producer",
            "postrider-store",
            "postrider-worker",
        ],
    ),
];

/// Libraries that belong to one layer, and the crates that may use them.
const LAYER_LIBRARIES: &[(&str, &[&str])] = &[
    (
        "sqlx",
        &["postrider-producer", "postrider-store", "postrider-bench"],
    ),
    ("axum", &["postrider-api", "postrider-compat", "postrider"]),
    ("reqwest", &["postrider-bench"]),
    ("hyper", &["postrider-worker", "postrider-api"]),
    (
        "hyper-util",
        &["postrider-worker", "postrider-api", "postrider-bench"],
    ),
    ("opentelemetry", &["postrider-otel"]),
    ("opentelemetry-otlp", &["postrider-otel"]),
    ("opentelemetry_sdk", &["postrider-otel"]),
];

/// Libraries that would give the core input or output.
const NOT_IN_THE_CORE: &[&str] = &["tokio", "sqlx", "reqwest", "hyper", "axum", "tracing"];

/// The black-box tests may use everything.
const TESTS: &str = "postrider-tests";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency. Development dependencies are not restricted.
    kind: Option<String>,
    optional: bool,
}

#[test]
fn each_crate_uses_only_the_crates_below_it() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    for (package, dependencies) in workspace() {
        if package == TESTS {
            continue;
        }
        let Some(allowed) = allowed.get(package.as_str()) else {
            panic!("{package} is new: add what it may use to ALLOWED in borders.rs");
        };
        for dependency in dependencies {
            let ours = dependency == "postrider" || dependency.starts_with("postrider-");
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}: borders.rs does not allow it"
            );
        }
    }
}

#[test]
fn a_layers_library_is_used_by_that_layer_only() {
    for (package, dependencies) in workspace() {
        for (library, users) in LAYER_LIBRARIES {
            assert!(
                package == TESTS
                    || users.contains(&package.as_str())
                    || !dependencies.iter().any(|name| name == library),
                "{package} must not depend on {library}: only {} may",
                users.join(", ")
            );
        }
    }
}

#[test]
fn the_core_has_no_input_or_output() {
    let workspace = workspace();
    let core = workspace.get("postrider-core").expect("the core");
    for library in NOT_IN_THE_CORE {
        assert!(
            !core.iter().any(|name| name == library),
            "postrider-core must not use {library}"
        );
    }
}

#[test]
fn the_binary_depends_on_opentelemetry_through_a_feature_only() {
    let packages = packages();
    let binary = packages.iter().find(|package| package.name == "postrider");
    let binary = binary.expect("the binary");
    let mut dependencies = binary.dependencies.iter();
    let otel = dependencies.find(|dependency| dependency.name == "postrider-otel");
    assert!(otel.expect("the dependency").optional);
    assert!(binary.features.contains_key("otel"));
    assert!(!binary.features.contains_key("default"));
}

/// The packages of the workspace and their dependencies, without development dependencies.
fn workspace() -> BTreeMap<String, Vec<String>> {
    packages()
        .into_iter()
        .map(|package| {
            let dependencies = package
                .dependencies
                .into_iter()
                .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
                .map(|dependency| dependency.name)
                .collect();
            (package.name, dependencies)
        })
        .collect()
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{output:?}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo's metadata");
    metadata.packages
}
