//! The numbers of an entry.

use core::fmt;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::format::Dtype;

/// Values where they stand in the pack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// In single precision.
    F32(&'a [f32]),
    /// In half precision: the bits of IEEE binary16.
    F16(&'a [u16]),
}

impl<'a> Values<'a> {
    /// The values in `bytes`, which lie at a multiple of 64.
    pub(super) fn of(dtype: Dtype, bytes: &'a [u8]) -> Self {
        match dtype {
            Dtype::F32 => Values::F32(bytemuck::try_cast_slice(bytes).unwrap_or(&[])),
            Dtype::F16 => Values::F16(bytemuck::try_cast_slice(bytes).unwrap_or(&[])),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F16(bits) => bits.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values where they stand, if they are in single precision.
    pub fn as_f32(&self) -> Option<&'a [f32]> {
        match self {
            Values::F32(values) => Some(values),
            Values::F16(_) => None,
        }
    }

    /// The values in single precision, one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + use<'a> {
        let values = *self;
        (0..values.len()).map(move |index| match values {
            Values::F32(values) => values.get(index).copied().unwrap_or_default(),
            Values::F16(bits) => bits.get(index).map_or(0.0, |&bits| f16::from_bits(bits).to_f32()),
        })
    }

    /// Copies them to `out` in single precision: every value in half precision is one.
    ///
    /// # Errors
    /// [`ValuesLength`] unless `out` has as many.
    pub fn copy_to(&self, out: &mut [f32]) -> Result<(), ValuesLength> {
        if out.len() != self.len() {
            return Err(ValuesLength { given: out.len(), needed: self.len() });
        }
        match self {
            Values::F32(values) => out.copy_from_slice(values),
            Values::F16(bits) => halves(bits).convert_to_f32_slice(out),
        }
        Ok(())
    }
}

fn halves(bits: &[u16]) -> &[f16] {
    half::slice::HalfBitsSliceExt::reinterpret_cast(bits)
}

/// A place for values has not their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValuesLength {
    /// The numbers that it has room for.
    pub given: usize,
    /// The values.
    pub needed: usize,
}

impl fmt::Display for ValuesLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values do not go into {} places: both must be the same number", self.needed, self.given)
    }
}

impl core::error::Error for ValuesLength {}
