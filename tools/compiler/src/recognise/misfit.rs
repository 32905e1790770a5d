//! How a graph that is not a tower of CLIP is refused.

use std::fmt;

use crate::ir::Modality;

/// The place at which a graph stops being a tower of CLIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What the graph was read as.
    pub modality: Modality,
    /// The node, by its name in the model and its operator.
    pub node: String,
    /// What a tower of CLIP has there.
    pub expected: String,
    /// What this graph has.
    pub found: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this graph is not a CLIP {}: it stops fitting at node {}: expected {}; found {}",
            self.modality, self.node, self.expected, self.found
        )
    }
}

impl std::error::Error for Misfit {}

/// A misfit before the node's name is put to it: what a rule answers that does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
    pub found: String,
}

/// The answer of a rule.
pub type Rule<T> = Result<T, Mismatch>;

impl Mismatch {
    /// A mismatch out of its two halves.
    pub fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Mismatch { expected: expected.into(), found: found.into() }
    }
}

/// The answer of a rule that does not apply.
pub fn mismatch<T>(expected: impl Into<String>, found: impl Into<String>) -> Rule<T> {
    Err(Mismatch::new(expected, found))
}
