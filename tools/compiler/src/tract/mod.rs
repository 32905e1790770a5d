//! tract's side: graphs made ready for it, built for it and run by it as the f32 reference.

use tract_core::prelude::{DatumType, TypedModel};

pub mod graph;
pub(crate) mod guard;
pub(crate) mod numbers;
pub mod run;
pub mod tower;

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
