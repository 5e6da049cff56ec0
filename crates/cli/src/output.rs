//! Writing results to standard output, and everything else to standard error.
//!
//! With `--json` standard output holds results only: one object, or for listings one object a
//! line.

use crate::failure::Result;
use postrider_core::Timestamp;
use serde::Serialize;
use std::fmt;
use std::io::{IsTerminal, Write};

/// Writes results to standard output as JSON or as text.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Writes JSON if `json`, otherwise text.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether it writes JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Writes one result: as a JSON object on a line, or as the text of `human`.
    pub fn result<T: Serialize + ?Sized>(
        self,
        value: &T,
        human: impl FnOnce() -> String,
    ) -> Result<()> {
        let text = match self.json {
            true => serde_json::to_string(value)?,
            false => human(),
        };
        self.text(text)
    }

    /// Writes each row as a JSON object on a line.
    pub fn lines<T: Serialize>(self, rows: &[T]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for row in rows {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    /// Writes text and a line break.
    pub fn text(self, text: impl fmt::Display) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}

/// Writes a line to standard error.
pub fn notice(text: impl fmt::Display) {
    // When standard error cannot be written to, there is no other place to report it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether a question can be asked and answered: standard input and error are a terminal.
pub fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A time as text: RFC 3339 in UTC, to the second.
pub fn moment(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A time as text, or `otherwise` for `None`.
pub fn moment_or(at: Option<Timestamp>, otherwise: &str) -> String {
    at.map_or_else(|| otherwise.to_owned(), moment)
}

/// Lines of names and values, the values aligned in a column.
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("  {name:width$}  {}", printable(value)))
        .collect();
    lines.join("\n")
}

/// A table without borders; its columns are two blanks apart.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// The first `max_chars` characters of a text, on one line.
pub fn shortened(text: &str, max_chars: usize) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    printable(&short)
}

/// Text without control characters, so that text of others cannot control the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_columns() {
        let text = table(
            ["ID", "STATE"],
            [["1".into(), "pending".into()], ["22".into(), "a\nb".into()]],
        );
        assert_eq!(text, "ID  STATE\n1   pending\n22  a b");
    }

    #[test]
    fn shown_text_is_short_and_cannot_control_the_terminal() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äbcd", 3), "äbc…");
        assert_eq!(printable("a\u{1b}[31mb"), "a [31mb");
    }
}
