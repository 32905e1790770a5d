//! The arena: one buffer, cut as the plan says.

use core::ops::Range;

use crate::kernels::layout::code_stride;
use crate::kernels::{Codes as CodeRows, CodesMut as CodeRowsMut};
use crate::plan::format::ALIGN;
use crate::plan::{Place, QUANT_PARAMS_BYTES};

/// An arena of `N` bytes with the alignment that encoders want, for a `static` or a board's start-up.
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub struct ArenaBuf<const N: usize>([u8; N]);

impl<const N: usize> ArenaBuf<N> {
    /// Zeroed.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// Its bytes.
    pub const fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize> Default for ArenaBuf<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of `buffer` from its first multiple of 64: up to 63 bytes less than `buffer` has.
pub fn align_arena(buffer: &mut [u8]) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(ALIGN);
    buffer.get_mut(start..).unwrap_or(&mut [])
}

/// The arena of an encoder during a pass over `sequences` sequences.
///
/// Places were found to lie in the arena, aligned, and apart from each other where a step uses them at once, when the
/// plan was loaded; the conversions below cannot fail after that.
pub(super) struct Arena<'a> {
    bytes: &'a mut [u8],
    sequences: usize,
}

impl<'a> Arena<'a> {
    pub(super) fn new(bytes: &'a mut [u8], sequences: usize) -> Self {
        Self { bytes, sequences }
    }

    /// The bytes of `rows` of a place for rows of f32.
    pub(super) fn place(&self, place: Place, rows: Range<usize>) -> Range<usize> {
        let start = place.offset as usize * self.sequences;
        let row = place.columns as usize * 4;
        start + rows.start * row..start + rows.end * row
    }

    /// The bytes of a place for `rows` rows of codes, their quantization parameters behind them.
    pub(super) fn code_place(&self, place: Place, rows: usize) -> Range<usize> {
        let start = place.offset as usize * self.sequences;
        start..start + rows * (code_stride(place.columns as usize) + QUANT_PARAMS_BYTES)
    }

    /// Several places at once.
    pub(super) fn cut<const N: usize>(&mut self, places: [Range<usize>; N]) -> [&mut [u8]; N] {
        self.bytes.get_disjoint_mut(places).unwrap_or_else(|_| core::array::from_fn(|_| &mut [][..]))
    }

    /// The arena's bytes, to be read only.
    pub(super) fn into_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// Bytes as the values that they are.
pub(super) fn values<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> &[T] {
    bytemuck::try_cast_slice(bytes).unwrap_or(&[])
}

/// Bytes as the values that they are, to be written.
pub(super) fn values_mut<T: bytemuck::Pod>(bytes: &mut [u8]) -> &mut [T] {
    bytemuck::try_cast_slice_mut(bytes).unwrap_or(&mut [])
}

/// The codes in the bytes of a place.
pub(super) fn codes(place: Place, rows: usize, bytes: &[u8]) -> CodeRows<'_> {
    let (codes, params) = bytes.split_at(rows * code_stride(place.columns as usize));
    CodeRows { codes, params: values(params), columns: place.columns as usize }
}

/// The place for codes in its bytes.
pub(super) fn codes_mut(place: Place, rows: usize, bytes: &mut [u8]) -> CodeRowsMut<'_> {
    let (codes, params) = bytes.split_at_mut(rows * code_stride(place.columns as usize));
    CodeRowsMut { codes, params: values_mut(params), columns: place.columns as usize }
}
