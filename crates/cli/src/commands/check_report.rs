//! The lines that `postrider check` prints, one for each check.

use crate::failure::Result;
use crate::output::Output;
use serde::Serialize;

/// Prints the result of each check as it is found, and remembers whether any is a problem.
pub(super) struct CheckReport {
    output: Output,
    problems: u32,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckStatus {
    Ok,
    Warning,
    Problem,
}

#[derive(Serialize)]
struct CheckLine<'a> {
    check: &'a str,
    status: CheckStatus,
    message: &'a str,
}

impl CheckReport {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            problems: 0,
        }
    }

    pub(super) fn has_problems(&self) -> bool {
        self.problems > 0
    }

    pub(super) fn ok(&mut self, check: &str, message: impl AsRef<str>) -> Result<()> {
        self.line(check, CheckStatus::Ok, message.as_ref())
    }

    pub(super) fn warning(&mut self, check: &str, message: impl AsRef<str>) -> Result<()> {
        self.line(check, CheckStatus::Warning, message.as_ref())
    }

    pub(super) fn problem(&mut self, check: &str, message: impl AsRef<str>) -> Result<()> {
        self.problems += 1;
        self.line(check, CheckStatus::Problem, message.as_ref())
    }

    fn line(&mut self, check: &str, status: CheckStatus, message: &str) -> Result<()> {
        let line = CheckLine {
            check,
            status,
            message,
        };
        self.output.result(&line, || {
            let status = match status {
                CheckStatus::Ok => "ok",
                CheckStatus::Warning => "warning",
                CheckStatus::Problem => "problem",
            };
            format!("{status:8} {check:14} {message}")
        })
    }
}
