//! A thread that does one job while the calling thread does another.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::io;
use std::string::ToString;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Looks for a job, or for its end, before a thread gives up its time slice or goes to sleep.
const SPINS: usize = if cfg!(miri) { 20 } else { 4000 };

// What the thread is at.
const IDLE: u32 = 0;
const GIVEN: u32 = 1;
const DONE: u32 = 2;
const STOP: u32 = 3;

struct Shared {
    state: AtomicU32,
    /// A [`Job`] on the stack of whoever waits for it, valid from `GIVEN` to `DONE`.
    job: AtomicPtr<()>,
}

/// What `Shared::job` points to.
struct Job<'a> {
    run: &'a mut (dyn FnMut() + Send),
}

/// The thread. Starting it allocates, running jobs does not.
pub struct Beside {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Waits for the job when it is dropped: the job borrows from the stack.
struct Wait<'a>(&'a Shared);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waited = 0;
        while self.0.state.load(Ordering::Acquire) != DONE {
            waited += 1;
            if waited % SPINS == 0 { thread::yield_now() } else { core::hint::spin_loop() }
        }
        self.0.state.store(IDLE, Ordering::Relaxed);
    }
}

/// Dropped only when a job panics, whose caller would wait for ever.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl Beside {
    /// Starts a thread of that name.
    ///
    /// # Errors
    /// What the operating system says where it can't.
    pub fn start(name: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: AtomicU32::new(IDLE), job: AtomicPtr::new(ptr::null_mut()) });
        let theirs = shared.clone();
        let thread = thread::Builder::new().name(name.to_string()).spawn(move || live(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Does `job` in the thread and `work` in the calling one; returns when both are done. A panic of `work` goes on when the job
    /// is done, one of `job` ends the program.
    pub fn run(&mut self, mut job: impl FnMut() + Send, work: impl FnOnce()) {
        let mut job = Job { run: &mut job };
        self.shared.job.store(ptr::from_mut(&mut job).cast(), Ordering::Relaxed);
        self.shared.state.store(GIVEN, Ordering::Release);
        let wait = Wait(&self.shared);
        if let Some(thread) = &self.thread {
            // Costs a system call only where it sleeps.
            thread.thread().unpark();
        }
        work();
        drop(wait);
    }
}

/// The life of the thread.
fn live(shared: &Shared) {
    let mut idle = 0;
    loop {
        match shared.state.load(Ordering::Acquire) {
            GIVEN => {
                let unfinished = Unfinished;
                let job = shared.job.load(Ordering::Relaxed).cast::<Job<'_>>();
                // SAFETY: whoever gave the job waits until it is done, and touches it no more until then.
                unsafe { ((*job).run)() };
                core::mem::forget(unfinished);
                shared.state.store(DONE, Ordering::Release);
                idle = 0;
            }
            STOP => return,
            _ if idle < SPINS => {
                idle += 1;
                core::hint::spin_loop();
            }
            _ => thread::park(),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.shared.state.store(STOP, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done_when_it_returns() {
        let mut beside = Beside::start("beside").unwrap();
        let (mut job, mut work) = (0, 0);
        for round in 0..if cfg!(miri) { 10 } else { 1000 } {
            if round % 100 == 0 {
                // Long enough to fall asleep.
                thread::sleep(core::time::Duration::from_millis(3));
            }
            beside.run(|| job += 1, || work += 1);
            assert_eq!((job, work), (round + 1, round + 1));
        }
    }

    #[test]
    fn a_panic_of_the_work_waits_for_the_job() {
        let mut beside = Beside::start("beside").unwrap();
        let mut done = false;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let job = || {
                thread::sleep(core::time::Duration::from_millis(20));
                done = true;
            };
            beside.run(job, || std::panic::resume_unwind(std::boxed::Box::new(())));
        }));
        assert!(caught.is_err() && done);
        let mut again = false;
        beside.run(|| again = true, || {});
        assert!(again);
    }
}
