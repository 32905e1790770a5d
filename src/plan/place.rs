//! Places in the arena.

use serde::{Deserialize, Serialize};

use super::format::ALIGN;
use crate::kernels::layout::CODE_ALIGN;

/// Bytes of the quantization parameters that go with each row of activation codes: scale (f32) and negated zero point
/// (i32).
pub(crate) const QUANT_PARAMS_BYTES: usize = 8;

/// What a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// A token: as many rows as the tower has tokens, or as a prompt without padding has.
    Token,
    /// A sequence: a prompt.
    Sequence,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// f32 values.
    F32,
    /// Int8 activation codes, each row at a multiple of 64 bytes; behind all rows, for each its scale (f32) and its negated
    /// zero point (i32): a value is `(code + negated zero point) · scale`.
    Codes,
}

/// A place in the arena for the rows of one sequence.
///
/// For `n` sequences at once, offset and size are `n`-fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// In bytes, a multiple of 64.
    pub offset: u32,
    /// Values in a row.
    pub columns: u32,
    /// Rows for one sequence, unpadded prompts have fewer: the tower's tokens, or 1 for [`Axis::Sequence`].
    pub rows: u16,
    /// What a row belongs to.
    pub axis: Axis,
    /// What a row is made of.
    pub format: Format,
}

impl Place {
    /// Bytes for one sequence, a multiple of 64. Its factors have 32 and 16 bits: the product fits 64.
    #[inline(never)]
    pub fn bytes(&self) -> u64 {
        let row = match self.format {
            Format::F32 => 4 * u64::from(self.columns),
            Format::Codes => {
                u64::from(self.columns).next_multiple_of(CODE_ALIGN as u64) + QUANT_PARAMS_BYTES as u64
            }
        };
        (u64::from(self.rows) * row).next_multiple_of(ALIGN as u64)
    }

    /// Whether it has the same rows as `other`.
    pub fn has_rows_of(&self, other: &Place) -> bool {
        self.axis == other.axis && self.rows == other.rows
    }
}
