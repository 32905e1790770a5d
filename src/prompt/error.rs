//! Why a prompt can't be read.

use core::fmt;

/// Why a prompt can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptError {
    /// No chunk was asked for, or more than a prompt of the plan's context has.
    Chunks {
        /// Chunks that were asked for.
        asked: usize,
        /// The most.
        limit: usize,
    },
    /// As many chunks as needed were asked for, and they are too many.
    TooLong {
        /// The most.
        limit: usize,
        /// The byte of the text where what has no room begins.
        at: usize,
    },
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PromptError::Chunks { asked, limit } => {
                write!(f, "{asked} chunks were asked for, a prompt has 1 to {limit}")
            }
            PromptError::TooLong { limit, at } => {
                write!(
                    f,
                    "the prompt takes more than {limit} chunks, the most: there is no room from byte {at} on"
                )
            }
        }
    }
}

impl core::error::Error for PromptError {}
