//! Why a plan is refused.

use core::fmt;

use crate::tokenizer::{TokenizerError, VocabularyError};

/// Why bytes are not a plan that this build can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes do not start at a multiple of 64.
    Misaligned,
    /// They do not begin with the magic of a plan.
    NotAPlan,
    /// The plan encodes images, where one that encodes texts is wanted.
    EncodesImages,
    /// The plan encodes texts, where one that encodes images is wanted.
    EncodesTexts,
    /// The plan has another format version.
    Version {
        /// The version that the plan has.
        found: u32,
        /// The one that this build reads.
        reads: u32,
    },
    /// The file ends too early.
    Truncated,
    /// Something follows the plan.
    TooLong,
    /// The header contradicts itself.
    Header,
    /// The header or the list of checksums was changed.
    HeaderChecksum,
    /// A block was changed.
    Checksum {
        /// Where the block begins, in bytes from the start of the file.
        offset: u64,
    },
    /// The manifest cannot be read.
    Manifest,
    /// The steps are no whole number of records.
    Steps,
    /// The vocabulary table is not one.
    Vocabulary(VocabularyError),
    /// The context is out of range.
    Tokenizer(TokenizerError),
    /// The vocabulary has more ids than the embedding table has rows.
    TokenRange {
        /// Ids in the vocabulary.
        ids: u32,
        /// Rows in the table.
        rows: u32,
    },
    /// A step does not fit what stands before it.
    Step {
        /// Its number, from 0.
        index: usize,
        /// What is wrong with it.
        fault: StepFault,
    },
    /// Constants are left over behind the last step, or steps are missing.
    Leftover,
    /// The logit scale is not a positive, finite number.
    LogitScale,
    /// The arena for a pair of prompts is more than this machine can address.
    ArenaTooLarge {
        /// Its bytes for one prompt.
        bytes: u32,
    },
    /// The outputs that the manifest names are not what the steps leave behind.
    Output,
    /// The images cannot be cut into patches as the manifest says, or have more of them than this build takes.
    Grid,
}

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepFault {
    /// Its record is none of this version.
    Unreadable,
    /// Its tower or layer does not follow those before it, or its part is not one that it can be.
    Role,
    /// The sizes of its constants overflow, or the sums of a linear with so many inputs could.
    TooLarge,
    /// Its constants do not follow those of the step before.
    ConstantsPlace,
    /// Its constants reach behind the end of the plan.
    MissingConstants,
    /// A place without rows or columns.
    Empty,
    /// A place that does not start at a multiple of 64.
    Misaligned,
    /// A place that reaches behind the end of the arena.
    OutsideArena,
    /// Places that it uses at once overlap.
    Overlap,
    /// More values are live than this build keeps account of.
    TooManyValues,
    /// It reads what no step before it has left in that place.
    UnknownInput,
    /// It lacks a place that its operation needs, has one that it does not use, or must work in place and does not.
    Places,
    /// Codes are in a place for f32 values, or the other way round.
    Format,
    /// The columns of its places contradict one another.
    Columns,
    /// The rows of its places contradict one another, or the context.
    Rows,
    /// The heads do not share the width.
    Heads,
    /// Attention over more rows than this build takes.
    TooManyTokens,
    /// Its working memory is too small.
    Scratch,
    /// It reads something else than the plan does: token ids, or pixels of another size.
    Reads,
    /// Its weights are packed otherwise than the manifest says.
    Packing,
    /// A table of f32 values with rows in f16.
    Tables,
    /// A number of it is not finite, or not positive where it must be.
    Number,
    /// It pads with what is no id of the vocabulary.
    Padding,
    /// It caches a first row which depends on those behind it: attention before it has no causal mask.
    CachedWithoutMask,
}

impl fmt::Display for StepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepFault::Unreadable => "is none that this version knows",
            StepFault::Role => "does not follow the tower and layer before it",
            StepFault::TooLarge => "has sizes that overflow",
            StepFault::ConstantsPlace => "has constants that do not follow those before them",
            StepFault::MissingConstants => "has constants behind the end of the plan",
            StepFault::Empty => "has a place without rows or columns",
            StepFault::Misaligned => "has a place that does not start at a multiple of 64",
            StepFault::OutsideArena => "has a place outside the arena",
            StepFault::Overlap => "uses overlapping places at once",
            StepFault::TooManyValues => "makes more live values than this program keeps account of",
            StepFault::UnknownInput => "reads what no step before it has written",
            StepFault::Places => "has other places than its operation needs",
            StepFault::Format => "has codes where f32 values must be, or the other way round",
            StepFault::Columns => "has columns that contradict one another",
            StepFault::Rows => "has rows that contradict one another or the context",
            StepFault::Heads => "has a width that its heads cannot share",
            StepFault::TooManyTokens => "has attention over more rows than this program takes",
            StepFault::Scratch => "has too little working memory",
            StepFault::Reads => "reads something else than the plan does",
            StepFault::Packing => "has weights in another packing than the plan's",
            StepFault::Tables => "has rows in f16 beside a table of f32 values",
            StepFault::Number => "has a number that is not finite or not positive",
            StepFault::Padding => "pads with an id that is not in the vocabulary",
            StepFault::CachedWithoutMask => "caches a first row that depends on the rows behind it",
        })
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Misaligned => f.write_str("the plan's bytes do not start at a multiple of 64"),
            LoadError::NotAPlan => {
                f.write_str("this is not a cliptext plan (make one with `cliptext compile`)")
            }
            LoadError::EncodesImages => f.write_str("this plan encodes images, not texts"),
            LoadError::EncodesTexts => f.write_str("this plan encodes texts, not images"),
            LoadError::Version { found, reads } => {
                write!(
                    f,
                    "the plan has format version {found}, this build reads version {reads}: compile it again"
                )
            }
            LoadError::Truncated => f.write_str("the plan is cut short: copy or compile it again"),
            LoadError::TooLong => {
                f.write_str("something follows the end of the plan: copy or compile it again")
            }
            LoadError::Header => {
                f.write_str("the plan's header contradicts itself: copy or compile it again")
            }
            LoadError::HeaderChecksum => {
                f.write_str("the plan's header is damaged: copy or compile it again")
            }
            LoadError::Checksum { offset } => {
                write!(f, "the plan is damaged in the 64 KiB from byte {offset}: copy or compile it again")
            }
            LoadError::Manifest => f.write_str("the plan's manifest cannot be read"),
            LoadError::Steps => f.write_str("the plan's steps cannot be read"),
            LoadError::Vocabulary(error) => write!(f, "the plan's vocabulary table: {error}"),
            LoadError::Tokenizer(error) => write!(f, "the plan's tokenizer: {error}"),
            LoadError::TokenRange { ids, rows } => {
                write!(f, "the plan's vocabulary has {ids} ids, its embedding table {rows} rows")
            }
            LoadError::Step { index, fault } => write!(f, "step {index} of the plan {fault}"),
            LoadError::Leftover => f.write_str("the plan's constants are not what its steps use"),
            LoadError::LogitScale => f.write_str("the plan's logit scale is not a positive, finite number"),
            LoadError::ArenaTooLarge { bytes } => {
                write!(f, "the plan needs {bytes} bytes of memory for a prompt: too many for this machine")
            }
            LoadError::Grid => f.write_str("the plan's images are not whole patches, or too many"),
            LoadError::Output => f.write_str("the plan's outputs are not what its steps leave behind"),
        }
    }
}

impl core::error::Error for LoadError {}
