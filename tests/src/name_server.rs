//! A name server that answers as a test says.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// What a [`NameServer`] does about a name and all names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameReply {
    /// The name is this machine.
    Local,
    /// The name servers of the name fail.
    ServFail,
    /// There is no answer.
    Silence,
}

/// A name server on this machine. A name without a reply does not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    replies: HashMap<String, NameReply>,
    asked: HashMap<String, usize>,
}

const ADDRESS: u16 = 1;

impl NameServer {
    /// Answers these names.
    pub async fn answering(replies: &[(&str, NameReply)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("the port");
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut message = [0; 512];
                while let Ok((length, who)) = socket.recv_from(&mut message).await {
                    if let Some(answer) = answer(&shared, &message[..length]) {
                        // It has gone, if this fails.
                        let _ = socket.send_to(&answer, who).await;
                    }
                }
            }
        });
        let server = Self {
            address,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        };
        for (name, reply) in replies {
            server.reply(name, *reply);
        }
        server
    }

    /// Answers a name so from now on.
    pub fn reply(&self, name: &str, reply: NameReply) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.replies.insert(name.into(), reply);
    }

    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions it got for a name or the names below it.
    pub fn asked(&self, name: &str) -> usize {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.asked.get(name).copied().unwrap_or(0)
    }
}

/// The answer to a question; `None` for silence.
fn answer(shared: &Mutex<Shared>, question: &[u8]) -> Option<Vec<u8>> {
    let (name, kind) = asked(question)?;
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let known = shared.replies.iter().find_map(|(known, reply)| {
        let is_below = name
            .strip_suffix(known.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        is_below.then(|| (known.clone(), *reply))
    });
    let (code, has_address) = match known {
        None => (3, false),
        Some((known, reply)) => {
            *shared.asked.entry(known).or_default() += 1;
            match reply {
                NameReply::Local => (0, kind == ADDRESS),
                NameReply::ServFail => (2, false),
                NameReply::Silence => return None,
            }
        }
    };
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    if has_address {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

/// The name and the type of record that a message asks for.
fn asked(message: &[u8]) -> Option<(String, u16)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).into_owned());
        at += length;
    }
    let kind = message.get(at..at + 2)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]])))
}
