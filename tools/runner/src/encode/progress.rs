//! How far the work is, on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines; the first comes after it, so that short work shows none.
const PAUSE: Duration = Duration::from_millis(250);

/// A line on standard error that is written over, where that is a terminal.
pub(crate) struct Progress {
    is_shown: bool,
    /// What is counted.
    what: &'static str,
    total: Option<usize>,
    done: usize,
    began: Instant,
    /// When the line was written last.
    last: Instant,
    is_on_screen: bool,
}

impl Progress {
    /// Of `total` prompts, or `what` else they are, where that is known.
    pub(crate) fn new(what: &'static str, total: Option<usize>, is_wanted: bool) -> Self {
        let now = Instant::now();
        let is_shown = is_wanted && std::io::stderr().is_terminal();
        Self { is_shown, what, total, done: 0, began: now, last: now, is_on_screen: false }
    }

    /// One prompt more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if self.is_shown && self.last.elapsed() >= PAUSE {
            self.last = Instant::now();
            self.is_on_screen = true;
            show(&line(self.what, self.done, self.total, self.began.elapsed()));
        }
    }

    /// Makes room for another line.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_on_screen) {
            show("");
        }
    }
}

/// Writes over the line; `ESC [ K` clears what was longer (ECMA-48). Whatever is said next is written over it too.
fn show(line: &str) {
    let _ = write!(std::io::stderr(), "\r{line}\x1b[K\r");
}

/// `123 of 1000 prompts, 45.2 a second, 0:19 left`
fn line(what: &str, done: usize, total: Option<usize>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let Some(total) = total else { return format!("{done} {what}, {rate:.1} a second") };
    let left = Duration::from_secs_f64((total.saturating_sub(done) as f64 / rate).min(1e9)).as_secs();
    let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
    let left = if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    };
    format!("{done} of {total} {what}, {rate:.1} a second, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_count_and_what_is_left_are_told() {
        let second = Duration::from_secs(1);
        let line = |done, total, seconds| line("prompts", done, total, seconds * second);
        assert_eq!(line(40, None, 2), "40 prompts, 20.0 a second");
        assert_eq!(line(40, Some(440), 2), "40 of 440 prompts, 20.0 a second, 0:20 left");
        assert_eq!(line(1, Some(7264), 2), "1 of 7264 prompts, 0.5 a second, 4:02:06 left");
        assert_eq!(line(2, Some(1), 1), "2 of 1 prompts, 2.0 a second, 0:00 left");
    }
}
