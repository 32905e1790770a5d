//! A tensor and what its name starts with.

/// What every name starts with, except the projection's.
pub(crate) const PREFIX: &str = "text_model.";

/// A tensor of a synthetic text tower.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its sizes; linear weights are `[outputs, inputs]`.
    pub shape: Vec<usize>,
    /// Its values, row by row; rounded already to the type they will be stored as.
    pub values: Vec<f32>,
}
