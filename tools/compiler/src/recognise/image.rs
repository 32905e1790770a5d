//! The image tower behind a graph's outputs.

use super::misfit::Mismatch;
use super::outputs::{Output, Row, project};
use super::tower::{self, Found};
use super::value::{Id, Values};
use crate::colours::{COLOURS, Colours, over_pixels};
use crate::ir::{ImageModel, Linear, Weight};

/// A model and which of the graph's outputs is its embedding.
pub struct AssembledImage {
    pub model: ImageModel,
    /// Whether the embedding is divided by its length.
    pub normalized: bool,
    /// Index among the graph's outputs.
    pub embedding: usize,
}

/// What an output that is an embedding is made of.
#[derive(Clone, Copy)]
struct Embedding {
    at: usize,
    state: Id,
    norm: Id,
    projection: Option<Id>,
    unit: bool,
}

/// Builds the model of a graph that reads normalised pixels, from its outputs, each with its name.
pub fn assemble(values: &Values, outputs: &[(String, Output)], colours: Colours) -> Found<AssembledImage> {
    let embeddings = outputs.iter().enumerate().filter_map(|(at, (_, output))| match *output {
        Output::Pooled { state, norm, row: Row::First, projection, unit } => {
            Some(Embedding { at, state, norm, projection, unit })
        }
        _ => None,
    });
    let embeddings: Vec<Embedding> = embeddings.collect();
    // Of a graph that gives out both the row and its projection: the projection is what it was made for.
    let Some(&found) = embeddings.iter().max_by_key(|found| (found.projection.is_some(), found.unit)) else {
        let nothing = Mismatch::new(
            "an embedding: the class token's row behind the last norm, or its projection",
            "hidden states only, which do not show that norm: export the model with its embedding",
        );
        return Err((Values::INPUT, nothing));
    };
    let post_norm = tower::layer_norm(values, found.norm)?;
    for other in &embeddings {
        if other.state != found.state || tower::layer_norm(values, other.norm)? != post_norm {
            return Err((
                other.norm,
                Mismatch::new("embeddings of one state behind one norm", "two different ones"),
            ));
        }
    }
    let stream = tower::tower(values, found.state)?;
    let states = outputs.iter().filter_map(|(_, output)| match *output {
        Output::Hidden { state, norm: None } => Some(state),
        // Before the first layer the state itself has a norm.
        Output::Hidden { norm: Some(norm), .. } => Some(norm),
        _ => None,
    });
    for state in states {
        if !stream.states.contains(&state) {
            return Err((state, Mismatch::new("hidden states of one tower", "two that go different ways")));
        }
    }
    let tower::Patches { matrix, mut positions, norm } = stream.patches(values)?;
    let patch = (matrix.cols / COLOURS).isqrt();
    let side = (values.context - 1).isqrt() * patch;
    let weight = over_pixels(&matrix.values, (matrix.rows, patch), colours, &mut positions);
    let bias = vec![0.0; weight.rows];
    let model = ImageModel {
        side,
        patch,
        patch_embedding: Linear { weight: Weight::F32(weight), bias },
        positions,
        pre_norm: norm,
        heads: stream.heads(values)?,
        layers: stream.layers(values)?,
        post_norm,
        projection: found.projection.map(|id| project(values, id)).transpose()?,
    };
    Ok(AssembledImage { model, normalized: found.unit, embedding: found.at })
}
