//! Progress on standard error: a bar at a terminal, otherwise a line every ten seconds.

use crate::output::notice;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// How often a line is written when standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of one step; its bar disappears when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    last_line: Instant,
}

impl Progress {
    /// A step with 0 of `total` things done; `what` is the participle, such as `inserted`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_message(what);
        let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} {msg}");
        Self {
            // The template is a valid constant; otherwise the bar keeps its default style.
            bar: match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            },
            what,
            last_line: Instant::now(),
        }
    }

    /// Shows that `done` things are done.
    pub fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let total = self.bar.length().unwrap_or_default();
            notice(format_args!("  {done} of {total} {}", self.what));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
