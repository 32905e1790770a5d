//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Why a tower could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tower can be made, or none of the kind asked for, of these options.
    #[error("{0}")]
    Options(String),
    /// A file or folder could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}
