//! The servers that a URL names, and which of them a new connection goes to.
//!
//! `sqlx` knows one server. As libpq does, a URL may name several, and `target_session_attrs` says
//! which of them is wanted. They are tried in order each time a connection is made, so that new
//! connections follow a failover.

use super::errors;
use super::server_url::{ServerUrl, Wanted};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::io::{self, ErrorKind};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// The servers of one database, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    each: Vec<PgConnectOptions>,
    wanted: Wanted,
}

/// Why no server can be used, for each that was tried.
#[derive(Debug)]
pub(super) struct NoServer(Vec<(String, Refusal)>);

/// Why a server cannot be used.
#[derive(Debug)]
enum Refusal {
    /// Connecting failed.
    Failed(sqlx::Error),
    /// It did not answer within this time.
    Silent(Duration),
    /// It takes no writes.
    ReadOnly,
}

/// A setting of a session: its name and its value.
pub(super) type Setting = (&'static str, &'static str);

impl Servers {
    /// The servers that `url` names.
    ///
    /// # Errors
    /// A text that says what is wrong with the URL.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let named = ServerUrl::of(url)?;
        let mut each = Vec::new();
        for url in &named.each {
            let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
            each.push(match options.get_application_name() {
                Some(_) => options,
                None => options.application_name("postrider"),
            });
        }
        // Postrider writes: of several servers, one that takes no writes is of no use.
        let wanted = named.wanted.unwrap_or(match each.len() {
            1 => Wanted::Any,
            _ => Wanted::ReadWrite,
        });
        Ok(Self { each, wanted })
    }

    /// The same servers, with these settings for each session.
    pub(super) fn with<V: AsRef<str>>(&self, settings: &[(&'static str, V)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, value.as_ref()));
        let each = self.each.iter().cloned();
        Self {
            each: each.map(|one| one.options(settings.clone())).collect(),
            wanted: self.wanted,
        }
    }

    /// The same servers; nothing is logged of slow statements.
    pub(super) fn without_logging(self) -> Self {
        use sqlx::ConnectOptions;
        let each = self.each.into_iter();
        Self {
            each: each
                .map(ConnectOptions::disable_statement_logging)
                .collect(),
            wanted: self.wanted,
        }
    }

    /// A phrase that names the database, without its password.
    pub(super) fn place(&self) -> String {
        let name = self.each.first().map(|first| {
            first
                .get_database()
                .unwrap_or(first.get_username())
                .to_owned()
        });
        let places: Vec<_> = self.each.iter().map(place).collect();
        format!(
            "PostgreSQL database {} at {}",
            name.unwrap_or_default(),
            places.join(", ")
        )
    }

    pub(super) fn username(&self) -> &str {
        self.each.first().map_or("", PgConnectOptions::get_username)
    }

    /// Connects to the first server that is as wanted. All tries together take `within` at most;
    /// each server gets an equal part of it.
    pub(super) async fn connect(&self, within: Duration) -> Result<PgConnection, NoServer> {
        let part = within / u32::try_from(self.each.len()).unwrap_or(1).max(1);
        let mut refusals = Vec::new();
        for one in &self.each {
            match timeout(part, self.connect_to(one)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(refusal)) => refusals.push((place(one), refusal)),
                Err(_) => refusals.push((place(one), Refusal::Silent(part))),
            }
        }
        Err(NoServer(refusals))
    }

    async fn connect_to(&self, one: &PgConnectOptions) -> Result<PgConnection, Refusal> {
        let connecting = PgConnection::connect_with(one);
        let mut connection = connecting.await.map_err(Refusal::Failed)?;
        let statement = match self.wanted {
            Wanted::Any => return Ok(connection),
            Wanted::ReadWrite => {
                "-- postrider: server_is_read_only
                SELECT current_setting('transaction_read_only')::boolean"
            }
            Wanted::Primary => {
                "-- postrider: server_is_standby
                SELECT pg_is_in_recovery()"
            }
        };
        let is_unwanted: bool = sqlx::query_scalar(statement)
            .fetch_one(&mut connection)
            .await
            .map_err(Refusal::Failed)?;
        match is_unwanted {
            false => Ok(connection),
            true => {
                // If this fails, the server notices the end of the connection anyway.
                connection.close().await.ok();
                Err(Refusal::ReadOnly)
            }
        }
    }
}

impl NoServer {
    /// The error code of the server, if there is one server and it reported one.
    pub(super) fn code(&self) -> Option<String> {
        match self.0.as_slice() {
            [(_, Refusal::Failed(error))] => Some(error.as_database_error()?.code()?.into_owned()),
            _ => None,
        }
    }

    /// Whether no server answered at all.
    pub(super) fn is_silence(&self) -> bool {
        let mut each = self.0.iter();
        each.all(|(_, refusal)| matches!(refusal, Refusal::Silent(_)))
    }

    /// Whether a server may accept a connection in a moment: one starts up, is full, or is about
    /// to take over.
    pub(super) fn is_passing(&self) -> bool {
        self.0.iter().any(|(_, refusal)| match refusal {
            Refusal::Failed(sqlx::Error::Io(error)) => error.kind() == ErrorKind::ConnectionRefused,
            Refusal::Failed(sqlx::Error::Database(error)) => error.is_transient_in_connect_phase(),
            Refusal::Failed(_) | Refusal::Silent(_) => false,
            Refusal::ReadOnly => true,
        })
    }

    /// What each server answered, in words.
    pub(super) fn words(&self) -> String {
        match self.0.as_slice() {
            [(_, refusal)] => refusal.words(),
            all => {
                let each = all
                    .iter()
                    .map(|(place, refusal)| format!("{place}: {}", refusal.words()));
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// The error of a call that needs a connection.
    pub(super) fn into_error(mut self) -> sqlx::Error {
        let hint = self.code().filter(|code| code == errors::NOT_SUPPORTED);
        if hint.is_none()
            && matches!(self.0.as_slice(), [(_, Refusal::Failed(_))])
            && let Some((_, Refusal::Failed(error))) = self.0.pop()
        {
            return error;
        }
        let mut text = format!("cannot connect: {}", self.words());
        if hint.is_some() {
            text = format!("{text}: {}", errors::PROXY);
        }
        sqlx::Error::Io(io::Error::new(ErrorKind::NotConnected, text))
    }
}

impl Refusal {
    fn words(&self) -> String {
        match self {
            Self::Failed(error) => crate::error::words(error),
            Self::Silent(part) => format!("no answer within {part:.1?}"),
            Self::ReadOnly => "the server is read-only".into(),
        }
    }
}

/// Where a server is.
fn place(options: &PgConnectOptions) -> String {
    let port = options.get_port();
    match options.get_socket() {
        Some(socket) => format!("{}:{port}", socket.display()),
        None => format!("{}:{port}", options.get_host()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_servers_one_that_can_be_written_to_is_wanted() {
        let table = [
            ("postgres://h/db", Wanted::Any),
            (
                "postgres://h/db?target_session_attrs=read-write",
                Wanted::ReadWrite,
            ),
            (
                "postgres://h/db?target_session_attrs=primary",
                Wanted::Primary,
            ),
            ("postgres://h1,h2/db", Wanted::ReadWrite),
            ("postgres://h1,h2/db?target_session_attrs=any", Wanted::Any),
        ];
        for (url, expected) in table {
            assert_eq!(Servers::of(url).unwrap().wanted, expected, "{url}");
        }
        let refused = Servers::of("postgres://h/db?target_session_attrs=standby").unwrap_err();
        assert!(
            refused.contains("must be read-write, primary or any"),
            "{refused}"
        );
    }

    #[test]
    fn the_place_names_every_server_and_no_password() {
        let servers = Servers::of("postgres://u:secret@h1:1,h2:2/app").unwrap();
        assert_eq!(servers.place(), "PostgreSQL database app at h1:1, h2:2");
        let servers = Servers::of("postgres://u@localhost/app?host=/tmp/x").unwrap();
        assert_eq!(servers.place(), "PostgreSQL database app at /tmp/x:5432");
    }
}
