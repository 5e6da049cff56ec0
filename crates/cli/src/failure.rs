//! How the program fails: one line on standard error, and an exit code that distinguishes wrong
//! arguments from other failures. Error texts never contain a secret.

use anyhow::Error;
use std::fmt;
use std::process::ExitCode;

/// The result of a command.
pub type Result<T> = anyhow::Result<T>;

/// The arguments or the configuration cannot be used: exit code 2, as for arguments that the parser
/// of the command line refuses.
#[derive(Debug)]
pub struct Misuse(String);

/// The command failed and has already printed why: exit code 1, and nothing more is printed.
#[derive(Debug)]
pub struct Silent;

impl Misuse {
    /// An error with a text that says what is wrong and what to change.
    #[expect(clippy::new_ret_no_self, reason = "it is only ever used as an error")]
    pub fn new(sentence: impl Into<String>) -> Error {
        Error::new(Self(sentence.into()))
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Silent {}

/// Prints the error and returns the exit code: 2 for [`Misuse`], otherwise 1.
pub fn report(error: &Error) -> ExitCode {
    // The reader of standard output has closed it, as in `postrider event list | head`.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Silent>() {
        return ExitCode::FAILURE;
    }
    eprintln!("error: {}", sentence(error));
    match error.is::<Misuse>() {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

/// The error in one sentence, with its causes as far as they add something, and advice.
pub fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    match advice(error, &text) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// What to do when PostgreSQL denies something; its own text only says what it denied.
fn advice(error: &Error, text: &str) -> Option<&'static str> {
    let store_error = error.downcast_ref::<postrider_store::Error>()?;
    match store_error {
        postrider_store::Error::Unavailable(_) if text.contains("read-only transaction") => Some(
            "Postrider needs to write: connect to the primary server, or lift \
             default_transaction_read_only for this role or database",
        ),
        postrider_store::Error::Denied(_) if text.contains("permission denied") => Some(
            "connect as the role that ran `postrider migrate`, or one that it granted the \
             postrider_* tables to",
        ),
        _ => None,
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_printed_only_if_it_adds_something() {
        let repeated = Error::msg("no route").context("the database is unavailable: no route");
        assert_eq!(sentence(&repeated), "the database is unavailable: no route");
        let new = Error::msg("permission denied").context("cannot make postrider.db.key");
        assert_eq!(
            sentence(&new),
            "cannot make postrider.db.key: permission denied"
        );
    }
}
