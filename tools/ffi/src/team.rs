//! Who does an encoder's work: the calling thread, threads that were started for it, or a team of the caller's.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(feature = "std")]
use cliptext::threads::Threads;
use cliptext::threads::{Solo, Team};

use crate::pointers;
use crate::status::cliptext_status::*;
use crate::status::{Outcome, fail};

/// Does one task: `number` of a job, as `worker`.
pub type cliptext_task = unsafe extern "C" fn(argument: *const c_void, worker: usize, number: usize);

/// The most workers of a team.
pub const CLIPTEXT_MAX_WORKERS: usize = 1024;

/// A team of the caller's own that shares the steps of a pass: the cores of an RTOS, or the thread pool that a program has anyway.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_team {
    /// Given to `run`.
    pub context: *mut c_void,
    /// How many workers there are, 1 to CLIPTEXT_MAX_WORKERS: they are numbered from 0.
    pub workers: usize,
    /// Calls `task(argument, worker, number)` exactly once for each `number` below `tasks`, in any order, by any worker, and returns
    /// when all are done and what they wrote is visible to the caller. Calls that overlap in time have different workers, all below
    /// `workers`. It is called about ten times for each layer, by the thread that encodes.
    pub run: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            tasks: usize,
            task: cliptext_task,
            argument: *const c_void,
        ),
    >,
}

/// Who does the work.
pub(crate) enum Crew {
    Alone,
    #[cfg(feature = "std")]
    Started(Threads),
    Given(Given),
}

/// A team of the caller's, and whether it has left a job undone.
pub(crate) struct Given {
    team: cliptext_team,
    failed: AtomicBool,
}

// SAFETY: `run` is called by the thread that encodes; that `context` may be used from there is the caller's word.
unsafe impl Sync for Given {}
// SAFETY: as above.
unsafe impl Send for Given {}

impl Crew {
    /// The caller's team.
    pub(crate) fn given(team: &cliptext_team) -> Outcome<Self> {
        if team.run.is_none() {
            return Err(fail(CLIPTEXT_NULL, format_args!("`run` of the team is null")));
        }
        if !(1..=CLIPTEXT_MAX_WORKERS).contains(&team.workers) {
            let given = team.workers;
            return Err(fail(
                CLIPTEXT_ARGUMENT,
                format_args!("`workers` of the team is {given}: it has 1 to {CLIPTEXT_MAX_WORKERS}"),
            ));
        }
        Ok(Crew::Given(Given { team: *team, failed: AtomicBool::new(false) }))
    }

    /// Whether every job of the last pass was done.
    pub(crate) fn did_all(&self) -> Outcome {
        match self {
            Crew::Given(given) if given.failed.swap(false, Ordering::Relaxed) => Err(fail(
                CLIPTEXT_TEAM,
                format_args!("`run` of the team did not do each task once, or by a worker that there is not"),
            )),
            _ => Ok(()),
        }
    }
}

/// A job, as a caller's team sees it: a pointer.
struct Job<'j> {
    task: &'j (dyn Fn(usize, usize) + Sync),
    tasks: usize,
    workers: usize,
    done: AtomicUsize,
}

/// What a team calls for each task.
unsafe extern "C" fn work(argument: *const c_void, worker: usize, number: usize) {
    // A pointer that can't be a job's is told by the count of tasks done.
    if pointers::usable(argument.cast::<Job<'_>>(), "argument").is_err() {
        return;
    }
    // SAFETY: the team hands on what `run` was given, and does so before it returns.
    let job = unsafe { &*argument.cast::<Job<'_>>() };
    if worker < job.workers && number < job.tasks {
        (job.task)(worker, number);
        job.done.fetch_add(1, Ordering::AcqRel);
    }
}

// SAFETY: the others' promises; of a team of the caller's, what the header asks.
unsafe impl Team for Crew {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        match self {
            Crew::Alone => Solo.run(tasks, task),
            #[cfg(feature = "std")]
            Crew::Started(threads) => threads.run(tasks, task),
            Crew::Given(given) => {
                let Some(run) = given.team.run else { return };
                let workers = given.team.workers;
                let job = Job { task, tasks, workers, done: AtomicUsize::new(0) };
                // SAFETY: the function is what the caller gave for this.
                unsafe { run(given.team.context, tasks, work, (&raw const job).cast()) };
                if job.done.load(Ordering::Acquire) != tasks {
                    given.failed.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn workers(&self) -> usize {
        match self {
            Crew::Alone => 1,
            #[cfg(feature = "std")]
            Crew::Started(threads) => threads.workers(),
            Crew::Given(given) => given.team.workers,
        }
    }
}
