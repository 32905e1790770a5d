//! Token and position embeddings.

use crate::copy::copy;
use crate::kernels::simd::{LANES, Simd};

/// One token's embedding.
#[derive(Clone, Copy)]
pub(crate) enum TokenRow<'a> {
    /// Codes and their scale.
    Int8(&'a [i8], f32),
    /// Half-precision values by their bits.
    F16(&'a [u16]),
    /// Values.
    F32(&'a [f32]),
}

/// One position's embedding.
#[derive(Clone, Copy)]
pub(crate) enum PositionRow<'a> {
    /// Half-precision values by their bits.
    F16(&'a [u16]),
    /// Values.
    F32(&'a [f32]),
}

/// `out = token + position`.
#[inline(always)]
pub(crate) fn embed_row<S: Simd>(s: S, token: TokenRow<'_>, position: PositionRow<'_>, out: &mut [f32]) {
    let (places, tail) = out.as_chunks_mut::<LANES>();
    let full = places.len();
    for (index, place) in places.iter_mut().enumerate() {
        s.store(block(s, token, position, index), place);
    }
    if !tail.is_empty() {
        s.store_part(block(s, token, position, full), tail);
    }
}

/// Sixteen channels of the sum, zeros behind the end.
#[inline(always)]
fn block<S: Simd>(s: S, token: TokenRow<'_>, position: PositionRow<'_>, index: usize) -> S::V {
    let position = match position {
        PositionRow::F16(bits) => s.load_f16(&lanes(bits, index)),
        PositionRow::F32(values) => s.load(&lanes(values, index)),
    };
    match token {
        TokenRow::Int8(codes, scale) => s.mul_add(s.load_i8(&lanes(codes, index)), s.splat(scale), position),
        TokenRow::F16(bits) => s.add(s.load_f16(&lanes(bits, index)), position),
        TokenRow::F32(values) => s.add(s.load(&lanes(values, index)), position),
    }
}

#[inline(always)]
fn lanes<T: Copy + Default>(row: &[T], index: usize) -> [T; LANES] {
    let (blocks, tail) = row.as_chunks::<LANES>();
    match blocks.get(index) {
        Some(block) => *block,
        None => {
            let mut out = [T::default(); LANES];
            copy(&mut out, tail);
            out
        }
    }
}
