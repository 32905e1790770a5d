//! What the user sees while the compiler works.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

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

    /// Tells, on a terminal, how far the download of `name` is; `size` in bytes, where it is known.
    pub fn transfer<'a>(&self, name: &'a str, size: Option<u64>) -> Transfer<'a> {
        let live = !self.quiet && std::io::stderr().is_terminal();
        Transfer { name, size, at: 0, told: live.then_some(None) }
    }

    /// Tells something that the user should know.
    pub fn note(&self, note: &str) {
        if !self.quiet {
            cliptext_files::to_stderr!("note: {note}");
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// One file's download; the line ends when this is dropped.
pub struct Transfer<'a> {
    name: &'a str,
    size: Option<u64>,
    at: u64,
    /// When it was told last; the outer `None`: it is not told at all.
    told: Option<Option<Instant>>,
}

impl Transfer<'_> {
    /// So many bytes are here.
    pub fn at(&mut self, bytes: u64) {
        self.at = bytes;
        if let Some(told) = &mut self.told
            && told.is_none_or(|last| last.elapsed() >= Duration::from_millis(100))
        {
            *told = Some(Instant::now());
            let mut out = std::io::stderr();
            let _ = write!(out, "\r{}", self.line());
            let _ = out.flush();
        }
    }

    /// Name, bytes and percent; as wide whatever the number of bytes.
    fn line(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let at = megabytes(self.at);
        match self.size {
            Some(size) => {
                let percent = if size == 0 { 100 } else { u128::from(self.at) * 100 / u128::from(size) };
                format!("{:<42} {at:>8.1} of {:.1} MB {percent:>3} %", self.name, megabytes(size))
            }
            None => format!("{:<42} {at:>8.1} MB", self.name),
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if self.told.is_some() {
            let _ = writeln!(std::io::stderr(), "\r{}", self.line());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn a_download_is_told_by_name_bytes_and_percent() {
        let progress = Progress::new(true);
        let mut transfer = progress.transfer("text_encoder/model.safetensors", Some(492_265_168));
        transfer.at(123_456_789);
        assert_eq!(transfer.line(), "text_encoder/model.safetensors                123.5 of 492.3 MB  25 %");
        transfer.at(492_265_168);
        assert!(transfer.line().ends_with("492.3 of 492.3 MB 100 %"));
        assert!(progress.transfer("config.json", Some(0)).line().ends_with("100 %"));
        assert!(progress.transfer("config.json", None).line().ends_with(" 0.0 MB"));
    }
}
