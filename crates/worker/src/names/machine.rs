//! The names and name servers that this machine is configured with: `/etc/hosts` and
//! `/etc/resolv.conf`. Both are read again when they have changed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of DNS.
pub(super) const PORT: u16 = 53;
/// Name servers that are used at most, as in the C library.
const SERVERS_MAX: usize = 3;
const NDOTS_MAX: usize = 15;

/// The configuration of the machine, as it is now.
#[derive(Debug)]
pub(super) struct Machine {
    hosts: Followed<Hosts>,
    resolv_conf: Followed<ResolvConf>,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            hosts: Followed::new(HOSTS, Hosts::parse),
            resolv_conf: Followed::new(RESOLV_CONF, ResolvConf::parse),
        }
    }

    pub(super) fn hosts(&self) -> Arc<Hosts> {
        self.hosts.current()
    }

    pub(super) fn resolv_conf(&self) -> Arc<ResolvConf> {
        self.resolv_conf.current()
    }
}

/// A small file whose content is parsed again when it has changed. A missing file is an empty one.
#[derive(Debug)]
struct Followed<T> {
    path: PathBuf,
    parse: fn(&str) -> T,
    read: Mutex<(Stamp, Arc<T>)>,
}

/// What changes whenever a file does; `None` for a missing file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl<T> Followed<T> {
    fn new(path: impl Into<PathBuf>, parse: fn(&str) -> T) -> Self {
        let path = path.into();
        let stamp = stamp(&path).unwrap_or(None);
        let text = std::fs::read(&path).unwrap_or_default();
        let content = parse(&String::from_utf8_lossy(&text));
        Self {
            path,
            parse,
            read: Mutex::new((stamp, Arc::new(content))),
        }
    }

    /// The content of the file. One that cannot be read now is as it was when it last could.
    fn current(&self) -> Arc<T> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the content: what is written meanwhile is read the next time.
        if let Ok(stamp) = stamp(&self.path)
            && stamp != read.0
        {
            let text = match stamp {
                Some(_) => std::fs::read(&self.path),
                None => Ok(Vec::new()),
            };
            if let Ok(text) = text {
                *read = (
                    stamp,
                    Arc::new((self.parse)(&String::from_utf8_lossy(&text))),
                );
            }
        }
        read.1.clone()
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some((
            file.dev(),
            file.ino(),
            file.len(),
            file.mtime(),
            file.mtime_nsec(),
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of `/etc/hosts`.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    pub(super) fn parse(text: &str) -> Self {
        let mut hosts: HashMap<_, Vec<_>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            // An address with a zone, such as fe80::1%lo0, is of no use for a receiver.
            let Some(Ok(address)) = words.next().map(str::parse) else {
                continue;
            };
            for name in words {
                hosts.entry(canonical(name)).or_default().push(address);
            }
        }
        Self(hosts)
    }

    /// The addresses of a name; `None` when DNS is to be asked. `localhost` and the names below it
    /// are always this machine (RFC 6761).
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = canonical(name);
        let listed = self.0.get(&name).cloned();
        listed.or_else(
            || match name == "localhost" || name.ends_with(".localhost") {
                true => Some(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]),
                false => None,
            },
        )
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The part of `/etc/resolv.conf` that is followed: `nameserver`, `search`, `domain`, and the
/// option `ndots`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// At least one.
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address: Option<IpAddr> = words.next().and_then(|text| text.parse().ok());
                    found
                        .servers
                        .extend(address.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("search" | "domain") => found.search = words.map(canonical).collect(),
                Some("options") => {
                    let mut ndots =
                        words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    found.ndots = ndots.next_back().unwrap_or(found.ndots).min(NDOTS_MAX);
                }
                _ => {}
            }
        }
        found.search.retain(|domain| !domain.is_empty());
        found.servers.truncate(SERVERS_MAX);
        if found.servers.is_empty() {
            found.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        found
    }

    /// The names to ask for in order, when `name` is looked up. One that ends with a dot, or has
    /// `ndots` dots, is asked for as it is first.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let below = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let mut candidates: Vec<_> = below.collect();
        let is_first = name.matches('.').count() >= self.ndots;
        let place = if is_first { 0 } else { candidates.len() };
        candidates.insert(place, name.to_owned());
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Option<Vec<IpAddr>> {
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn hosts_are_found_however_they_are_written() {
        let hosts = Hosts::parse(
            "# the machine\n127.0.0.1 localhost\n\t192.0.2.1  A.example a\n\
             192.0.2.2 a.example # again\nnonsense b\n2001:db8::1 a. c.test.\n192.0.2.3",
        );
        assert_eq!(hosts.addresses("localhost."), addresses(&["127.0.0.1"]));
        let both = addresses(&["192.0.2.1", "192.0.2.2"]);
        assert_eq!(hosts.addresses("a.EXAMPLE."), both);
        assert_eq!(
            hosts.addresses("a"),
            addresses(&["192.0.2.1", "2001:db8::1"])
        );
        assert_eq!(hosts.addresses("c.test"), addresses(&["2001:db8::1"]));
        assert_eq!(hosts.addresses("b"), None);
        assert_eq!(
            hosts.addresses("a.localhost"),
            addresses(&["::1", "127.0.0.1"])
        );
        assert_eq!(Hosts::default().addresses("example.com"), None);
    }

    #[test]
    fn the_configuration_of_the_resolver_is_read_like_the_c_library_does() {
        let read = ResolvConf::parse(
            "; made by hand\ndomain old.example\nsearch svc.cluster.local. Example.COM\n\
             nameserver 10.0.0.10\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\n\
             options edns0 ndots:5 timeout:1\n",
        );
        assert_eq!(
            read.servers,
            ["10.0.0.10:53", "[2001:db8::53]:53"].map(|s| s.parse().unwrap())
        );
        assert_eq!(read.search, ["svc.cluster.local", "example.com"]);
        assert_eq!(read.ndots, 5);
        let four = "nameserver 10.0.0.1\n".repeat(4);
        assert_eq!(ResolvConf::parse(&four).servers.len(), SERVERS_MAX);
        let none = ResolvConf::parse("");
        assert_eq!((none.servers.len(), none.ndots), (1, 1));
        assert_eq!(none.servers[0], "127.0.0.1:53".parse().unwrap());
    }

    #[test]
    fn the_search_list_comes_before_names_with_few_dots() {
        let read = ResolvConf::parse("search a.test b.test\noptions ndots:2");
        let table = [
            ("x", vec!["x.a.test", "x.b.test", "x"]),
            ("x.y", vec!["x.y.a.test", "x.y.b.test", "x.y"]),
            ("x.y.z", vec!["x.y.z", "x.y.z.a.test", "x.y.z.b.test"]),
            ("x.", vec!["x."]),
        ];
        for (name, expected) in table {
            assert_eq!(read.candidates(name), expected, "{name}");
        }
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let hosts = Followed::new(&path, Hosts::parse);
        let found = || hosts.current().addresses("a.test");
        assert_eq!(found(), None, "there is no file");
        std::fs::write(&path, "192.0.2.1 a.test").unwrap();
        assert_eq!(found(), addresses(&["192.0.2.1"]));
        std::fs::write(&path, "192.0.2.10 a.test").unwrap();
        assert_eq!(found(), addresses(&["192.0.2.10"]));
        std::fs::write(folder.path().join("new"), "192.0.2.11 a.test").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(found(), addresses(&["192.0.2.11"]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found(), None);
    }
}
