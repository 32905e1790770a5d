//! What a server has done.

use core::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// What a server has done since it started. On a machine of 32 bits the counters begin at 0 again behind 2³² - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Requests that were answered, other than by a problem.
    pub answered: u64,
    /// Requests that were answered by a problem.
    pub refused: u64,
    /// Texts that were encoded.
    pub texts: u64,
    /// Rows that were sent.
    pub rows: u64,
    /// Frames that were damaged or cut.
    pub damaged: u64,
    /// Frames that were too long.
    pub too_long: u64,
    /// Pieces between two zeros that were too short for a frame, or answers: no answer was given.
    pub skipped: u64,
    /// Milliseconds of computing; 0 without a clock, as the next two.
    pub busy_millis: u64,
    /// Microseconds that the last request with texts to encode took, from its last byte to the end of computing.
    pub last_micros: u64,
    /// Microseconds that the longest took.
    pub longest_micros: u64,
}

/// Counts for [`Statistics`], also for several servers at once.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) answered: AtomicUsize,
    pub(super) refused: AtomicUsize,
    pub(super) texts: AtomicUsize,
    pub(super) rows: AtomicUsize,
    pub(super) damaged: AtomicUsize,
    pub(super) too_long: AtomicUsize,
    pub(super) skipped: AtomicUsize,
    busy_millis: AtomicUsize,
    last_micros: AtomicUsize,
    longest_micros: AtomicUsize,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicUsize, more: usize) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    /// All 0, for a `static` too.
    pub const fn new() -> Self {
        Self {
            answered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            texts: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            damaged: AtomicUsize::new(0),
            too_long: AtomicUsize::new(0),
            skipped: AtomicUsize::new(0),
            busy_millis: AtomicUsize::new(0),
            last_micros: AtomicUsize::new(0),
            longest_micros: AtomicUsize::new(0),
        }
    }

    /// A request was computed in `micros`; with what was `left` before, they are whole milliseconds and what is left over.
    pub(super) fn computed(&self, micros: u64, left: &mut u64) {
        let total = left.saturating_add(micros);
        *left = total % 1000;
        count(&self.busy_millis, (total / 1000) as usize);
        self.last_micros.store(micros as usize, Ordering::Relaxed);
        self.longest_micros.fetch_max(micros as usize, Ordering::Relaxed);
    }

    /// What they say.
    pub fn statistics(&self) -> Statistics {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
        Statistics {
            answered: of(&self.answered),
            refused: of(&self.refused),
            texts: of(&self.texts),
            rows: of(&self.rows),
            damaged: of(&self.damaged),
            too_long: of(&self.too_long),
            skipped: of(&self.skipped),
            busy_millis: of(&self.busy_millis),
            last_micros: of(&self.last_micros),
            longest_micros: of(&self.longest_micros),
        }
    }
}
