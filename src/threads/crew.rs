//! A team of cores without an operating system.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Team;
use super::job::{CALLER, Call, Job};

/// Cores that share tasks: the one that encodes, and those that [join](Self::join).
///
/// It lives in a `static`. The board starts the other cores, each with a stack of its own and vector registers switched on, and has
/// them call [`join`](Self::join). A core that never comes takes no task; nobody waits for it.
///
/// ```
/// use cliptext::threads::Crew;
///
/// // On a board: `wfe` to wait for an event, `dsb ishst; sev` to send one.
/// static CREW: Crew = Crew::new(4, core::hint::spin_loop, || ());
/// ```
pub struct Crew {
    job: Job,
    workers: usize,
    joined: AtomicUsize,
    /// One job at a time; a core that finds the crew busy does its tasks itself.
    busy: AtomicBool,
    wait: fn(),
    wake: fn(),
}

impl Crew {
    /// A crew of up to `workers` cores, the one that encodes among them. A core without work calls `wait` again and again,
    /// which may return at any time and must when `wake` is called; `wake` is called when there is work.
    pub const fn new(workers: usize, wait: fn(), wake: fn()) -> Self {
        Self {
            job: Job::new(),
            workers: if workers == 0 { 1 } else { workers },
            joined: AtomicUsize::new(1),
            busy: AtomicBool::new(false),
            wait,
            wake,
        }
    }

    /// Works for the crew for ever; returns only where there are as many cores as it was made for.
    pub fn join(&self) {
        self.join_while(|| true);
    }

    /// Works for the crew while `goes_on` says so, which is asked where there is nothing to do.
    pub fn join_while(&self, goes_on: impl Fn() -> bool) {
        let worker = self.joined.fetch_add(1, Ordering::Relaxed);
        if worker >= self.workers {
            return;
        }
        loop {
            if !self.job.work(worker) {
                if !goes_on() {
                    return;
                }
                (self.wait)();
            }
        }
    }
}

// SAFETY: a ticket is taken once, and holds no more tasks than there are; `run` waits until as many are done as were there. Whoever
// calls `run` is worker 0, cores that joined have numbers of their own below `workers`; a caller that finds the crew busy does all
// tasks itself.
unsafe impl Team for Crew {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let alone = self.workers == 1 || tasks <= 1 || !Job::takes(tasks);
        if alone || self.busy.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(|number| task(CALLER, number));
        }
        let call = Call { task, tasks };
        // SAFETY: `busy` lets one caller through, which waits below.
        unsafe { self.job.give(&call) };
        (self.wake)();
        while self.job.work(CALLER) {}
        while !self.job.is_done(tasks) {
            core::hint::spin_loop();
        }
        self.busy.store(false, Ordering::Release);
    }

    fn workers(&self) -> usize {
        self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::vec::Vec;

    #[test]
    fn every_task_is_done_once_however_many_cores_come() {
        for (workers, come) in [(1, 0), (1, 1), (3, 0), (3, 2), (3, 5)] {
            let crew = Crew::new(workers, thread::yield_now, || ());
            let ends = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..come {
                    scope.spawn(|| crew.join_while(|| !ends.load(Ordering::Relaxed)));
                }
                let most = AtomicUsize::new(0);
                for round in 0..if cfg!(miri) { 10 } else { 2000 } {
                    let tasks = round % 23;
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    crew.run(tasks, &|worker, task| {
                        most.fetch_max(worker, Ordering::Relaxed);
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
                }
                ends.store(true, Ordering::Relaxed);
                assert!(most.into_inner() < workers);
            });
        }
    }

    #[test]
    fn cores_that_come_work() {
        let crew = Crew::new(3, thread::yield_now, || ());
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| crew.join_while(|| !ends.load(Ordering::Relaxed)));
            }
            // Each task waits until every core has one.
            let arrived = AtomicUsize::new(0);
            crew.run(3, &|_, _| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 3 {
                    thread::yield_now();
                }
            });
            ends.store(true, Ordering::Relaxed);
        });
    }
}
