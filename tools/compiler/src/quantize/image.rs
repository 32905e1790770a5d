//! An image tower made int8.

use anyhow::Result;

use super::forward::normed;
use super::layer::{Rounded, Smoothed, Streams, quantize_layer};
use super::recipe::Recipe;
use crate::ir::{ImageModel, Matrix};

/// Quantizes the patch embedding and all layers, one after the other, calibrated on `images`; returns what smoothing did. `done` is
/// told how many layers are.
///
/// # Errors
/// Where the model's values are not finite.
pub fn quantize_image(
    model: &mut ImageModel,
    images: &[Vec<u8>],
    recipe: &Recipe,
    mut done: impl FnMut(usize),
) -> Result<Vec<Smoothed>> {
    let pixels = pixels_of(model, images);
    let (mut exact, mut ours) =
        Rounded::of_codes(pixels.clone(), recipe)?.linear(&mut model.patch_embedding, &pixels);
    drop(pixels);
    for stream in [&mut exact, &mut ours] {
        for image in stream.values.chunks_exact_mut(model.positions.values.len()) {
            image.iter_mut().zip(&model.positions.values).for_each(|(x, position)| *x += position);
        }
        *stream = normed(&model.pre_norm, stream);
    }
    let mut streams = Streams { exact, ours, tokens: model.tokens() };
    let mut smoothed = Vec::new();
    for (index, layer) in model.layers.iter_mut().enumerate() {
        let found = quantize_layer(layer, &mut streams, None, model.heads, recipe)?;
        smoothed.extend(found.into_iter().map(|found| Smoothed { layer: index + 1, ..found }));
        done(index + 1);
    }
    Ok(smoothed)
}

/// The patches of all images, one image's behind the other's.
fn pixels_of(model: &ImageModel, images: &[Vec<u8>]) -> Matrix {
    let mut all = Matrix { rows: 0, cols: 0, values: vec![] };
    for image in images {
        let rows = model.rows_of(image);
        all.rows += rows.rows;
        all.cols = rows.cols;
        all.values.extend(rows.values);
    }
    all
}
