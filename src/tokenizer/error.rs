//! Why a tokenizer can't be made.

use core::fmt;

use super::context::MAX_CONTEXT;

/// Why a tokenizer cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The context is too short for start and end token, or longer than [`MAX_CONTEXT`].
    Context {
        /// The context asked for.
        context: usize,
    },
    /// The padding's id is not in the vocabulary.
    Padding {
        /// The padding's id.
        id: u32,
        /// The vocabulary's size.
        size: u32,
    },
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Context { context } => {
                write!(f, "a context of {context} tokens is not supported: it takes 2 to {MAX_CONTEXT}")
            }
            Self::Padding { id, size } => {
                write!(f, "the padding id {id} is not in the vocabulary, which has {size} ids")
            }
        }
    }
}

impl core::error::Error for TokenizerError {}
