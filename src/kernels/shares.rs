//! Which task a worker does next.
//!
//! What one core wrote comes slowly to another. So each worker has a share of a step's tasks, one behind the other, and does them before
//! any others: steps that are cut alike, such as the products that make queries, keys and values and the attention of those heads, keep
//! their data with the core that wrote it. A worker that is done early does what is left of the others' shares.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The most workers that have shares: beyond them the tasks are done in turn.
const MAX_WORKERS: usize = 16;

/// The tasks of one step.
pub(super) struct Shares {
    tasks: usize,
    workers: usize,
    /// How many of each worker's share are taken; more where others found it empty.
    taken: [AtomicUsize; MAX_WORKERS],
}

impl Shares {
    pub(super) const fn new(tasks: usize, workers: usize) -> Self {
        Self { tasks, workers, taken: [const { AtomicUsize::new(0) }; MAX_WORKERS] }
    }

    /// Where the share of `worker` begins, or that of the one before ends.
    fn start(&self, worker: usize) -> usize {
        worker * (self.tasks / self.workers.max(1)) + worker.min(self.tasks % self.workers.max(1))
    }

    /// A task for `worker`, who calls for the time `number`: each once, as long as no more are asked for than there are.
    #[inline]
    pub(super) fn next(&self, worker: usize, number: usize) -> Option<usize> {
        let Some(taken) = self.taken.get(..self.workers).filter(|taken| taken.len() > 1) else {
            return Some(number);
        };
        let own = worker.checked_rem(taken.len()).unwrap_or(0);
        let in_turn = (own..).zip(taken.iter().skip(own)).chain((0..).zip(taken.iter().take(own)));
        for (owner, taken) in in_turn {
            let (start, end) = (self.start(owner), self.start(owner + 1));
            // Nothing but the number itself is handed over.
            let task = start + taken.fetch_add(1, Ordering::Relaxed);
            if task < end {
                return Some(task);
            }
        }
        debug_assert!(false, "a task too many");
        None
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn each_task_is_given_once_and_one_s_own_first() {
        for (tasks, workers) in [(1, 1), (5, 1), (1, 2), (12, 2), (13, 2), (13, 4), (3, 8), (40, 17)] {
            let shares = Shares::new(tasks, workers);
            let given: Vec<usize> =
                (0..tasks).map(|time| shares.next(time * 7 % workers, time).unwrap()).collect();
            let mut sorted = given.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..tasks), "{tasks} for {workers}: {given:?}");
        }
        let shares = Shares::new(13, 3);
        // 5, 4 and 4; the last worker takes all that others leave.
        assert_eq!([0, 1, 2, 0, 1, 2].map(|worker| shares.next(worker, 0).unwrap()), [0, 5, 9, 1, 6, 10]);
        assert_eq!(
            [2, 2, 2, 2, 2, 2, 2].map(|worker| shares.next(worker, 0).unwrap()),
            [11, 12, 2, 3, 4, 7, 8]
        );
    }
}
