//! Asking before a command does what cannot be undone.

use crate::failure::{Misuse, Result};
use crate::output::{at_a_terminal, notice};
use std::io::Write;

/// Whether the command may go on: with `--yes`, or when `question` is answered with yes at a
/// terminal.
///
/// # Errors
/// [`Misuse`] without `--yes` when there is no terminal: `refusal` says what cannot be undone.
pub(super) async fn agreed(
    yes: bool,
    refusal: &str,
    question: impl AsyncFnOnce() -> Result<bool>,
) -> Result<bool> {
    match (yes, at_a_terminal()) {
        (true, _) => Ok(true),
        (false, true) => question().await,
        (false, false) => Err(Misuse::new(format!(
            "{refusal} cannot be undone: add --yes to do it without being asked"
        ))),
    }
}

/// Asks a question at the terminal and returns whether the answer is yes.
pub(super) fn confirmed(question: &str) -> Result<bool> {
    let mut out = std::io::stderr();
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says that the answer was no.
pub(super) fn unchanged() {
    notice("Nothing was changed.");
}
