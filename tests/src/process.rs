//! The real `postrider` program as a child process.
//!
//! The program must be the one of this source: a test against an older one would prove nothing.
//! Every child has an environment and a working folder of its own, so that nothing on the
//! machine decides a test, and is killed with the value that holds it.

use crate::http::get;
use crate::receiver::PATIENCE;
use crate::{KEY, TestDatabase};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where addresses of this machine may be called.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";

/// The program, with the environment that its commands are given.
#[derive(Debug)]
pub struct Postrider {
    environment: Vec<(String, String)>,
    program: PathBuf,
    unprivileged: bool,
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

/// A command that runs until it is told to stop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    stdout: Lines,
    stderr: Lines,
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
    }

    /// The program with no environment of ours.
    pub fn bare() -> Self {
        Self {
            environment: Vec::new(),
            program: program().to_owned(),
            unprivileged: false,
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

    /// Starts a command that runs until it is told to stop.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&arguments.join(" "), &mut self.command(arguments))
    }

    /// Starts `serve` and waits until it is ready.
    pub async fn serve(&self) -> Process {
        let process = self.start(&["serve", "--json"]);
        let said = process.wait_for_lines(1).await.remove(0);
        assert!(said.contains("\"ready\":true"), "{said}");
        process
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.unprivileged {
            false => Command::new(&self.program),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
                command.arg(&self.program);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.folder.path())
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

    /// Its standard error, if the command failed by itself: with an exit code, not by a signal
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

impl Process {
    /// Starts a command of any program.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.into(),
            pid: child.id().expect("a process id"),
            stdout: Lines::of(child.stdout.take().expect("standard output")),
            stderr: Lines::of(child.stderr.take().expect("standard error")),
            child,
        }
    }

    /// Every line of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Every line of standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// What `serve` answers to `GET path`.
    ///
    /// # Panics
    /// When it is not `serve`, or does not answer.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let said = self.wait_for_lines(1).await.remove(0);
        let said: Value = serde_json::from_str(&said).expect("what serve says at its start");
        let url = said["metrics"].as_str().expect("where its metrics are");
        get(url.trim_start_matches("http://"), path).await
    }

    /// Waits for a line on standard error that contains `text`.
    pub async fn wait_for_log(&self, text: &str) {
        let said = |lines: &[String]| lines.iter().any(|line| line.contains(text));
        assert!(
            self.stderr.wait(said).await,
            "no log with {text:?} from {self}"
        );
    }

    /// Waits until standard output has so many lines.
    pub async fn wait_for_lines(&self, count: usize) -> Vec<String> {
        match self.stdout.wait(|lines| lines.len() >= count).await {
            true => self.stdout(),
            false => panic!("fewer than {count} lines from {self}"),
        }
    }

    /// Asks it to end: SIGTERM.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Stops it where it stands: SIGSTOP.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on: SIGCONT.
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    /// Kills it as nothing can prevent, and waits until it is gone: SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill the process");
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("wait for the process"),
            Err(_) => panic!("no end of {self}"),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.pid)])
            .status()
            .await;
        assert!(sent.expect("run sh").success(), "kill -s {name} {self}");
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({})\n-- standard output\n{}\n-- standard error\n{}",
            self.name,
            self.pid,
            self.stdout().join("\n"),
            self.stderr().join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {self}");
        }
    }
}

/// The lines that a child writes.
#[derive(Debug)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    written: watch::Receiver<usize>,
    _reading: JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, written) = watch::channel(0);
        let kept = lines.clone();
        let reading = tokio::spawn(async move {
            let mut stream = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = stream.next_segment().await {
                guard(&kept).push(String::from_utf8_lossy(&line).into_owned());
                sender.send_modify(|count| *count += 1);
            }
        });
        Self {
            lines,
            written,
            _reading: reading,
        }
    }

    fn so_far(&self) -> Vec<String> {
        guard(&self.lines).clone()
    }

    async fn wait(&self, enough: impl Fn(&[String]) -> bool) -> bool {
        let mut written = self.written.clone();
        let waiting = written.wait_for(|_| enough(&guard(&self.lines)));
        matches!(tokio::time::timeout(PATIENCE, waiting).await, Ok(Ok(_)))
    }
}

fn guard(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Err(problem) = check_current(&program) {
            panic!("{problem}: run `make test`, or `cargo build -p postrider` before these tests");
        }
        program
    })
}

/// Whether the program was built from the files it was built from as they are now: cargo writes
/// their names beside it.
fn check_current(program: &Path) -> Result<(), String> {
    let changed_at = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|file| file.modified())
            .ok()
    };
    let Some(built_at) = changed_at(program) else {
        return Err(format!("{} is missing", program.display()));
    };
    let list = program.with_extension("d");
    let list = std::fs::read_to_string(&list)
        .map_err(|error| format!("{} cannot be read: {error}", list.display()))?;
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    match sources
        .split_ascii_whitespace()
        .find(|source| changed_at(Path::new(source)).is_none_or(|at| at > built_at))
    {
        Some(source) => Err(format!("{} is older than {source}", program.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_older_than_its_source_is_told() {
        let folder = TempDir::new().expect("a temporary folder");
        let (program, source) = (folder.path().join("program"), folder.path().join("main.rs"));
        let problem = check_current(&program).unwrap_err();
        assert!(problem.ends_with("is missing"), "{problem}");

        std::fs::write(&program, "").expect("write");
        std::fs::write(&source, "").expect("write");
        let list = format!("{}: {}\n", program.display(), source.display());
        std::fs::write(program.with_extension("d"), list).expect("write");
        let set = |path: &Path, seconds| {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = std::fs::File::options().append(true).open(path);
            file.and_then(|file| file.set_modified(at)).expect("set");
        };
        set(&program, 2_000);
        set(&source, 1_000);
        assert_eq!(check_current(&program), Ok(()));
        set(&source, 3_000);
        let problem = check_current(&program).unwrap_err();
        assert!(problem.contains("is older than"), "{problem}");
    }
}
