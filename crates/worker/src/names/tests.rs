//! Lookups against a name server of the test.

use super::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3_600);

/// What the server does about a name; names that are not listed do not exist.
#[derive(Clone, Copy, Debug)]
enum Reply {
    V4(&'static str),
    V6(&'static str),
    /// An IPv4 address, and silence for IPv6.
    V4Alone(&'static str),
    /// As many IPv4 addresses, which need TCP.
    Many(u8),
    Code(u8),
    Silence,
}

/// A name server whose replies a test changes.
struct Server {
    address: SocketAddr,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn with(replies: &[(&str, Reply)]) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let server = Self {
            address,
            replies: Arc::default(),
            asked: Arc::default(),
            _serving: JoinSet::new(),
        };
        for (name, reply) in replies {
            server.reply(name, *reply);
        }
        server.serve(udp, tcp)
    }

    fn serve(mut self, udp: UdpSocket, tcp: TcpListener) -> Self {
        let (replies, asked) = (self.replies.clone(), self.asked.clone());
        self._serving.spawn(async move {
            let mut message = [0; 512];
            while let Ok((length, who)) = udp.recv_from(&mut message).await {
                let (name, v6) = question(&message[..length]);
                asked.lock().unwrap().push(name.clone());
                let reply = replies.lock().unwrap().get(&name).copied();
                if let Some(answer) = answer(&message[..length], reply, v6, true) {
                    udp.send_to(&answer, who).await.unwrap();
                }
            }
        });
        let replies = self.replies.clone();
        self._serving.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut message = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut message).await.unwrap();
                let (name, v6) = question(&message);
                let reply = replies.lock().unwrap().get(&name).copied();
                let answer = answer(&message, reply, v6, false).unwrap();
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        self
    }

    fn reply(&self, name: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(name.into(), reply);
    }

    /// How often a name was asked for, in both kinds together.
    fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == name).count()
    }

    fn names(&self, tuning: NamesTuning) -> Names {
        Names::with(&[self.address.into()], tuning)
    }
}

/// The name that a message asks for, without the search list, and whether for IPv6.
fn question(message: &[u8]) -> (String, bool) {
    let (mut at, mut labels) = (12, Vec::new());
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8(message[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), message[at + 2] == 28)
}

fn answer(message: &[u8], reply: Option<Reply>, v6: bool, is_datagram: bool) -> Option<Vec<u8>> {
    let none = Vec::new();
    let (code, addresses): (u8, Vec<IpAddr>) = match (reply, v6) {
        (None, _) => (NXDOMAIN, none),
        (Some(Reply::Silence), _) | (Some(Reply::V4Alone(_)), true) => return None,
        (Some(Reply::Code(code)), _) => (code, none),
        (Some(Reply::V4(text) | Reply::V4Alone(text)), false) => (0, vec![text.parse().unwrap()]),
        (Some(Reply::V6(text)), true) => (0, vec![text.parse().unwrap()]),
        (Some(Reply::Many(count)), false) => {
            let address = |n| IpAddr::from([192, 0, 2, n]);
            (0, (0..count).map(address).collect())
        }
        (Some(_), _) => (0, none),
    };
    let mut answer = message.to_vec();
    let is_truncated = is_datagram && matches!(reply, Some(Reply::Many(_)));
    answer[2] = if is_truncated { 0x83 } else { 0x81 };
    answer[3] = 0x80 | code;
    if !is_truncated {
        answer[7] = addresses.len() as u8;
        for address in addresses {
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let record_type = if octets.len() == 4 { 1 } else { 28 };
            answer.extend([0xc0, 12, 0, record_type, 0, 1, 0, 0, 0, 60, 0]);
            answer.push(octets.len() as u8);
            answer.extend(octets);
        }
    }
    Some(answer)
}

/// Gives up soon on a server that is silent.
fn impatient() -> NamesTuning {
    NamesTuning {
        lookup: Duration::from_millis(300),
        each_try: Duration::from_millis(100),
        other_kind: Duration::from_millis(100),
        ..NamesTuning::default()
    }
}

/// Waits for a server however long it takes.
fn patient() -> NamesTuning {
    NamesTuning {
        lookup: NEVER,
        each_try: NEVER,
        witness: NEVER,
        ..NamesTuning::default()
    }
}

/// Asks again at once for a name that failed.
fn forgetful() -> NamesTuning {
    NamesTuning {
        failed_for: Duration::ZERO,
        ..patient()
    }
}

async fn resolved(names: &Names, host: &str) -> Vec<String> {
    let addresses = names.resolve(host).await.unwrap();
    addresses.iter().map(IpAddr::to_string).collect()
}

/// The name's fault, as text.
async fn failed(names: &Names, host: &str) -> String {
    match names.resolve(host).await {
        Err(Unresolved::Name(error)) => error.to_string(),
        other => panic!("{host}: {other:?}"),
    }
}

async fn is_local_fault(names: &Names, host: &str) -> bool {
    match names.resolve(host).await {
        Err(Unresolved::Local(LocalFault::Resolver)) => true,
        Err(Unresolved::Name(_)) => false,
        other => panic!("{host}: {other:?}"),
    }
}

#[tokio::test]
async fn names_are_resolved_by_both_kinds_of_addresses() {
    let server = Server::with(&[
        ("four.test", Reply::V4("192.0.2.1")),
        ("six.test", Reply::V6("2001:db8::1")),
        ("many.test", Reply::Many(40)),
        ("empty.test", Reply::Code(0)),
        ("broken.test", Reply::Code(SERVFAIL)),
    ])
    .await;
    let names = server.names(patient());
    assert_eq!(resolved(&names, "four.test").await, ["192.0.2.1"]);
    assert_eq!(resolved(&names, "six.test.").await, ["2001:db8::1"]);
    assert_eq!(resolved(&names, "many.test").await.len(), 32, "over TCP");
    assert!(!resolved(&names, "localhost").await.is_empty());
    assert_eq!(server.asked("localhost"), 0, "it is in the hosts file");
    assert_eq!(failed(&names, "no.test").await, "the name does not exist");
    assert_eq!(
        failed(&names, "empty.test").await,
        "the name has no address"
    );
    let broken = "the name servers of the name do not answer: SERVFAIL";
    assert_eq!(failed(&names, "broken.test").await, broken);
}

#[tokio::test]
async fn silence_is_bounded_and_no_reason_to_lose_what_is_known() {
    let server = Server::with(&[
        ("silent.test", Reply::Silence),
        ("half.test", Reply::V4Alone("192.0.2.1")),
    ])
    .await;
    let names = server.names(impatient());
    let silent = "no answer came for the name in time";
    assert_eq!(failed(&names, "silent.test").await, silent);
    assert_eq!(server.asked("silent.test"), 2 * 3, "three tries");
    assert_eq!(resolved(&names, "half.test").await, ["192.0.2.1"]);
}

#[tokio::test]
async fn a_server_that_fails_leaves_the_question_to_the_next() {
    let good = Server::with(&[("a.test", Reply::V4("192.0.2.1"))]).await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    for reply in [Reply::Code(SERVFAIL), Reply::Code(5), Reply::Silence] {
        let bad = Server::with(&[("a.test", reply)]).await;
        let servers = [nobody, bad.address, good.address].map(NameServer::from);
        let names = Names::with(&servers, impatient());
        assert_eq!(resolved(&names, "a.test").await, ["192.0.2.1"], "{reply:?}");
    }
    let names = Names::with(&[nobody.into()], patient());
    assert!(is_local_fault(&names, "a.test").await, "nobody listens");
}

#[tokio::test]
async fn broken_names_of_customers_are_not_this_machine_s_fault() {
    let broken = ["a.one.test", "a.two.test", "a.three.test", "a.four.test"];
    let server = Server::with(&broken.map(|name| (name, Reply::Code(SERVFAIL)))).await;
    let names = server.names(patient());
    // No name is known to be good.
    for name in broken {
        assert!(!is_local_fault(&names, name).await, "{name}");
    }
    // A name that is good says that the server answers.
    server.reply("good.test", Reply::V4("192.0.2.1"));
    resolved(&names, "good.test").await;
    for name in broken {
        assert!(!is_local_fault(&names, name).await, "{name}");
    }
}

#[tokio::test]
async fn the_name_servers_are_at_fault_when_most_good_names_get_no_answer() {
    let good = ["a.one.test", "a.two.test", "a.three.test", "a.four.test"];
    let server = Server::with(&good.map(|name| (name, Reply::V4("192.0.2.1")))).await;
    let names = server.names(forgetful());
    for name in good {
        resolved(&names, name).await;
    }
    // One of several fails: it is that one.
    server.reply("a.one.test", Reply::Code(SERVFAIL));
    assert!(!is_local_fault(&names, "a.one.test").await);
    // Two of the three others fail too: it is the server, for every name.
    server.reply("a.two.test", Reply::Code(SERVFAIL));
    server.reply("a.three.test", Reply::Code(SERVFAIL));
    assert!(is_local_fault(&names, "a.one.test").await);
    server.reply("new.test", Reply::Code(SERVFAIL));
    assert!(is_local_fault(&names, "new.test").await);
    // Half of them are not most of them.
    server.reply("a.three.test", Reply::V4("192.0.2.1"));
    assert!(!is_local_fault(&names, "new.test").await);
    assert_eq!(failed(&names, "no.test").await, "the name does not exist");
}

#[tokio::test]
async fn a_name_that_failed_is_not_asked_for_again_at_once() {
    let server = Server::with(&[("a.test", Reply::Code(SERVFAIL))]).await;
    for (tuning, times) in [(patient(), 1), (forgetful(), 3)] {
        let names = server.names(tuning);
        let before = server.asked("a.test");
        for _ in 0..3 {
            failed(&names, "a.test").await;
        }
        assert_eq!(server.asked("a.test") - before, 2 * times);
    }
}

#[tokio::test]
async fn one_lookup_serves_all_that_wait_for_the_name() {
    let server = Server::with(&[("a.test", Reply::Silence)]).await;
    let names = server.names(patient());
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let names = names.clone();
        waiting.spawn(async move { names.resolve("a.test").await.is_err() });
    }
    while server.asked("a.test") < 2 {
        tokio::task::yield_now().await;
    }
    // Whoever gives up does not end it for the others.
    waiting.shutdown().await;
    server.reply("a.test", Reply::V4("192.0.2.1"));
    assert_eq!(resolved(&names, "a.test").await, ["192.0.2.1"]);
    assert_eq!(
        server.asked("a.test"),
        4,
        "the first lookup ended with its last waiter"
    );
    assert!(names.0.lock().in_flight.is_empty());
}

#[tokio::test]
async fn names_that_hang_do_not_hold_up_those_that_are_good() {
    let server = Server::with(&[
        ("good.test", Reply::V4("192.0.2.1")),
        ("x.hang.test", Reply::Silence),
        ("y.hang.test", Reply::Silence),
    ])
    .await;
    let narrow = NamesTuning {
        in_flight: 1,
        ..patient()
    };
    let names = server.names(narrow);
    resolved(&names, "good.test").await;
    let mut hanging = JoinSet::new();
    for host in ["x.hang.test", "y.hang.test"] {
        let names = names.clone();
        hanging.spawn(async move { names.resolve(host).await.is_err() });
    }
    while server.asked("x.hang.test") + server.asked("y.hang.test") < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(resolved(&names, "good.test").await, ["192.0.2.1"]);
    let asked = server.asked("x.hang.test") + server.asked("y.hang.test");
    assert_eq!(asked, 2, "the second waits for the first");
}
