//! The borders between the crates, as `Cargo.toml` draws them, and the bounds within each crate:
//! how far files may import in circles, how large a trait may be, and that documentation says
//! something.
//!
//! Arrows: core ← producer ← store ← {worker, api} ← {otel, compat, bench} ← cli. The cli depends
//! on otel through a feature only. The tables below list all that each crate may use: of this
//! workspace, and of the libraries that belong to one layer.

use crate::doc_texts::empty_docs;
use crate::import_graph::ImportGraph;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
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

/// The most files of a crate that may import from each other in a circle.
const CIRCLE_MAX: usize = 3;

/// The most methods that a trait may have.
const TRAIT_METHODS_MAX: usize = 12;

/// The black-box tests may use everything; their macros, nothing.
const TESTS: &[&str] = &["postrider-tests", "postrider-test-macros"];

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
        if TESTS.contains(&package.as_str()) {
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
                TESTS.contains(&package.as_str())
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

#[test]
fn no_circle_of_imports_has_more_than_three_files() {
    let mut circles = Vec::new();
    for (name, graph) in sources() {
        for circle in graph.circles() {
            if circle.len() > CIRCLE_MAX {
                let files: Vec<_> = circle.iter().map(|file| file.to_string_lossy()).collect();
                circles.push(format!("{name}, {}: {}", circle.len(), files.join(", ")));
            }
        }
    }
    assert!(
        circles.is_empty(),
        "these files import from each other in a circle, more than {CIRCLE_MAX} of them; move what \
         they share into a file that imports none of them:\n{}",
        circles.join("\n")
    );
}

#[test]
fn no_trait_has_more_than_twelve_methods() {
    let mut large = Vec::new();
    for (name, graph) in sources() {
        for (file, tokens) in graph.files() {
            for (item, count) in traits(tokens) {
                if count > TRAIT_METHODS_MAX {
                    large.push(format!("{name}, {}: {item} has {count}", file.display()));
                }
            }
        }
    }
    assert!(
        large.is_empty(),
        "these traits have more than {TRAIT_METHODS_MAX} methods; split them by what callers \
         need:\n{}",
        large.join("\n")
    );
}

#[test]
fn the_documentation_of_public_items_says_something() {
    let mut empty = Vec::new();
    for (name, graph) in sources() {
        for (file, tokens) in graph.files() {
            let docs = empty_docs(tokens).into_iter();
            empty.extend(
                docs.map(|(item, doc)| format!("{name}, {}: {item}: {doc}", file.display())),
            );
        }
    }
    assert!(
        empty.is_empty(),
        "these doc comments only repeat a name; give the unit, the range, the meaning of None or \
         the source, or make the item private:\n{}",
        empty.join("\n")
    );
}

#[test]
fn public_items_without_documentation_are_warned_of_in_every_crate() {
    let workspace = manifest("Cargo.toml");
    let lint = workspace["workspace"]["lints"]["rust"]["missing_docs"].as_str();
    assert_eq!(lint, Some("warn"), "missing_docs in [workspace.lints.rust]");
    for name in folders() {
        let manifest = manifest(&format!("crates/{name}/Cargo.toml"));
        let inherited = manifest["lints"]["workspace"].as_bool();
        assert_eq!(
            inherited,
            Some(true),
            "[lints] workspace = true in crates/{name}"
        );
    }
}

/// The traits in the tokens of a file, and the numbers of their methods.
fn traits(tokens: &[String]) -> Vec<(&str, usize)> {
    let is_trait = |at: &usize| tokens[*at] == "trait";
    let declared = (0..tokens.len()).filter(is_trait);
    declared
        .map(|at| (tokens[at + 1].as_str(), methods(&tokens[at..])))
        .collect()
}

/// The number of methods in the first block of these tokens.
fn methods(tokens: &[String]) -> usize {
    let (mut depth, mut count) = (0_u32, 0);
    for token in tokens.iter().skip_while(|token| *token != "{") {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return count,
            "}" => depth -= 1,
            "fn" if depth == 1 => count += 1,
            _ => {}
        }
    }
    count
}

/// The sources of each crate under `crates`, by the name of its folder.
fn sources() -> Vec<(String, ImportGraph)> {
    let graph = |name: String| {
        let graph = ImportGraph::read(&root().join("crates").join(&name).join("src"));
        (name, graph)
    };
    folders().into_iter().map(graph).collect()
}

/// The names of the folders under `crates`.
fn folders() -> Vec<String> {
    let crates = std::fs::read_dir(root().join("crates")).expect("read the folder of the crates");
    let folders = crates.map(|entry| entry.expect("a folder").file_name());
    let mut names: Vec<_> = folders
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn manifest(path: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join(path)).expect("read a manifest");
    text.parse().expect("parse a manifest")
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
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
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{output:?}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo's metadata");
    metadata.packages
}
