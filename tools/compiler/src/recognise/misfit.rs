//! How a graph that is not a CLIP text encoder is refused.

use std::fmt;

/// The place at which a graph stops being a CLIP text encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The node, by its name in the model and its operator.
    pub node: String,
    /// What a text encoder has there.
    pub expected: String,
    /// What this graph has.
    pub found: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this graph is not a CLIP text encoder: it stops fitting at node {}: expected {}; found {}",
            self.node, self.expected, self.found
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
