//! The patches of an image: the convolution that makes them, and the class token that joins them.

use std::rc::Rc;
use std::sync::Arc;

use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::prelude::Tensor;

use super::axes::{self, Dim, Piece};
use super::linear::{absorb, gather, row_major};
use super::misfit::{Rule, mismatch};
use super::value::{Affine, Expr, Start, Value, Values, View};
use crate::colours::COLOURS;
use crate::ir::Matrix;
use crate::tract::numbers::numbers;

/// A convolution of the pixels that takes each patch once.
pub fn convolve(values: &mut Values, op: &Conv, inputs: &[Value]) -> Rule<View> {
    let expected = "a patch embedding: a convolution of the pixels whose stride is its size, without padding";
    let [Value::View(view), Value::Const(kernel), bias @ ..] = inputs else {
        return mismatch(expected, "a convolution whose weights are no constants");
    };
    if !matches!(values.get(view.of), Expr::Pixels) {
        let found = format!("a convolution of {}, as in a ResNet", values.describe(view.of));
        return mismatch("a vision transformer's one convolution, of the pixels", found);
    }
    let (spec, side) = (&op.pool_spec, values.extent(view.of, Dim::Token).isqrt());
    let &[patch, other] = &spec.kernel_shape[..] else {
        return mismatch(expected, format!("one over {} axes", spec.kernel_shape.len()));
    };
    let plain = op.group == 1
        && op.q_params.is_none()
        && spec.dilations().iter().all(|&dilation| dilation == 1)
        && spec
            .computed_padding(&[side, side])
            .iter()
            .all(|axis| axis.pad_before == 0 && axis.pad_after == 0);
    if patch != other || *spec.strides() != [patch; 2] || !plain || kernel.rank() != 4 {
        let (kernel, strides) = (&spec.kernel_shape, spec.strides());
        return mismatch(
            expected,
            format!("one of {kernel:?} with stride {strides:?}, padding {:?}", spec.padding),
        );
    }
    if patch == 0 || !side.is_multiple_of(patch) {
        return mismatch(
            expected,
            format!("patches of {patch} pixels, which a side of {side} is no multiple of"),
        );
    }
    let across = side / patch;
    let down = spec.data_format.h_axis();
    let colour = if spec.data_format.c_is_last() { down + 2 } else { down - 1 };
    let places = |stride, size| axes::merged(&[Piece { dim: Dim::Token, stride, size }]);
    let is_image = view.axes.get(colour) == Some(&axes::whole(Dim::Channel, COLOURS))
        && view.axes.get(down) == Some(&places(side, side))
        && view.axes.get(down + 1) == Some(&places(1, side));
    if !is_image {
        return mismatch("a convolution across and down the image", "one of its pixels in another order");
    }
    let tokens = across * across + 1;
    if values.context != tokens && values.context != 0 {
        return mismatch("one patch embedding", "a second one, of patches of another size");
    }
    values.context = tokens;

    let weight = matrix(kernel, op.kernel_fmt)?;
    let width = weight.rows;
    let bias = match bias {
        [] => vec![0.0; width],
        [Value::Const(bias)] => match numbers::<f32>(bias) {
            Some(&[all]) => vec![f64::from(all); width],
            Some(each) if each.len() == width => each.iter().map(|&bias| f64::from(bias)).collect(),
            _ => return mismatch(format!("a bias of {width} numbers"), format!("one of {:?}", bias.shape())),
        },
        _ => return mismatch(expected, "one whose bias is no constant"),
    };
    let mut axes = view.axes.clone();
    axes[colour] = axes::whole(Dim::Channel, width);
    axes[down] = places(across, across);
    axes[down + 1] = places(1, across);
    let affine = Affine { of: view.of, weight: Rc::new(weight), rows: None, factor: 1.0, bias: bias.into() };
    Ok(View { of: values.add(Expr::Linear(affine)), axes })
}

/// The kernel as `[width, 3 · patch²]`, of each patch one colour after the other.
fn matrix(kernel: &Arc<Tensor>, format: KernelFormat) -> Rule<Matrix> {
    let order = match format {
        KernelFormat::OIHW => [0, 1, 2, 3],
        KernelFormat::HWIO => [3, 2, 0, 1],
        KernelFormat::OHWI => [0, 3, 1, 2],
    };
    let (shape, strides) = (kernel.shape(), row_major(kernel.shape()));
    let places = |outer: Vec<usize>, axis: usize| -> Vec<usize> {
        outer
            .iter()
            .flat_map(|base| (0..shape[axis]).map(move |at| (base, at)))
            .map(|(base, at)| base + at * strides[axis])
            .collect()
    };
    let rows = places(vec![0], order[0]);
    let columns = order[1..].iter().fold(vec![0], |outer, &axis| places(outer, axis));
    gather(kernel, &rows, &columns)
}

/// Joins the class token, a constant, and the patches along an axis.
pub fn join(values: &mut Values, axis: usize, parts: &[Value]) -> Rule<View> {
    let expected = "the class token, then the patches";
    let [Value::Const(class), Value::View(patches)] = parts else {
        return mismatch(expected, format!("a joint of {} other values", parts.len()));
    };
    let patches = absorb(values, patches)?;
    let affine = match values.get(patches.of) {
        Expr::Linear(affine) if matches!(values.get(affine.of), Expr::Pixels) => affine.clone(),
        _ => return mismatch(expected, format!("a constant, then {}", values.describe(patches.of))),
    };
    let (count, width) = (values.extent(patches.of, Dim::Token), affine.bias.len());
    let mut around = patches.axes.clone();
    let tokens = around.get_mut(axis).map(std::mem::take);
    let class = axes::read(class, &around, &[(Dim::Channel, width)]);
    let Some(mut positions) = class.filter(|_| tokens == Some(axes::whole(Dim::Token, count))) else {
        return mismatch(expected, format!("another joint along axis {axis}"));
    };
    let bias: Vec<f32> = affine.bias.iter().map(|&bias| bias as f32).collect();
    (0..count).for_each(|_| positions.extend(&bias));
    let mut weight = Matrix { rows: width, cols: affine.weight.cols, values: Vec::new() };
    for row in 0..width {
        let row = affine.weight.row(affine.rows.as_ref().map_or(row, |rows| rows[row]));
        weight.values.extend(row.iter().map(|&w| (f64::from(w) * affine.factor) as f32));
    }
    let start = Start::Patches(Rc::new(weight));
    let of = values.add(Expr::Embedding { start, positions: positions.into() });
    around[axis] = axes::whole(Dim::Token, values.context);
    Ok(View { of, axes: around })
}
