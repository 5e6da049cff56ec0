//! Other people's programs, for what must be shown from outside.

use crate::program::Ended;
use crate::receiver::PATIENCE;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// The Python with the packages that the tests check Postrider against.
const PYTHON: &str = "POSTRIDER_TEST_PYTHON";

/// The folder of `prometheus` and `promtool`.
const PROMETHEUS: &str = "POSTRIDER_TEST_PROMETHEUS";

/// A command that runs `prometheus` or `promtool`.
///
/// # Panics
/// When it is not said where they are.
pub fn prometheus(program: &str) -> Command {
    let folder = std::env::var(PROMETHEUS).unwrap_or_else(|_| {
        panic!(
            "this test needs Prometheus and {PROMETHEUS} is not set: run `make test`, or set it \
             to what scripts/need-prometheus prints"
        )
    });
    Command::new(Path::new(&folder).join(program))
}

/// A file or folder of this project, by its path in it.
///
/// # Panics
/// When the tests have no folder above their own.
pub fn project(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the workspace").join(path)
}

/// A command that runs a program of the Python that the tests have, with its packages.
///
/// # Panics
/// When no Python is named.
pub fn python_module(module: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.args(["-m", module]);
    command
}

/// A command that runs a script of `tests/python`.
///
/// # Panics
/// When no Python is named.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(format!("{}/python/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// Where the npm packages are that the tests check Postrider against.
const NODE_MODULES: &str = "POSTRIDER_TEST_NODE_MODULES";

/// A command that runs a script of `tests/javascript`.
///
/// # Panics
/// When it is not said where its packages are.
pub fn node(script: &str) -> Command {
    if std::env::var_os(NODE_MODULES).is_none() {
        panic!(
            "this test needs Node.js with the packages of scripts/need-node, and {NODE_MODULES} is \
             not set: run `make test`, or set it to what scripts/need-node prints"
        );
    }
    let mut command = Command::new("node");
    command.arg(format!(
        "{}/javascript/{script}",
        env!("CARGO_MANIFEST_DIR")
    ));
    command
}

fn interpreter() -> String {
    std::env::var(PYTHON).unwrap_or_else(|_| {
        panic!(
            "this test needs Python with some packages and {PYTHON} is not set: run `make test`, \
             or set it to what scripts/need-python prints"
        )
    })
}

/// A command that runs `psql` on this database, quietly: only results are printed. Each
/// statement is sent alone, as if typed.
pub fn psql(url: &str, statements: &[&str]) -> Command {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    command.args(["--set", "ON_ERROR_STOP=1", "--dbname", url]);
    for statement in statements {
        command.args(["--command", statement]);
    }
    command
}

/// A command that runs a script of the folder `scripts`.
pub fn script(name: &str) -> Command {
    Command::new(project("scripts").join(name))
}

/// Runs a command to its end, with nothing on standard input.
///
/// # Panics
/// When it cannot be run or does not end.
pub async fn ended(command: &mut Command) -> Ended {
    ended_within(PATIENCE, command).await
}

/// The same for one that may take so long.
///
/// # Panics
/// When it cannot be run or does not end.
pub async fn ended_within(patience: Duration, command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(patience, output).await;
    let output = output.unwrap_or_else(|_| panic!("no end of {command:?}"));
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
