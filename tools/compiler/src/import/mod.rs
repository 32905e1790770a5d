//! Front ends: each reads one file format and ends in a decluttered tract [`TypedModel`].
//!
//! A front end fixes the batch, at 1 where the file leaves it free, and the sequence at the model's number of positions, gives every input other
//! than the token ids the value that makes it say nothing (an attention mask of ones), and turns every
//! half-precision tensor into f32, which is exact.

use tract_core::prelude::{DatumType, TypedModel};

pub mod graph;
pub mod onnx;
pub mod safetensors;

/// A graph that is ready to be recognised, and to be run by tract as the f32 reference.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Decluttered; one input, the ids, of shape `[batch, context]`.
    pub model: TypedModel,
    /// Number of positions: 77 in every CLIP that OpenAI or LAION published.
    pub context: usize,
    /// Integer type of the ids input: `I64` or `I32`.
    pub ids_type: DatumType,
}
