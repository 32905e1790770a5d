//! Who does the work: one thread, or a team that starts once and then shares every step.

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
