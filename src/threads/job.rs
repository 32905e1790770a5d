//! A job that several workers share, without locks.
//!
//! All of its state is one word, the *ticket*: the number of the current job in the upper half, the tasks of it that
//! nobody has taken yet in the lower. Whoever takes a task, by compare-and-swap, knows that the job is still going on:
//! it ends only when every taken task is done. So nobody ever waits for a worker that has nothing to do: one that is
//! asleep or preempted takes no task.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// On a cache line of its own: what one side writes does not disturb what others read.
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// What is to be done.
pub(super) struct Call<'a> {
    pub(super) task: &'a (dyn Fn(usize, usize) + Sync),
    pub(super) tasks: usize,
}

/// The worker that gives the jobs.
pub(super) const CALLER: usize = 0;

/// The ticket's lower half.
const TASKS: u64 = 0xffff_ffff;

/// The place for one job at a time.
pub(super) struct Job {
    ticket: Line<AtomicU64>,
    done: Line<AtomicUsize>,
    /// A [`Call`] on the stack of whoever gave the job, valid while it goes on.
    call: Line<AtomicPtr<()>>,
}

/// Dropped only when a task panics: its step would stay undone, and its caller's stack must not go away meanwhile.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        #[cfg(feature = "std")]
        std::process::abort();
        #[cfg(not(feature = "std"))]
        loop {
            core::hint::spin_loop();
        }
    }
}

impl Job {
    /// Without a job.
    pub(super) const fn new() -> Self {
        Self {
            ticket: Line(AtomicU64::new(0)),
            done: Line(AtomicUsize::new(0)),
            call: Line(AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Whether so many tasks fit a job.
    pub(super) fn takes(tasks: usize) -> bool {
        tasks as u64 <= TASKS
    }

    /// Gives a job, once the one before is done.
    ///
    /// # Safety
    /// `call` stands until [`is_done`](Self::is_done) says so, one caller gives jobs at a time, and the tasks [fit](Self::takes).
    pub(super) unsafe fn give(&self, call: &Call<'_>) {
        self.done.0.store(0, Ordering::Relaxed);
        self.call.0.store(ptr::from_ref(call).cast_mut().cast(), Ordering::Relaxed);
        let number = (self.ticket.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.ticket.0.store(number << 32 | call.tasks as u64, Ordering::SeqCst);
    }

    /// Whether as many tasks are done as the job had.
    pub(super) fn is_done(&self, tasks: usize) -> bool {
        self.done.0.load(Ordering::Acquire) == tasks
    }

    /// Whether there are tasks to take.
    #[cfg(feature = "std")]
    pub(super) fn has_tasks(&self) -> bool {
        self.ticket.0.load(Ordering::SeqCst) & TASKS != 0
    }

    /// Takes a task of the current job and does it as `worker`; whether there was one.
    pub(super) fn work(&self, worker: usize) -> bool {
        let mut ticket = self.ticket.0.load(Ordering::Acquire);
        loop {
            let left = ticket & TASKS;
            if left == 0 {
                return false;
            }
            match self.ticket.0.compare_exchange_weak(ticket, ticket - 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let call: *const Call<'_> = self.call.0.load(Ordering::Relaxed).cast();
                    // SAFETY: a task of the job was taken and is not done, so whoever gave it still waits and its call
                    // still stands; it was stored before the ticket that was taken.
                    let call = unsafe { &*call };
                    let unfinished = Unfinished;
                    (call.task)(worker, call.tasks - left as usize);
                    core::mem::forget(unfinished);
                    self.done.0.fetch_add(1, Ordering::Release);
                    return true;
                }
                Err(now) => ticket = now,
            }
        }
    }
}
