//! Asks name servers for the addresses of one name.
//!
//! Every try has a socket of its own: its random port, with the random id of the question, keeps
//! strangers from answering.

use super::error::NameError;
use super::message::{Answer, Kind, Question};
use crate::local_fault::LocalFault;
use crate::tuning::NamesTuning;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The longest datagram that is read. Without EDNS a server sends no more than 512 bytes.
const DATAGRAM_MAX: usize = 4096;

/// The addresses of a name, of both kinds.
pub(super) async fn addresses(
    servers: &[SocketAddr],
    name: &str,
    tuning: &NamesTuning,
) -> Result<Vec<IpAddr>, NameError> {
    let v4 = of_kind(servers, name, Kind::V4, tuning);
    let v6 = of_kind(servers, name, Kind::V6, tuning);
    tokio::pin!(v4, v6);
    let (v4, v6) = tokio::select! {
        v4 = &mut v4 => match &v4 {
            // Some name servers never answer for the other kind.
            Ok(found) if !found.is_empty() => {
                let v6 = timeout(tuning.other_kind, v6).await;
                (v4, v6.unwrap_or(Err(NameError::Silent)))
            }
            _ => (v4, v6.await),
        },
        v6 = &mut v6 => (v4.await, v6),
    };
    both(v4, v6)
}

/// What the answers for both kinds say together.
fn both(
    v4: Result<Vec<IpAddr>, NameError>,
    v6: Result<Vec<IpAddr>, NameError>,
) -> Result<Vec<IpAddr>, NameError> {
    let mut found = Vec::new();
    let mut problem = None;
    for answer in [v6, v4] {
        match answer {
            Ok(addresses) => found.extend(addresses),
            Err(error) => problem = Some(error),
        }
    }
    match (found.is_empty(), problem) {
        (false, _) => Ok(found),
        (true, None) => Err(NameError::NoAddress),
        (true, Some(problem)) => Err(problem),
    }
}

async fn of_kind(
    servers: &[SocketAddr],
    name: &str,
    kind: Kind,
    tuning: &NamesTuning,
) -> Result<Vec<IpAddr>, NameError> {
    let Some(question) = Question::new(rand::random(), name, kind) else {
        return Err(NameError::Unknown);
    };
    let mut problem = None;
    for _ in 0..tuning.rounds {
        let mut is_silent = false;
        for server in servers {
            let answer = timeout(tuning.each_try, ask(*server, &question)).await;
            match answer.unwrap_or(Err(NameError::Silent)) {
                Ok(found) => return Ok(found),
                Err(NameError::Unknown) => return Err(NameError::Unknown),
                // It says least.
                Err(error @ NameError::NotAsked(_)) => problem = problem.or(Some(error)),
                Err(error) => {
                    is_silent |= matches!(error, NameError::Silent);
                    problem = Some(error);
                }
            }
        }
        // A server that answered would only say the same again.
        if !is_silent {
            break;
        }
    }
    Err(problem.unwrap_or(NameError::Silent))
}

async fn ask(server: SocketAddr, question: &Question) -> Result<Vec<IpAddr>, NameError> {
    let not_asked = |error| NameError::NotAsked(Arc::new(error));
    let mut answer = over_udp(server, question).await.map_err(not_asked)?;
    if answer == Answer::Truncated {
        let whole = over_tcp(server, question).await;
        answer = whole.map_err(|error| match LocalFault::of(&error) {
            Some(_) => not_asked(error),
            // The name has more addresses than this server can send.
            None => NameError::Silent,
        })?;
    }
    match answer {
        Answer::Addresses(found) => Ok(found),
        Answer::NoSuchName => Err(NameError::Unknown),
        Answer::Failed(code) => Err(NameError::Failed(code)),
        Answer::Truncated => Err(NameError::Silent),
    }
}

async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let anywhere: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((anywhere, 0)).await?;
    // A connected socket receives from this server alone, and learns that nothing listens there.
    socket.connect(server).await?;
    socket.send(question.bytes()).await?;
    let mut message = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut message).await?;
        if let Some(answer) = question.answer(&message[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = (question.bytes().len() as u16).to_be_bytes().to_vec();
    message.extend(question.bytes());
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    message.resize(length.into(), 0);
    stream.read_exact(&mut message).await?;
    let answer = question.answer(&message);
    answer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a malformed answer"))
}
