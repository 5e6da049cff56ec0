//! How far a measurement is, on standard error: a bar at a terminal, else a line now and then.

use crate::output::notice;
use indicatif::{ProgressBar, ProgressStyle};
use postrider_core::monotonic_now;
use std::time::{Duration, Instant};

/// Where there is no terminal, a line is written so often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How far something is; the bar goes with it.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    told: Instant,
}

impl Progress {
    /// Nothing of `total` is done yet; `what` is what happens to them, such as `inserted`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_message(what);
        let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} {msg}");
        Self {
            // The template is a constant and well-formed; the bar does without if it is not.
            bar: match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            },
            what,
            told: monotonic_now(),
        }
    }

    /// So many are done.
    pub fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.bar.is_hidden() && monotonic_now() - self.told >= LINE_EVERY {
            self.told = monotonic_now();
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
