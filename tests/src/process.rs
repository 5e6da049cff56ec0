//! A child process: what it says, and the signals it is sent.
//!
//! It is killed with the value that holds it; a test that fails prints what it said.

use crate::http::get;
use crate::receiver::PATIENCE;
use serde_json::Value;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A command that runs until it is stopped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    stdout: Lines,
    stderr: Lines,
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

    /// Closes our end of its standard output and standard error, as when what reads a log has
    /// gone.
    pub async fn read_no_more(&mut self) {
        for lines in [&mut self.stdout, &mut self.stderr] {
            lines.reading.abort();
            // Aborted or at its end, it has let go of the pipe.
            let _ended = (&mut lines.reading).await;
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
        get(&self.address_of("metrics").await, path).await
    }

    /// Where `serve` listens for `metrics` or `api`.
    ///
    /// # Panics
    /// When it is not `serve`, or does not listen for that.
    pub async fn address_of(&self, what: &str) -> String {
        let said = self.wait_for_lines(1).await.remove(0);
        let said: Value = serde_json::from_str(&said).expect("what serve says at its start");
        let url = said[what].as_str().expect("where it listens");
        url.trim_start_matches("http://").to_owned()
    }

    /// Waits for a line on standard error that contains `text`.
    pub async fn wait_for_log(&self, text: &str) {
        let said = |lines: &[String]| lines.iter().any(|line| line.contains(text));
        assert!(
            self.stderr.wait(said).await,
            "no log with {text:?} from {self}"
        );
    }

    /// Waits until standard output has `count` lines.
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

    /// Suspends it: SIGSTOP.
    pub async fn freeze(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on: SIGCONT.
    pub async fn thaw(&self) {
        self.signal("CONT").await;
    }

    /// Limits its open files from now on; those that are open stay open.
    ///
    /// # Panics
    /// When the limit cannot be set.
    pub async fn limit_open_files(&self, most: u32) {
        let set = Command::new("prlimit")
            .args(["--pid", &self.pid.to_string(), &format!("--nofile={most}:")])
            .status()
            .await;
        assert!(set.expect("run prlimit").success(), "prlimit for {self}");
    }

    /// Kills it as nothing can prevent, and waits until it is gone: SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill the process");
    }

    /// Waits until it exits.
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
    reading: JoinHandle<()>,
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
            reading,
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
