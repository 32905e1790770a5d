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
    /// There are more than stand between a start and an end token.
    Content {
        /// Ids that were given.
        given: usize,
        /// Ids for which there is room.
        room: usize,
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
            IdsError::Content { given, room } => {
                write!(
                    f,
                    "{given} token ids were given, between start and end token the plan takes up to {room}"
                )
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
    /// An image does not have the size that the plan takes.
    Pixels {
        /// Bytes that were given.
        given: usize,
        /// Bytes of an image.
        needed: usize,
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
    /// The place for the pooled row does not have its length.
    PooledLength {
        /// Values that the place has.
        given: usize,
        /// Values that the pooled row has; 0 where the plan has none.
        needed: usize,
    },
    /// The hidden states of the empty prompt do not have their length.
    EmptyLength {
        /// Values that were given.
        given: usize,
        /// Values that they have.
        needed: usize,
    },
    /// The prompt was read by a tokenizer of another context, or not at all.
    Context {
        /// Ids of a text where it was read; 0 where it was not.
        given: usize,
        /// Ids of a text in the plan.
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
            PassError::Pixels { given, needed } => {
                write!(f, "an image of {given} bytes was given, the plan takes {needed}")
            }
            PassError::Arena(error) => error.fmt(f),
            PassError::Length { given, needed } => {
                write!(f, "the place for the hidden states has {given} values, they are {needed}")
            }
            PassError::PooledLength { given, needed: 0 } => {
                write!(f, "there is a place of {given} values for a pooled row, which the plan does not have")
            }
            PassError::PooledLength { given, needed } => {
                write!(f, "the place for the pooled row has {given} values, they are {needed}")
            }
            PassError::EmptyLength { given, needed } => {
                write!(f, "the empty prompt's hidden states are given as {given} values, they are {needed}")
            }
            PassError::Context { given: 0, .. } => f.write_str("the prompt was not read"),
            PassError::Context { given, needed } => {
                write!(f, "the prompt was read for a context of {given} tokens, the plan has {needed}")
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
