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
    /// More parts of different weights are in an open bracket than are kept at a time.
    Spans {
        /// The most.
        limit: usize,
        /// The byte of the text where the first that is too many begins.
        at: usize,
    },
    /// More brackets are within each other than are read.
    Depth {
        /// The most.
        limit: usize,
        /// The byte of the text where the first that is too many opens.
        at: usize,
    },
    /// Weights are not read by a build without the feature `weights`.
    Weights,
    /// What stands for a weight is no number.
    Number {
        /// Its first byte in the text.
        at: usize,
    },
    /// A weight is infinite or too large for an f32, or no number.
    Weight {
        /// The byte of the text where what has it begins.
        at: usize,
    },
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PromptError::Chunks { asked, limit } => {
                write!(f, "{asked} chunks were asked for, a prompt has 1 to {limit}")
            }
            PromptError::TooLong { limit, at } => write!(
                f,
                "the prompt takes more than {limit} chunks, the most: there is no room from byte {at} on"
            ),
            PromptError::Spans { limit, at } => write!(
                f,
                "a bracket that is open at byte {at} has more than {limit} parts of different weights in it, the most"
            ),
            PromptError::Depth { limit, at } => write!(
                f,
                "more than {limit} brackets within each other, the most: the one at byte {at} is too many"
            ),
            PromptError::Weights => {
                f.write_str("weights are not read here: build with the feature `weights` of cliptext")
            }
            PromptError::Number { at } => write!(
                f,
                "the weight at byte {at} is no number: write one such as 1.3, or \\( for a bracket that is text"
            ),
            PromptError::Weight { at } => write!(
                f,
                "the weight of the text at byte {at} is infinite or no number: give it one that is finite"
            ),
        }
    }
}

impl core::error::Error for PromptError {}
