//! Results on standard output.

use std::io::Write;

use crate::failure::{Failure, Outcome, work};

/// Prints to standard output, as `print!`, but returns from the function where that can't be done.
macro_rules! say {
    ($($text:tt)*) => { crate::print::print(format_args!($($text)*))? };
}

/// [`say!`] with an end of line.
macro_rules! sayln {
    ($($text:tt)*) => { say!("{}\n", format_args!($($text)*)) };
}

/// Prints to standard output. A reader that closes it early, as `| head` does, ends the program.
pub(crate) fn print(text: std::fmt::Arguments<'_>) -> Outcome {
    std::io::stdout().write_fmt(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => work("standard output", error),
    })
}
