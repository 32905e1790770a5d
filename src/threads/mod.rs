//! Who does the work: one thread, or a team that starts once and then shares every step.

#[cfg(feature = "std")]
#[allow(unsafe_code)] // a job's closure, handed to a thread that is waited for
mod beside;
#[cfg(feature = "std")]
mod cores;
#[cfg(target_has_atomic = "64")]
#[allow(unsafe_code)] // a job's closure, handed to cores that are waited for
mod crew;
#[cfg(target_has_atomic = "64")]
#[allow(unsafe_code)] // the same
mod job;
mod tasks;
#[cfg(feature = "std")]
#[allow(unsafe_code)] // a job's closure, handed to threads that do not outlive the job
mod team;

#[cfg(target_has_atomic = "64")]
pub use crew::Crew;
pub use tasks::{Solo, Team};

#[cfg(feature = "std")]
pub(crate) use beside::Beside;
#[cfg(feature = "std")]
pub use cores::{big_cores, default_threads};
#[cfg(feature = "std")]
pub use team::Threads;
