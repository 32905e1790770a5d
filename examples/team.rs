//! A team of one's own, as a port to an RTOS has it: a second thread that meets the calling one at two rendezvous for each step.
//! `cargo run --release --example team`
//!
//! [`cliptext::threads::Threads`] is faster where there is an operating system; this is what it takes at the least.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use cliptext::threads::Team;
use cliptext::{ArenaBuf, Encoder, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../models/demo.plan");

/// A step's tasks: a pointer, since the step outlives the job but not the team.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

// SAFETY: what it points to is `Sync`.
unsafe impl Send for Job {}

struct Pair {
    job: Mutex<Option<Job>>,
    /// The next task that nobody has.
    next: AtomicUsize,
    start: Barrier,
    end: Barrier,
    /// One job at a time.
    busy: Mutex<()>,
}

impl Pair {
    fn new() -> Self {
        Pair {
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            start: Barrier::new(2),
            end: Barrier::new(2),
            busy: Mutex::new(()),
        }
    }

    /// The second worker: job after job, until there is none at the start.
    fn serve(&self) {
        loop {
            self.start.wait();
            let Some(job) = *self.job.lock().expect("no panic while it is held") else { return };
            self.work(1, job);
            self.end.wait();
        }
    }

    fn work(&self, worker: usize, job: Job) {
        // SAFETY: `run` waits at the end before it returns, so the closure is alive.
        let task = unsafe { &*job.task };
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= job.tasks {
                return;
            }
            task(worker, number);
        }
    }

    fn stop(&self) {
        *self.job.lock().expect("no panic while it is held") = None;
        self.start.wait();
    }
}

// SAFETY: `next` gives each number to one worker, and both have passed `end`, which orders memory, before `run` returns. The workers are 0 and
// 1. A panic in a task would leave the other worker waiting for ever: `run` does not return.
unsafe impl Team for Pair {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let _busy = self.busy.lock().expect("no panic while it is held");
        // SAFETY: only the lifetime changes, and nobody uses the closure after `end`.
        let task = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync + '_),
                *const (dyn Fn(usize, usize) + Sync),
            >(task)
        };
        let job = Job { task, tasks };
        self.next.store(0, Ordering::Relaxed);
        *self.job.lock().expect("no panic while it is held") = Some(job);
        self.start.wait();
        self.work(0, job);
        self.end.wait();
    }

    fn workers(&self) -> usize {
        2
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::load(PLAN)?;
    let mut arena = ArenaBuf::<{ 160 * 1024 }>::new();
    let alone = Encoder::new(&plan, arena.bytes())?.encode("a running dog").hidden().to_vec();

    let team = Pair::new();
    let together = std::thread::scope(|scope| {
        scope.spawn(|| team.serve());
        let kernels = plan.kernels().expect("the demonstration plan runs on every CPU");
        let encoder = Encoder::with(&plan, arena.bytes(), kernels, &team);
        let hidden = encoder.map(|mut encoder| encoder.encode("a running dog").hidden().to_vec());
        team.stop();
        hidden
    })?;
    assert_eq!(alone, together);
    println!("{} values, the same bits by one worker and by two", together.len());
    Ok(())
}
