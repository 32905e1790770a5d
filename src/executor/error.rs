//! Why encoding can't begin, or ends early.

use core::fmt;

use crate::kernels::PackingError;

/// Why an [`Encoder`](super::Encoder) can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncoderError {
    /// The arena has too few bytes.
    ArenaTooSmall {
        /// Bytes that encoding one prompt, or as many as were given, needs.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The arena does not start at a multiple of 64.
    ArenaMisaligned {
        /// Bytes that encoding one prompt needs, from a multiple of 64.
        needed: usize,
    },
    /// The kernels do not read the plan's weights.
    Packing(PackingError),
}

impl fmt::Display for EncoderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncoderError::ArenaTooSmall { needed, given } => {
                write!(f, "the arena has {given} bytes, {needed} are needed")
            }
            EncoderError::ArenaMisaligned { needed } => {
                write!(
                    f,
                    "the arena does not start at a multiple of 64 (the plan needs {needed} bytes from one)"
                )
            }
            EncoderError::Packing(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncoderError {}

/// Why token ids can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdsError {
    /// There are none, or more than the context takes.
    Count {
        /// Ids that were given.
        given: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// An id has no row in the embedding table.
    Range {
        /// The id.
        id: u32,
        /// Rows of the table.
        rows: u32,
    },
}

impl fmt::Display for IdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdsError::Count { given, context } => {
                write!(f, "{given} token ids were given, the plan takes 1 to {context}")
            }
            IdsError::Range { id, rows } => {
                write!(f, "token id {id} is not below {rows}, the rows of the embedding table")
            }
        }
    }
}

impl core::error::Error for IdsError {}

/// Why a pass did not begin, or where its constants come from an error ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PassError<E> {
    /// Token ids of an input can't be encoded.
    Ids(IdsError),
    /// There are no inputs, or more than a pass takes.
    Inputs {
        /// How many there are.
        given: usize,
    },
    /// The arena is too small for so many inputs.
    Arena(EncoderError),
    /// The place for the hidden states does not have their length.
    Length {
        /// Values that the place has.
        given: usize,
        /// Values that the hidden states have.
        needed: usize,
    },
    /// The source of the constants could not give them.
    Source(E),
}

impl<E: fmt::Display> fmt::Display for PassError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassError::Ids(error) => error.fmt(f),
            PassError::Inputs { given } => {
                write!(f, "{given} inputs were given, a pass takes 1 to {}", crate::plan::MAX_SEQUENCES)
            }
            PassError::Arena(error) => error.fmt(f),
            PassError::Length { given, needed } => {
                write!(f, "the place for the hidden states has {given} values, they are {needed}")
            }
            PassError::Source(error) => write!(f, "the plan's constants: {error}"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for PassError<E> {}

impl<E> From<IdsError> for PassError<E> {
    fn from(error: IdsError) -> Self {
        PassError::Ids(error)
    }
}
