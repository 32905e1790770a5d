//! Why a plan is refused.

use core::fmt;

use super::format::VERSION;
use crate::tokenizer::{TokenizerError, VocabularyError};

/// Why bytes are not a plan that this build can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The bytes do not start at a multiple of 64.
    Misaligned,
    /// They do not begin with the magic of a plan.
    NotAPlan,
    /// The plan has another format version.
    Version {
        /// The version that the plan has.
        found: u32,
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
    /// The outputs that the manifest names are not what the steps leave behind.
    Output,
}

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFault {
    /// It cannot be read.
    Unreadable,
    /// Its sizes overflow.
    TooLarge,
    /// Its constants reach behind the end of the plan.
    MissingConstants,
    /// It writes outside the arena or off the alignment.
    OutsideArena,
    /// Places that it uses at once overlap.
    Overlap,
    /// It reads what no step before it has left in that place.
    UnknownInput,
    /// Its sizes contradict one another or the model's.
    Sizes,
    /// A number of it is not finite, or not positive where it must be.
    Number,
    /// It pads with what is no id of the vocabulary.
    Padding,
}

impl fmt::Display for StepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepFault::Unreadable => "cannot be read",
            StepFault::TooLarge => "has sizes that overflow",
            StepFault::MissingConstants => "has constants behind the end of the plan",
            StepFault::OutsideArena => "uses a place outside the arena or off the alignment",
            StepFault::Overlap => "uses overlapping places at once",
            StepFault::UnknownInput => "reads what no step before it has written",
            StepFault::Sizes => "has sizes that contradict one another",
            StepFault::Number => "has a number that is not finite or not positive",
            StepFault::Padding => "pads with an id that is not in the vocabulary",
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
            LoadError::Version { found } => {
                write!(
                    f,
                    "the plan has format version {found}, this build reads version {VERSION}: compile it again"
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
            LoadError::Vocabulary(error) => write!(f, "the plan's vocabulary table: {error}"),
            LoadError::Tokenizer(error) => write!(f, "the plan's tokenizer: {error}"),
            LoadError::TokenRange { ids, rows } => {
                write!(f, "the plan's vocabulary has {ids} ids, its embedding table {rows} rows")
            }
            LoadError::Step { index, fault } => write!(f, "step {index} of the plan {fault}"),
            LoadError::Leftover => f.write_str("the plan's constants are not what its steps use"),
            LoadError::LogitScale => f.write_str("the plan's logit scale is not a positive, finite number"),
            LoadError::Output => f.write_str("the plan's outputs are not what its steps leave behind"),
        }
    }
}

impl core::error::Error for LoadError {}
