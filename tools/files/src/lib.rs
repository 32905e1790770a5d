//! Files as the programs read and write them: an [`Output`] is replaced at once or not at all; NumPy's [arrays](npy) of
//! [floats]; [prompts], and [templates] of them.

mod destination;
mod durable;
pub mod floats;
pub mod npy;
mod output;
pub mod prompts;
mod spool;
pub mod templates;
mod unfinished;
mod whole;

pub use destination::{DASH, is_stdin, is_stdout, same_file};
pub use durable::sync_folder;
pub use output::{Output, write};
pub use spool::Spool;
pub use unfinished::{Temporary, is_temporary, temporary, temporary_by, temporary_folder};
pub use whole::{read_whole, read_whole_text};

/// Prints a line to standard error, as `eprintln!`; where nobody reads it any more, the work goes on.
#[macro_export]
macro_rules! to_stderr {
    ($($text:tt)*) => {{
        let _ = ::std::io::Write::write_fmt(&mut ::std::io::stderr(), format_args!("{}\n", format_args!($($text)*)));
    }};
}
