//! How a tensor's axes hold the dimensions of the value behind it.
//!
//! A graph reshapes and transposes its values all the time. Here no reshape is a value of its own: each axis of a
//! tensor is a row-major list of [`Piece`]s of the value's own dimensions, and axis operators only rearrange pieces. Two
//! tensors with the same pieces are the same, however the exporter got there.

use tract_core::internal::AxisOp;
use tract_core::prelude::Tensor;

use super::misfit::{Rule, mismatch};
use crate::tract::numbers::numbers;

/// A dimension of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// The prompt, in a graph for several at once.
    Batch,
    /// The place in the prompt; of attention weights, the token that asks.
    Token,
    /// Of attention weights, the token that is asked.
    Key,
    /// Of attention weights, the head.
    Head,
    /// The channel.
    Channel,
}

/// A factor of a dimension: an index `i < size` here contributes `i * stride` there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub dim: Dim,
    pub stride: usize,
    pub size: usize,
}

/// The pieces of each axis, outermost first; an axis of size 1 has none.
pub type Axes = Vec<Vec<Piece>>;

/// A whole dimension as one axis.
pub fn whole(dim: Dim, size: usize) -> Vec<Piece> {
    if size == 1 { vec![] } else { vec![Piece { dim, stride: 1, size }] }
}

/// Number of indices that the pieces make.
pub fn size(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.size).product()
}

/// Whether the pieces, in any order, are exactly the dimension of that size.
pub fn covers(pieces: &[Piece], dim: Dim, size: usize) -> bool {
    let mut sorted = pieces.to_vec();
    sorted.sort_by_key(|piece| piece.stride);
    let mut stride = 1;
    for piece in sorted {
        if piece.dim != dim || piece.stride != stride {
            return false;
        }
        stride *= piece.size;
    }
    stride == size
}

/// The axes of one prompt without those of size 1, where the batch stands outermost, so that the first prompt's values
/// come first.
pub fn of_one_prompt(axes: &Axes) -> Option<Axes> {
    let flat: Vec<Piece> = axes.concat();
    let batches = flat.iter().take_while(|piece| piece.dim == Dim::Batch).count();
    let outermost = merged(&flat[..batches]).len() <= 1;
    let inner = |pieces: &Vec<Piece>| -> Vec<Piece> {
        pieces.iter().filter(|piece| piece.dim != Dim::Batch).copied().collect()
    };
    (outermost && flat[batches..].iter().all(|piece| piece.dim != Dim::Batch))
        .then(|| axes.iter().map(inner).filter(|pieces| !pieces.is_empty()).collect())
}

/// Whether the axes hold each of `batch` prompts once.
pub fn holds_every_prompt(axes: &Axes, batch: usize) -> bool {
    let pieces: Vec<Piece> = axes.concat().into_iter().filter(|piece| piece.dim == Dim::Batch).collect();
    covers(&pieces, Dim::Batch, batch)
}

/// The pieces of the batch that two axes of a product begin with alike, and what follows in each.
pub fn shared_batch([left, right]: [&[Piece]; 2]) -> (&[Piece], [&[Piece]; 2]) {
    let alike = |(a, b): &(&Piece, &Piece)| a == b && a.dim == Dim::Batch;
    let (batch, left) = left.split_at(left.iter().zip(right).take_while(alike).count());
    (batch, [left, &right[batch.len()..]])
}

/// For each index of an axis, the index in the dimension that its pieces belong to.
pub fn offsets(pieces: &[Piece]) -> Vec<usize> {
    pieces.iter().fold(vec![0], |outer, piece| {
        let inner = |base: usize| (0..piece.size).map(move |index| base + index * piece.stride);
        outer.into_iter().flat_map(inner).collect()
    })
}

/// Joins neighbouring pieces that are one run of their dimension.
pub fn merged(pieces: &[Piece]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for &piece in pieces.iter().filter(|piece| piece.size > 1) {
        match out.last_mut() {
            Some(last) if last.dim == piece.dim && last.stride == piece.stride * piece.size => {
                *last = Piece { size: last.size * piece.size, ..piece };
            }
            _ => out.push(piece),
        }
    }
    out
}

/// Shares pieces out to axes of the given sizes.
fn split(pieces: &[Piece], sizes: &[usize]) -> Option<Axes> {
    let mut pending: Vec<Piece> = pieces.iter().rev().copied().collect();
    let mut axes = Vec::new();
    for &size in sizes {
        let mut axis = Vec::new();
        let mut need = size;
        while need > 1 {
            let piece = pending.pop()?;
            if need.is_multiple_of(piece.size) {
                need /= piece.size;
                axis.push(piece);
            } else if piece.size.is_multiple_of(need) {
                let inner = piece.size / need;
                axis.push(Piece { size: need, stride: piece.stride * inner, ..piece });
                pending.push(Piece { size: inner, ..piece });
                need = 1;
            } else {
                return None;
            }
        }
        axes.push(merged(&axis));
    }
    pending.is_empty().then_some(axes)
}

/// The axes after an axis operator.
pub fn apply(axes: &Axes, op: &AxisOp) -> Rule<Axes> {
    let mut out = axes.clone();
    match op {
        AxisOp::Add(at) => out.insert(*at, vec![]),
        AxisOp::Rm(at) => {
            if !out.remove(*at).is_empty() {
                return mismatch("only axes of size 1 to be dropped", format!("axis {at} dropped"));
            }
        }
        AxisOp::Move(from, to) => {
            let axis = out.remove(*from);
            out.insert(*to, axis);
        }
        AxisOp::Reshape(at, from, to) => {
            let sizes: Option<Vec<usize>> =
                to.iter().map(|dim| usize::try_from(dim.to_i64().ok()?).ok()).collect();
            let pieces: Vec<Piece> = out[*at..at + from.len()].concat();
            let Some(split) = sizes.and_then(|sizes| split(&pieces, &sizes)) else {
                return mismatch(
                    "a reshape that splits or joins whole heads",
                    format!("{from:?} made {to:?}"),
                );
            };
            out.splice(*at..at + from.len(), split);
        }
    }
    Ok(out)
}

/// Reads a constant that is broadcast against `axes` as a row-major table over `dims`, each with its size.
///
/// `None` when the constant varies along a dimension that is not asked for, or does not broadcast.
pub fn read(tensor: &Tensor, axes: &Axes, dims: &[(Dim, usize)]) -> Option<Vec<f32>> {
    // An exporter may have repeated the constant, such as a mask for every prompt.
    let mut repeated: Vec<(Dim, usize)> = vec![];
    let long = tensor.shape().iter().zip(axes).filter(|(length, _)| **length > 1);
    for piece in long.flat_map(|(_, pieces)| pieces) {
        if !dims.iter().chain(&repeated).any(|(dim, _)| *dim == piece.dim) {
            let here = axes.iter().flatten().filter(|other| other.dim == piece.dim);
            repeated.push((piece.dim, here.map(|other| other.stride * other.size).max()?));
        }
    }
    let mut values = read_all(tensor, axes, &[repeated.as_slice(), dims].concat())?;
    let length: usize = dims.iter().map(|(_, size)| size).product();
    let (first, others) = values.split_at_checked(length)?;
    let alike = others.chunks(length.max(1)).all(|other| other == first);
    values.truncate(length);
    alike.then_some(values)
}

/// Reads a constant as a table over `dims`, which are all those along which it has more than one index.
fn read_all(tensor: &Tensor, axes: &Axes, dims: &[(Dim, usize)]) -> Option<Vec<f32>> {
    if tensor.rank() != axes.len() {
        return None;
    }
    let values = numbers::<f32>(tensor)?;
    // Where in the tensor a step along each piece leads: (which of dims, stride, size, step).
    let mut steps = Vec::new();
    let mut stride = 1;
    for (&length, pieces) in tensor.shape().iter().zip(axes).rev() {
        if length > 1 {
            if length != size(pieces) {
                return None;
            }
            let mut step = stride;
            for piece in pieces.iter().rev() {
                let which = dims.iter().position(|(dim, _)| *dim == piece.dim)?;
                steps.push((which, piece.stride, piece.size, step));
                step *= piece.size;
            }
        }
        stride *= length;
    }
    let total: usize = dims.iter().map(|(_, size)| size).product();
    let mut out = Vec::with_capacity(total);
    for flat in 0..total {
        let mut rest = flat;
        let mut index = vec![0; dims.len()];
        for (at, (_, size)) in dims.iter().enumerate().rev() {
            index[at] = rest % size;
            rest /= size;
        }
        let offset: usize =
            steps.iter().map(|&(which, stride, size, step)| index[which] / stride % size * step).sum();
        out.push(values[offset]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::internal::{ToDim, tvec};

    fn reshape(at: usize, from: &[usize], to: &[usize]) -> AxisOp {
        let dims = |sizes: &[usize]| sizes.iter().map(|size| size.to_dim()).collect();
        AxisOp::Reshape(at, dims(from), dims(to))
    }

    #[test]
    fn splitting_turning_and_joining_heads_comes_back() {
        let start = vec![vec![], whole(Dim::Token, 77), whole(Dim::Channel, 16)];
        let steps = [
            reshape(2, &[16], &[2, 8]),
            AxisOp::Move(2, 1),
            reshape(0, &[1, 2], &[2]),
            reshape(0, &[2], &[1, 2]),
            AxisOp::Move(1, 2),
            reshape(2, &[2, 8], &[16]),
        ];
        let end = steps.iter().try_fold(start.clone(), |axes, op| apply(&axes, op)).expect("axis operators");
        assert_eq!(end, start);
    }

    #[test]
    fn joining_heads_without_turning_them_back_does_not() {
        let start = vec![whole(Dim::Token, 77), whole(Dim::Channel, 16)];
        let steps = [reshape(1, &[16], &[2, 8]), AxisOp::Move(1, 0), reshape(0, &[2, 77, 8], &[77, 16])];
        let end = steps.iter().try_fold(start, |axes, op| apply(&axes, op));
        assert!(end.is_err(), "{end:?}");
    }

    #[test]
    fn an_axis_that_holds_something_is_not_dropped() {
        let axes = vec![whole(Dim::Token, 77)];
        assert!(apply(&axes, &AxisOp::Rm(0)).is_err());
        assert!(apply(&axes, &AxisOp::Reshape(0, tvec![77.to_dim()], tvec![76.to_dim()])).is_err());
    }

    #[test]
    fn constants_are_read_through_the_axes() {
        // Channels as [2, 3], heads innermost.
        let pieces = |stride, size| vec![Piece { dim: Dim::Channel, stride, size }];
        let axes = vec![pieces(1, 3), pieces(3, 2)];
        let tensor = Tensor::from_shape(&[3, 2], &[0f32, 3., 1., 4., 2., 5.]).expect("a tensor");
        assert_eq!(read(&tensor, &axes, &[(Dim::Channel, 6)]), Some(vec![0., 1., 2., 3., 4., 5.]));
        assert_eq!(read(&tensor, &axes, &[(Dim::Token, 6)]), None);
    }

    #[test]
    fn only_all_of_a_dimension_covers_it() {
        let (outer, inner) = (
            Piece { dim: Dim::Channel, stride: 8, size: 2 },
            Piece { dim: Dim::Channel, stride: 1, size: 8 },
        );
        assert!(covers(&[inner, outer], Dim::Channel, 16));
        assert!(!covers(&[inner], Dim::Channel, 16));
        assert!(!covers(&[outer, outer], Dim::Channel, 16));
        assert!(!covers(&[inner, outer], Dim::Token, 16));
    }
}
