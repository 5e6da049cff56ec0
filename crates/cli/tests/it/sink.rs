//! Takes whatever is posted to it, answers 200, and hands it on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long anything that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener on a port of its own.
pub struct Sink {
    pub address: SocketAddr,
    posts: Receiver<Post>,
}

/// What was posted.
#[derive(Debug)]
pub struct Post {
    /// The first line and the headers, in lower case.
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Sink {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posts) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || take(stream, &sender));
            }
        });
        Self { address, posts }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next post.
    pub fn next(&self) -> Post {
        self.posts.recv_timeout(PATIENCE).expect("a post")
    }

    /// Whatever else has come by now.
    pub fn rest(&self) -> Vec<Post> {
        self.posts.try_iter().collect()
    }
}

impl Post {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

/// Takes the posts of one connection.
fn take(stream: TcpStream, posts: &Sender<Post>) {
    let mut reader = BufReader::new(stream);
    while let Some(post) = read(&mut reader) {
        // The test may be over.
        let _ = posts.send(post);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if reader.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Post> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let mut post = Post {
        head,
        body: Vec::new(),
    };
    let length: usize = post.header("content-length")?.parse().ok()?;
    post.body.resize(length, 0);
    reader.read_exact(&mut post.body).ok()?;
    Some(post)
}
