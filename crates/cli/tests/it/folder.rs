//! A folder of its own for each test, and the binary run in it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// An empty folder, and an environment without settings.
pub struct Folder {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// `postrider listen`, and where it listens.
pub struct Listening {
    pub running: Running,
    pub url: String,
}

/// A command that runs until it is told to stop.
pub struct Running {
    child: Child,
    pub stdout: BufReader<ChildStdout>,
}

impl Folder {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        for (name, _) in std::env::vars() {
            if name.starts_with("POSTRIDER_")
                || name.starts_with("OTEL_")
                || ["DATABASE_URL", "RUST_LOG"].contains(&&*name)
            {
                command.env_remove(name);
            }
        }
        command
            .envs(self.environment.iter().cloned())
            .args(args)
            .current_dir(self.path());
        command
    }

    /// Runs a command to its end, with nothing on standard input.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs a command to its end, with this on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that refuses its arguments does not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, with `--json`, and gives its objects.
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.objects()
    }

    /// The same where there is one object.
    pub fn object(&self, args: &[&str]) -> Value {
        let mut objects = self.json(args);
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }

    /// Starts a command that runs until it is told to stop.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, Stdio::null())
    }

    /// The same where its standard error is read at the end.
    pub fn start_telling(&self, args: &[&str]) -> Running {
        self.start_with(args, Stdio::piped())
    }

    /// Starts a receiver on any free port.
    pub fn start_listening(&self, args: &[&str]) -> Listening {
        let args = [&["listen", "--listen", "127.0.0.1:0"], args].concat();
        let mut running = self.start_with(&args, Stdio::piped());
        let mut line = String::new();
        BufReader::new(running.child.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut words = line.split([' ', ',']);
        let url = words.find(|word| word.starts_with("http://")).unwrap();
        Listening {
            running,
            url: url.to_owned(),
        }
    }

    fn start_with(&self, args: &[&str], stderr: Stdio) -> Running {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }
}

impl Ran {
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap();
        self.stdout.lines().map(parse).collect()
    }
}

impl Running {
    /// The next object on standard output.
    pub fn object(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Sends the signal that service managers send, and gives the exit code.
    pub fn terminate(self) -> i32 {
        self.terminate_telling().0
    }

    /// The same, with what it said on standard error if that is read.
    pub fn terminate_telling(mut self) -> (i32, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap().code().unwrap(), said)
    }

    /// Waits for the end.
    pub fn ended(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request to `http://HOST:PORT`, as a whole answer with its head.
pub fn get(url: &str, path: &str) -> String {
    exchange(url, &format!("GET {path}"), &[], "")
}

/// The same with these headers and a body of JSON.
pub fn post(url: &str, path: &str, headers: &[(&str, String)], body: &str) -> String {
    let length = body.len().to_string();
    let of_body = [
        ("content-type", "application/json".into()),
        ("content-length", length),
    ];
    exchange(
        url,
        &format!("POST {path}"),
        &[headers, &of_body].concat(),
        body,
    )
}

fn exchange(url: &str, request: &str, headers: &[(&str, String)], body: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines: String = lines.collect();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{lines}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
