//! Who does the work: one thread, or a team that starts once and then shares every step.

#[cfg(feature = "std")]
mod cores;
#[cfg(feature = "std")]
#[allow(unsafe_code)] // a job's closure, handed to threads that do not outlive the job
mod team;

#[cfg(feature = "std")]
pub use cores::{big_cores, default_threads};
#[cfg(feature = "std")]
pub use team::Threads;

/// Workers that share tasks.
pub trait Team: Sync {
    /// Calls `task` once for each number below `tasks`, in any order, on any worker; returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));

    /// How many workers there are.
    fn threads(&self) -> usize;
}

/// The calling thread alone: what bare metal has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Team for Solo {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }

    fn threads(&self) -> usize {
        1
    }
}

impl<T: Team + ?Sized> Team for &T {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (**self).run(tasks, task);
    }

    fn threads(&self) -> usize {
        (**self).threads()
    }
}
