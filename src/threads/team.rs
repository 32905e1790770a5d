//! A team of threads that starts once and then shares every step.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec::Vec;
use std::{format, io};

use super::Team;
use super::job::{CALLER, Call, Job, Line};

/// Looks at the ticket before a worker goes to sleep: some 100 µs, far more than lies between two steps. (Miri takes
/// turns among threads: there they would last for ever.)
const SPINS: usize = if cfg!(miri) { 20 } else { 4000 };

/// Pauses of [`SPINS`] that whoever waits for the last tasks makes by giving up the rest of its time slice. After that it sleeps: a
/// worker of lower real-time priority gets no slice while anybody above it is ready to run, and would never end its task.
const YIELDS: usize = 8;
/// How long it sleeps at a time.
const NAP: Duration = Duration::from_micros(50);

/// Jobs for which the machine counts as contended once one waited for longer than [`SPINS`]: another program may want
/// the cores too, or a task simply takes long, which does no harm.
const CONTENDED: usize = if cfg!(miri) { 20 } else { 2000 };
/// On a contended machine a worker yields at the end of every so many jobs, between two tasks: it is going to be preempted
/// anyway, and within a task the others would wait for it for milliseconds. Every 8 jobs of a full-size
/// model are less than the system lets a thread run.
const JOBS_IN_A_ROW: usize = 8;

struct Shared {
    job: Job,
    /// Jobs for which the machine still counts as contended; whoever runs a job writes it.
    contended: Line<AtomicUsize>,
    stop: AtomicBool,
}

/// A worker, as its team sees it.
struct Worker {
    asleep: Arc<Line<AtomicBool>>,
    thread: Option<JoinHandle<()>>,
}

/// Threads that wait for work, the calling one among them.
///
/// Starting a team allocates; running tasks does not, and makes no system call unless a worker has gone to sleep,
/// which it does after about 100 µs without work, or the cores were contended lately.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// One job at a time; a thread that finds the team busy does its tasks itself.
    busy: AtomicBool,
}

impl Threads {
    /// Starts a team of `threads` (at least one): the calling thread and `threads - 1` workers.
    ///
    /// # Errors
    /// What the operating system says where a thread can't be started.
    pub fn start(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            job: Job::new(),
            contended: Line(AtomicUsize::new(0)),
            stop: AtomicBool::new(false),
        });
        let mut team = Self { shared, workers: Vec::new(), busy: AtomicBool::new(false) };
        for index in 1..threads.max(1) {
            let (shared, asleep) = (team.shared.clone(), Arc::new(Line(AtomicBool::new(false))));
            let flag = asleep.clone();
            let body = move || worker(index, &shared, &flag.0);
            // Should this one not start, dropping the team ends those that did.
            let thread = thread::Builder::new().name(format!("cliptext-{index}")).spawn(body)?;
            team.workers.push(Worker { asleep, thread: Some(thread) });
        }
        Ok(team)
    }

    fn wake(&self) {
        for worker in &self.workers {
            if worker.asleep.0.swap(false, Ordering::SeqCst)
                && let Some(thread) = &worker.thread
            {
                thread.thread().unpark();
            }
        }
    }
}

/// The life of worker `index`.
fn worker(index: usize, shared: &Shared, asleep: &AtomicBool) {
    let (mut idle, mut jobs) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        if shared.job.work(index) {
            jobs += usize::from(idle > 0);
            idle = 0;
        } else if jobs >= JOBS_IN_A_ROW {
            jobs = 0;
            if shared.contended.0.load(Ordering::Relaxed) > 0 {
                thread::yield_now();
            }
        } else if idle < SPINS {
            idle += 1;
            core::hint::spin_loop();
        } else {
            asleep.store(true, Ordering::SeqCst);
            // Whoever publishes a job after this sees the flag; whoever did before is seen here.
            if !shared.job.has_tasks() && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

// SAFETY: a ticket is taken once, and holds no more tasks than there are; `run` waits until as many are done as were there. Whoever
// calls `run` is worker 0, the threads are 1 and up; a caller that finds the team busy does all tasks itself.
unsafe impl Team for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let alone = self.workers.is_empty() || tasks <= 1 || !Job::takes(tasks);
        if alone || self.busy.swap(true, Ordering::Acquire) {
            return (0..tasks).for_each(|number| task(CALLER, number));
        }
        let call = Call { task, tasks };
        let shared = &*self.shared;
        // SAFETY: `busy` lets one caller through, which waits below.
        unsafe { shared.job.give(&call) };
        self.wake();
        while shared.job.work(CALLER) {}
        let mut waited = 0;
        while !shared.job.is_done(tasks) {
            // A worker still has a task; when that takes long, it may have been preempted.
            waited += 1;
            if waited > YIELDS * SPINS {
                thread::sleep(NAP);
            } else if waited.is_multiple_of(SPINS) {
                thread::yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
        let contended = shared.contended.0.load(Ordering::Relaxed);
        let next = if waited >= SPINS { CONTENDED } else { contended.saturating_sub(1) };
        if next != contended {
            shared.contended.0.store(next, Ordering::Relaxed);
        }
        self.busy.store(false, Ordering::Release);
    }

    fn workers(&self) -> usize {
        self.workers.len() + 1
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                thread.thread().unpark();
                // A worker that panicked has nothing more to say.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri runs some thousand times slower.
    const ROUNDS: usize = if cfg!(miri) { 40 } else { 2000 };

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 3, 8] {
            let team = Threads::start(threads).unwrap();
            assert_eq!(team.workers(), threads);
            for round in 0..ROUNDS {
                let tasks = round % 37;
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                team.run(tasks, &|_, task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
            }
        }
    }

    #[test]
    fn workers_wake_from_sleep() {
        let team = Threads::start(3).unwrap();
        for _ in 0..5 {
            // Idle workers go to sleep, however late a busy machine lets them.
            while !team.workers.iter().all(|worker| worker.asleep.0.load(Ordering::SeqCst)) {
                thread::sleep(Duration::from_millis(1));
            }
            let threads = std::sync::Mutex::new(std::collections::HashSet::new());
            // Each task waits until every worker has one: they must all have come.
            let arrived = AtomicUsize::new(0);
            team.run(3, &|_, _| {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 3 {
                    thread::yield_now();
                }
                threads.lock().unwrap().insert(thread::current().id());
            });
            assert_eq!(threads.lock().unwrap().len(), 3);
        }
    }

    #[test]
    fn a_machine_is_contended_from_one_hold_up_to_many_jobs_later() {
        let team = Threads::start(2).unwrap();
        let contended = || team.shared.contended.0.load(Ordering::Relaxed);
        let caller = thread::current().id();
        while contended() == 0 {
            // The caller waits for the worker's task, where the worker takes one.
            team.run(2, &|_, _| {
                let ms = if thread::current().id() == caller { 1 } else { 5 };
                thread::sleep(Duration::from_millis(ms));
            });
        }
        assert!(contended() > CONTENDED - 10);
        for round in 0.. {
            if contended() == 0 {
                break;
            }
            assert!(round < 1000 * CONTENDED, "the machine stays contended");
            team.run(2, &|_, _| {});
        }
    }

    #[test]
    fn no_two_workers_at_once_have_the_same_number() {
        for threads in [1, 2, 3, 8] {
            let team = Threads::start(threads).unwrap();
            let at_work: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
            for _ in 0..ROUNDS / 10 {
                team.run(20, &|worker, _| {
                    assert!(!at_work[worker].swap(true, Ordering::SeqCst), "worker {worker} works twice");
                    core::hint::spin_loop();
                    at_work[worker].store(false, Ordering::SeqCst);
                });
            }
        }
    }

    /// On one core, a caller that the system prefers to the worker at all times must still let it end its task.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn a_caller_of_higher_priority_does_not_starve_a_worker() {
        /// How long the worker computes, in its own time on the core.
        const WORK: Duration = Duration::from_millis(10);
        fn time_on_the_core() -> Duration {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a clock that every thread has; `time` is there to be written.
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        }
        // SAFETY: calls that concern this thread only, and the threads that it starts; the arguments outlive them.
        let preferred = unsafe {
            let mut core: libc::cpu_set_t = core::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut core);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&core), &core), 0);
            let mut priority: libc::sched_param = core::mem::zeroed();
            priority.sched_priority = 1;
            // The call itself: musl's function refuses.
            move || libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority) == 0
        };
        let team = Threads::start(2).unwrap();
        if !preferred() {
            std::eprintln!("not tested: this user may not ask for real-time priority");
            return;
        }
        let start = std::time::Instant::now();
        let begun = AtomicUsize::new(0);
        team.run(2, &|worker, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            if worker == CALLER {
                // Until the worker has the other task.
                while begun.load(Ordering::SeqCst) < 2 {
                    thread::sleep(Duration::from_millis(1));
                }
            } else {
                while time_on_the_core() < WORK {}
            }
        });
        // Spinning at real-time priority would take the core until the system's brake, 950 ms.
        assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    }

    #[test]
    fn several_callers_share_a_team() {
        let team = Threads::start(2).unwrap();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        team.run(10, &|_, task| {
                            total.fetch_add(task, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 3 * ROUNDS * 45);
    }
}
