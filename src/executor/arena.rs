//! The arena: one buffer, cut as the plan says.

use core::ops::Range;

use crate::kernels::dispatch::{Codes as CodeRows, CodesMut as CodeRowsMut};
use crate::kernels::layout::code_stride;
use crate::plan::{Cut, Place, QUANT_PARAMS_BYTES, Room};

/// Where a pass has its places, in bytes behind the ids.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) cut: Cut,
    pub(super) room: Room,
}

impl Layout {
    /// Bytes at the front of the arena, before the places.
    pub(super) fn id_bytes(self) -> usize {
        self.cut.id_bytes(self.room)
    }

    /// The bytes of `rows` of a place for rows of f32.
    pub(super) fn place(self, place: Place, rows: Range<usize>) -> Range<usize> {
        let start = self.cut.start(place.offset, self.room);
        let row = place.columns as usize * 4;
        start + rows.start * row..start + rows.end * row
    }
}

/// The arena of an encoder during a pass, behind the ids.
///
/// Places were found to lie in the arena, aligned, and apart from each other where a step uses them at once, when the
/// plan was loaded; the conversions below cannot fail after that.
pub(super) struct Arena<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

impl<'a> Arena<'a> {
    pub(super) fn new(bytes: &'a mut [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    /// The contexts of rows that there is room for.
    pub(super) fn contexts(&self) -> usize {
        self.layout.room.contexts
    }

    /// The bytes of `rows` of a place for rows of f32.
    pub(super) fn place(&self, place: Place, rows: Range<usize>) -> Range<usize> {
        self.layout.place(place, rows)
    }

    /// The bytes of a place for `rows` rows of codes, their quantization parameters behind them.
    pub(super) fn code_place(&self, place: Place, rows: usize) -> Range<usize> {
        let start = self.layout.cut.start(place.offset, self.layout.room);
        start..start + rows * (code_stride(place.columns as usize) + QUANT_PARAMS_BYTES)
    }

    /// Several places at once.
    pub(super) fn cut<const N: usize>(&mut self, places: [Range<usize>; N]) -> [&mut [u8]; N] {
        self.bytes.get_disjoint_mut(places).unwrap_or_else(|_| core::array::from_fn(|_| &mut [][..]))
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

/// Bytes as rows of f32.
pub(super) fn rows(bytes: &[u8], columns: usize) -> impl Iterator<Item = &[f32]> {
    let mut rest: &[f32] = values(bytes);
    // Not `chunks_exact`, whose length is found by a division that could panic.
    core::iter::from_fn(move || {
        let (row, behind) = rest.split_at_checked(columns.max(1))?;
        rest = behind;
        Some(row)
    })
}

/// Bytes as rows of f32, to be written.
pub(super) fn rows_mut(bytes: &mut [u8], columns: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut rest: &mut [f32] = values_mut(bytes);
    core::iter::from_fn(move || {
        let (row, behind) = core::mem::take(&mut rest).split_at_mut_checked(columns.max(1))?;
        rest = behind;
        Some(row)
    })
}

/// The codes in the bytes of a place.
pub(super) fn codes(place: Place, rows: usize, bytes: &[u8]) -> CodeRows<'_> {
    let (codes, params) =
        bytes.split_at_checked(rows * code_stride(place.columns as usize)).unwrap_or((&[], &[]));
    CodeRows { codes, params: values(params), columns: place.columns as usize }
}

/// The place for codes in its bytes.
pub(super) fn codes_mut(place: Place, rows: usize, bytes: &mut [u8]) -> CodeRowsMut<'_> {
    let (codes, params) =
        bytes.split_at_mut_checked(rows * code_stride(place.columns as usize)).unwrap_or((&mut [], &mut []));
    CodeRowsMut { codes, params: values_mut(params), columns: place.columns as usize }
}
