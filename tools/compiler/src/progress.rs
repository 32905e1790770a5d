//! What the user sees while the compiler works.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Tells each stage as it begins and how long it took.
pub struct Progress {
    quiet: bool,
    started: Instant,
}

impl Progress {
    /// Tells on standard error, unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, started: Instant::now() }
    }

    /// Does `work`, called `stage`.
    pub fn stage<R>(&self, stage: &str, work: impl FnOnce() -> R) -> R {
        if self.quiet {
            return work();
        }
        let mut out = std::io::stderr();
        let live = out.is_terminal();
        if live {
            let _ = write!(out, "{stage} …");
            let _ = out.flush();
        }
        let start = Instant::now();
        let result = work();
        // What a bar has left there goes.
        let start_of_line = if live { "\r\x1b[K" } else { "" };
        let _ = writeln!(out, "{start_of_line}{stage:<42} {:>6.1} s", start.elapsed().as_secs_f64());
        result
    }

    /// Does `work`, called `stage`, which says now and then how many of how many parts are done.
    pub fn counted<R>(&self, stage: &str, work: impl FnOnce(&dyn Fn(usize, usize)) -> R) -> R {
        let live = !self.quiet && std::io::stderr().is_terminal();
        self.stage(stage, || {
            work(&|done, all| {
                const BAR: usize = 24;
                if live {
                    let bar = "█".repeat(done * BAR / all.max(1));
                    let mut out = std::io::stderr();
                    let _ = write!(out, "\r{stage:<42} {bar:<BAR$} {done} of {all}");
                    let _ = out.flush();
                }
            })
        })
    }

    /// Tells something that the user should know.
    pub fn note(&self, note: &str) {
        if !self.quiet {
            eprintln!("note: {note}");
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
