//! What a team owes, and the team of one.

/// Workers that share tasks.
///
/// A step's tasks write to parts of the same buffers, without locks: which part a task has follows from its number. So
/// memory safety rests on what [`run`](Self::run) owes, and the trait is unsafe to implement.
///
/// # Safety
/// In each call of [`run`](Self::run), `task(worker, number)` is called exactly once for each number below `tasks` and for no other, or
/// `run` does not return: a call that can't be finished unwinds or aborts. Whatever the tasks wrote is visible to the caller when `run`
/// returns, no call of `task` begins or goes on after that, and `task` is not kept. Calls that overlap in time have different `worker`s, all
/// below [`workers`](Self::workers), which is the same from one call to the next.
///
/// # Panics in tasks
/// The crate's own tasks do not panic. An implementation must be ready for those of others: it may let the panic unwind out of
/// `run`, as [`Solo`] does, but only once no other task is running; or abort the process, as [`Threads`](crate::threads::Threads) does.
///
/// ```
/// use cliptext::threads::Team;
///
/// /// Starts its threads anew for each job: right, and slow.
/// struct Scoped;
///
/// // SAFETY: worker `w` of two does the tasks `w`, `w + 2`, …; the scope ends when both have ended.
/// unsafe impl Team for Scoped {
///     fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for worker in 0..self.workers() {
///                 scope.spawn(move || (worker..tasks).step_by(2).for_each(|number| task(worker, number)));
///             }
///         });
///     }
///
///     fn workers(&self) -> usize {
///         2
///     }
/// }
/// # let done = std::sync::atomic::AtomicUsize::new(0);
/// # Scoped.run(5, &|_, number| { done.fetch_add(number, std::sync::atomic::Ordering::Relaxed); });
/// # assert_eq!(done.into_inner(), 10);
/// ```
#[allow(unsafe_code)] // a promise of the implementations, see above
pub unsafe trait Team: Sync {
    /// Calls `task(worker, number)` once for each number below `tasks`, in any order, on any worker; returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync));

    /// How many workers there are, at least one: they are numbered from 0.
    fn workers(&self) -> usize;
}

/// The calling thread alone: what bare metal has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

// SAFETY: one task after the other, all by worker 0.
#[allow(unsafe_code)]
unsafe impl Team for Solo {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        (0..tasks).for_each(|number| task(0, number));
    }

    fn workers(&self) -> usize {
        1
    }
}

// SAFETY: the other's promise.
#[allow(unsafe_code)]
unsafe impl<T: Team + ?Sized> Team for &T {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        (**self).run(tasks, task);
    }

    fn workers(&self) -> usize {
        (**self).workers()
    }
}
