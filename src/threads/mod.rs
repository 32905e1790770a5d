//! Who does the work: one thread, or a team that starts once and then shares every step.

#[cfg(feature = "std")]
#[allow(unsafe_code)] // a job's closure, handed to a thread that is waited for
mod beside;
#[cfg(feature = "std")]
mod cores;
mod tasks;
#[cfg(feature = "std")]
#[allow(unsafe_code)] // a job's closure, handed to threads that do not outlive the job
mod team;

pub use tasks::{Solo, Team};

#[cfg(feature = "std")]
pub(crate) use beside::Beside;
#[cfg(feature = "std")]
pub use cores::{big_cores, default_threads};
#[cfg(feature = "std")]
pub use team::Threads;
