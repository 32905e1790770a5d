//! An image tower as steps.

use std::borrow::Cow;

use anyhow::{Context, Result};
use cliptext::kernels::Activation as PlanActivation;
use cliptext::kernels::layout::Packing;
use cliptext::plan::{Axis, Format, Grid, Mask, Op, Part, Place, Role};

use super::builder::{Builder, Constants, Lowered, columns};
use crate::ir::ImageModel;

/// Lowers an image tower, with weights in `packing`, to the steps that compute its last hidden states and its embedding, of length 1
/// where it is `normalized`.
///
/// # Errors
/// When a size is too large.
pub fn lower_image(model: &ImageModel, packing: Packing, normalized: bool) -> Result<Lowered<'_>> {
    let role = Role { tower: 0, layer: 0, part: Part::Embedding };
    let mut b = Builder { packing, keeps_rows: false, role, buffers: vec![], steps: vec![] };
    let side = u16::try_from(model.side).context("images with a side of more than 65535 pixels")?;
    let patch = u16::try_from(model.patch).context("patches with a side of more than 65535 pixels")?;
    let grid = Grid { side, patch };
    let x = b.buffer(Place {
        offset: 0,
        columns: columns(model.width())?,
        rows: u16::try_from(model.tokens()).context("more than 65535 patches")?,
        axis: Axis::Token,
        format: Format::F32,
    });
    let pixels = b.rows_like(x, grid.columns());
    let pixels = b.codes_of(pixels).unwrap_or(pixels);
    b.push(b.step(Op::Patches(grid), pixels), Constants::None);
    b.push(b.step(Op::Positions, x), Constants::Row(Cow::Borrowed(&model.positions.values)));
    b.linear(pixels, [&model.patch_embedding], PlanActivation::Identity, Some(x), x, None);
    let x = b.norm_rows(x, &model.pre_norm);
    for (index, layer) in model.layers.iter().enumerate() {
        b.role.layer = u16::try_from(index + 1).context("more than 65535 layers")?;
        b.layer(layer, (x, x), (model.heads, Mask::None), None)?;
    }
    b.role.part = Part::Pool;
    let class = b.row(b.columns(x));
    b.push(b.from(Op::Pool, x, class), Constants::None);
    b.role.part = Part::FinalNorm;
    let pooled = match &model.projection {
        None => b.norm_rows(class, &model.post_norm),
        Some(projection) => {
            let normed = b.norm(class, &model.post_norm);
            b.projection(normed, projection.clone())?
        }
    };
    if normalized {
        b.push(b.from(Op::Normalize, pooled, pooled), Constants::None);
    }
    b.finish(model.tokens(), x, Some(pooled))
}
