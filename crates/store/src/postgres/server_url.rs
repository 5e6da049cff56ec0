//! URLs that name several PostgreSQL servers, as libpq reads them.

/// A URL taken apart into one for each server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) each: Vec<String>,
    pub(super) wanted: Option<Wanted>,
}

/// Which server is wanted (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first that accepts a connection.
    Any,
    /// The first whose sessions may write.
    ReadWrite,
    /// The first that is not a standby.
    Primary,
}

impl ServerUrl {
    /// Takes `scheme://user@host1:port1,host2:port2/database?parameters` apart. Hosts and ports may
    /// also be lists in the parameters `host` and `port`; one port is that of all hosts.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no ://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = match rest.split_once('/') {
            Some((authority, database)) => (authority, format!("/{database}")),
            None => (rest, String::new()),
        };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (mut wanted, mut kept) = (None, Vec::new());
        let (mut host_list, mut port_list) = (None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("target_session_attrs", value)) => wanted = Some(Wanted::of(value)?),
                Some(("host", value)) => host_list = Some(value.replace("%2C", ",")),
                Some(("port", value)) => port_list = Some(value.replace("%2C", ",")),
                _ => kept.push(parameter),
            }
        }
        let mut servers: Vec<(String, Vec<String>)> = match host_list {
            // The place in the URL remains, for a port that is given there.
            Some(list) => {
                let host = |host: &str| (hosts.to_owned(), vec![format!("host={host}")]);
                list.split(',').map(host).collect()
            }
            None => hosts
                .split(',')
                .map(|host| (host.to_owned(), Vec::new()))
                .collect(),
        };
        if let Some(list) = port_list {
            let ports: Vec<_> = list.split(',').collect();
            if ports.len() != 1 && ports.len() != servers.len() {
                return Err(format!(
                    "it has {} ports for {} hosts: give one for each, or one for all",
                    ports.len(),
                    servers.len()
                ));
            }
            for (number, (_, parameters)) in servers.iter_mut().enumerate() {
                let port = ports
                    .get(number)
                    .or(ports.first())
                    .copied()
                    .unwrap_or_default();
                if !port.is_empty() {
                    parameters.push(format!("port={port}"));
                }
            }
        }
        let each = servers.into_iter().map(|(host, parameters)| {
            let parameters = parameters.iter().map(String::as_str);
            let query: Vec<_> = kept.iter().copied().chain(parameters).collect();
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{scheme}://{user}{host}{database}{mark}{}", query.join("&"))
        });
        Ok(Self {
            each: each.collect(),
            wanted,
        })
    }
}

impl Wanted {
    fn of(value: &str) -> Result<Self, String> {
        match value {
            "any" => Ok(Self::Any),
            "read-write" => Ok(Self::ReadWrite),
            "primary" => Ok(Self::Primary),
            _ => Err(format!(
                "target_session_attrs={value}: Postrider writes, so it must be read-write, primary \
                 or any"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Vec<String> {
        ServerUrl::of(url).unwrap().each
    }

    #[test]
    fn a_url_with_several_hosts_is_one_url_for_each() {
        let table: [(&str, &[&str]); 9] = [
            ("postgres://h/db", &["postgres://h/db"]),
            (
                "postgres://u:p%40@h:1/db?sslmode=require",
                &["postgres://u:p%40@h:1/db?sslmode=require"],
            ),
            (
                "postgres://h1:1,h2:2/db",
                &["postgres://h1:1/db", "postgres://h2:2/db"],
            ),
            (
                "postgresql://u@h1,[::1]:5433/db?sslmode=require",
                &[
                    "postgresql://u@h1/db?sslmode=require",
                    "postgresql://u@[::1]:5433/db?sslmode=require",
                ],
            ),
            (
                "postgres:///db?host=/run/postgresql",
                &["postgres:///db?host=/run/postgresql"],
            ),
            (
                "postgres://u@localhost/db?host=/tmp/a",
                &["postgres://u@localhost/db?host=/tmp/a"],
            ),
            (
                "postgres://u@/db?host=a,b&port=1,2",
                &[
                    "postgres://u@/db?host=a&port=1",
                    "postgres://u@/db?host=b&port=2",
                ],
            ),
            (
                "postgres:///db?host=a%2Cb&port=6432&user=u",
                &[
                    "postgres:///db?user=u&host=a&port=6432",
                    "postgres:///db?user=u&host=b&port=6432",
                ],
            ),
            (
                "postgres://a,b?target_session_attrs=read-write",
                &["postgres://a", "postgres://b"],
            ),
        ];
        for (url, expected) in table {
            assert_eq!(parts(url), expected, "{url}");
        }
        let refused = ServerUrl::of("postgres:///db?host=a,b,c&port=1,2").unwrap_err();
        assert_eq!(
            refused,
            "it has 2 ports for 3 hosts: give one for each, or one for all"
        );
    }
}
