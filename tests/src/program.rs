//! The real `postrider` program, with an environment and a working folder of its own.
//!
//! It must be the one of this source: a test against an older one would prove nothing. Nothing
//! on the machine decides a test: no variable of ours and no file is inherited.

use crate::process::Process;
use crate::receiver::PATIENCE;
use crate::{KEY, TestDatabase};
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where addresses of this machine may be called.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";

/// The program, with the environment that its commands are given.
#[derive(Debug)]
pub struct Postrider {
    environment: Vec<(String, String)>,
    program: PathBuf,
    unprivileged: bool,
    shut_out: bool,
    /// The limit of open files: soft and hard.
    open_files: Option<(u32, u32)>,
    folder: TempDir,
}

/// What a command that has ended left.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Postrider {
    /// The program on this database, with a key for secrets, ports of its own and leave to call
    /// this machine.
    pub fn on(database: &TestDatabase) -> Self {
        Self::with_url(database.url())
    }

    /// The same on a database by its URL.
    pub fn with_url(url: &str) -> Self {
        Self::bare()
            .with("POSTRIDER_DATABASE__URL", url)
            .with("POSTRIDER_SECRETS__KEY", KEY)
            .with("POSTRIDER_WORKER__ALLOW_ADDRESSES", LOOPBACK)
            .with("POSTRIDER_API__LISTEN", "127.0.0.1:0")
            .with("POSTRIDER_METRICS__LISTEN", "127.0.0.1:0")
            // A test's own clock may be years behind that of the database.
            .with("POSTRIDER_RETENTION__EVENTS", "3650d")
    }

    /// The program with no environment of ours.
    pub fn bare() -> Self {
        Self {
            environment: Vec::new(),
            program: program().to_owned(),
            unprivileged: false,
            shut_out: false,
            open_files: None,
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    /// With this variable in the environment, instead of what it was.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Run by a user who may write nowhere, where the tests are root's, whom nothing stops.
    ///
    /// # Panics
    /// When the program cannot be put where that user finds it.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        if is_root() {
            let copy = self.folder.path().join("postrider");
            std::fs::copy(&self.program, &copy).expect("copy the program");
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.folder.path(), open).expect("open the folder");
            self.program = copy;
            self.unprivileged = true;
        }
        self
    }

    /// [`unprivileged`](Self::unprivileged), with a working folder that the user may not enter, as an
    /// image that runs as a user it was not made for.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn shut_out(mut self) -> Self {
        self = self.unprivileged();
        self.shut_out = true;
        std::fs::create_dir(self.working_folder()).expect("make a folder");
        self
    }

    fn working_folder(&self) -> PathBuf {
        match self.shut_out {
            true => self.folder.path().join("closed"),
            false => self.folder.path().to_owned(),
        }
    }

    /// With this limit of open files, which it may raise up to `hard`.
    #[must_use]
    pub fn limited_to_files(mut self, soft: u32, hard: u32) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// The working folder of its commands.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command to its end, with nothing on standard input.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, "").await
    }

    /// Runs a command to its end with this on standard input.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("start postrider");
        let mut stdin = child.stdin.take().expect("standard input");
        // A command that fails early leaves its input unread.
        let write = async move {
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let ended = async { tokio::join!(write, child.wait_with_output()).1 };
        let output = tokio::time::timeout(PATIENCE, ended)
            .await
            .unwrap_or_else(|_| panic!("postrider {arguments:?} does not end"))
            .expect("wait for postrider");
        Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("text on standard output"),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The one object that a command prints with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let mut objects = self.listing(arguments).await;
        assert_eq!(objects.len(), 1, "postrider {arguments:?}: {objects:?}");
        objects.remove(0)
    }

    /// The objects that a command prints with `--json`, one on each line.
    pub async fn listing(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(&[arguments, &["--json"]].concat()).await;
        let parse = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("postrider {arguments:?}: {error} in {line}"))
        };
        ended.succeeded().stdout.lines().map(parse).collect()
    }

    /// Starts a command that runs until it is stopped.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&arguments.join(" "), &mut self.command(arguments))
    }

    /// Starts `serve` and waits until it is ready.
    pub async fn serve(&self) -> Process {
        self.serve_as("all").await
    }

    /// The same in one role.
    pub async fn serve_as(&self, role: &str) -> Process {
        let process = self.start(&["serve", "--json", "--role", role]);
        let said = process.wait_for_lines(1).await.remove(0);
        assert!(said.contains("\"ready\":true"), "{said}");
        process
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.shut_out {
            let script = r#"chmod 0 . && "$@"; code=$?; chmod 700 .; exit $code"#;
            words.extend(["sh", "-c", script, "sh"].map(OsString::from));
        }
        if self.unprivileged {
            let user = [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ];
            words.extend(user.map(OsString::from));
        }
        if let Some((soft, hard)) = self.open_files {
            words.push("prlimit".into());
            words.push(format!("--nofile={soft}:{hard}").into());
        }
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .current_dir(self.working_folder())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Ended {
    /// Itself, if the command succeeded.
    ///
    /// # Panics
    /// When it did not.
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Its standard error, if the command failed with an exit code, not by a signal
    /// and not by a panic.
    ///
    /// # Panics
    /// When it did not fail, or fell over.
    #[must_use]
    pub fn refused(self) -> String {
        let code = self.status.code();
        assert!(matches!(code, Some(1 | 2)), "{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        self.stderr
    }

    /// The value of a field, where its output is one field a line.
    ///
    /// # Panics
    /// When it has no such field.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        let value = self.stdout.lines().find_map(|line| {
            let value = line.trim_start().strip_prefix(name)?;
            value.starts_with(' ').then(|| value.trim())
        });
        value.unwrap_or_else(|| panic!("no field {name}: {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n-- standard output\n{}\n-- standard error\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

fn is_root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output();
    id.expect("run id").stdout == b"0\n"
}

/// The program beside this test's own, checked once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("this test's own program");
        let folder = test.ancestors().nth(2).expect("target/<profile>/deps");
        let program = folder.join("postrider");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let root = root.expect("the workspace");
        let sources = [root.join("crates"), root.join("migrations")];
        if let Err(problem) = check_current(&program, &sources) {
            panic!("{problem}: run `make test`, or `cargo build -p postrider` before these tests");
        }
        program
    })
}

/// Whether the program is there and no file it may have been built from is newer.
fn check_current(program: &Path, sources: &[PathBuf]) -> Result<(), String> {
    let Ok(built_at) = std::fs::metadata(program).and_then(|file| file.modified()) else {
        return Err(format!("{} is missing", program.display()));
    };
    let mut folders = sources.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .expect("read the sources")
            .flatten()
        {
            let (path, name) = (entry.path(), entry.file_name());
            let file = entry.metadata().expect("read the sources");
            // What only a crate's own tests or benchmarks are built from is not in the program,
            // nor is what needs a feature.
            let elsewhere = ["tests", "benches", "examples", "otel"];
            if file.is_dir() && !elsewhere.iter().any(|folder| name == *folder) {
                folders.push(path);
            } else if is_source(&name.to_string_lossy())
                && file
                    .modified()
                    .is_ok_and(|changed_at| changed_at > built_at)
            {
                let (program, path) = (program.display(), path.display());
                return Err(format!("{program} is older than {path}"));
            }
        }
    }
    Ok(())
}

fn is_source(name: &str) -> bool {
    (name.ends_with(".rs") || name.ends_with(".sql")) && !matches!(name, "tests.rs" | "testing.rs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_missing_or_outdated_program_is_reported() {
        let folder = TempDir::new().expect("a temporary folder");
        let sources = folder.path().join("src");
        std::fs::create_dir_all(sources.join("tests")).expect("make folders");
        let program = folder.path().join("program");
        let check = || check_current(&program, std::slice::from_ref(&sources));
        let write = |path: &Path, second| {
            let file = std::fs::File::create(path).expect("make a file");
            let at = UNIX_EPOCH + Duration::from_secs(second);
            file.set_modified(at).expect("set its time");
        };
        let problem = check().unwrap_err();
        assert!(problem.ends_with("is missing"), "{problem}");

        write(&program, 2_000);
        write(&sources.join("lib.rs"), 1_000);
        write(&sources.join("tests/newer.rs"), 3_000);
        assert_eq!(check(), Ok(()));
        write(&sources.join("lib.rs"), 3_000);
        let problem = check().unwrap_err();
        assert!(problem.ends_with("lib.rs"), "{problem}");
    }
}
