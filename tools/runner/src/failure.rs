//! Why a command ends early.

/// The end of a command that did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line can't be obeyed: exit code 2.
    Usage(String),
    /// The work failed: exit code 1.
    Work(String),
    /// Who reads standard output has enough, as `| head` has: exit code 1, without a word.
    Closed,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// An error of the work at hand: what it was about, then what went wrong.
pub(crate) fn work(about: impl std::fmt::Display, error: impl std::fmt::Display) -> Failure {
    Failure::Work(format!("{about}: {error}"))
}
