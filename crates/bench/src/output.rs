//! Results on standard output, everything else on standard error.

use crate::error::Result;
use serde::Serialize;
use std::fmt;
use std::io::Write;

/// Writes text to standard output.
pub fn text(text: impl fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes values to standard output as JSON, one a line.
pub fn json<T: Serialize>(values: &[T]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for value in values {
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Writes a line to standard error.
pub fn notice(text: impl fmt::Display) {
    // When standard error cannot be written to, there is no other place to report it.
    let _ = writeln!(std::io::stderr(), "{text}");
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
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
