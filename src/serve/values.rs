//! A row's values on the line.

use half::f16;
use serde::ser::{Serialize, SerializeSeq as _, Serializer};

use super::message::{Answer, Numbers};
use crate::kernels::float_mode::Exact;

/// The largest code of a signed byte that is used: its negative is one too.
const LARGEST: f32 = 127.0;

impl Numbers {
    /// Bytes of a row of so many columns.
    pub const fn bytes(self, columns: usize) -> usize {
        match self {
            Numbers::F32 => columns * 4,
            Numbers::F16 => columns * 2,
            Numbers::Int8 => 4 + columns,
        }
    }

    /// Reads the values of a row that has as many as `out`. False where `bytes` have another length.
    pub fn read(self, bytes: &[u8], out: &mut [f32]) -> bool {
        if bytes.len() != self.bytes(out.len()) {
            return false;
        }
        match self {
            Numbers::F32 => {
                let values = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
            }
            Numbers::F16 => {
                let values = bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32());
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
            }
            Numbers::Int8 => {
                let Some((scale, codes)) = bytes.split_first_chunk() else { return false };
                let scale = f32::from_le_bytes(*scale);
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code as i8) * scale);
            }
        }
        true
    }

    /// The column of the first value that has no number.
    pub(super) fn lacks(self, row: &[f32]) -> Option<usize> {
        row.iter().position(|&value| match self {
            Numbers::F32 => false,
            Numbers::F16 => value.is_finite() && f16::from_f32(value).is_infinite(),
            Numbers::Int8 => !value.is_finite(),
        })
    }
}

/// An answer, as it is written.
pub(super) type Sent<'a> = Answer<'a, Values<'a>>;

/// A row, as it is written.
#[derive(Clone, Copy)]
pub(super) struct Values<'r> {
    pub(super) numbers: Numbers,
    pub(super) row: &'r [f32],
}

impl Serialize for Values<'_> {
    /// A sequence of bytes, as which postcard writes slices of them too.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.numbers == Numbers::F32 {
            return serializer.serialize_bytes(bytemuck::cast_slice(self.row));
        }
        let mut bytes = serializer.serialize_seq(Some(self.numbers.bytes(self.row.len())))?;
        if self.numbers == Numbers::F16 {
            for &value in self.row {
                f16::from_f32(value)
                    .to_le_bytes()
                    .iter()
                    .try_for_each(|byte| bytes.serialize_element(byte))?;
            }
            return bytes.end();
        }
        let scale = scale(self.row);
        scale.to_le_bytes().iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        for &value in self.row {
            bytes.serialize_element(&(code(value, scale) as u8))?;
        }
        bytes.end()
    }
}

/// What one step of a row's codes is worth.
fn scale(row: &[f32]) -> f32 {
    let _exact = Exact::enter();
    row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / LARGEST
}

/// The code of a value: the nearest, of two as near the even one.
fn code(value: f32, scale: f32) -> i8 {
    let _exact = Exact::enter();
    // Where the scale is subnormal a quotient may exceed what it stands for; where it is 0 so is the value.
    if scale > 0.0 { libm::rintf(value / scale).clamp(-LARGEST, LARGEST) as i8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// What is read of what was written.
    fn there_and_back(numbers: Numbers, row: &[f32]) -> Vec<f32> {
        let mut buffer = [0; 600];
        let written = postcard::to_slice(&Values { numbers, row }, &mut buffer).unwrap();
        let bytes: &[u8] = postcard::from_bytes(written).unwrap();
        assert_eq!(bytes.len(), numbers.bytes(row.len()));
        let mut out = std::vec![f32::NAN; row.len()];
        assert!(numbers.read(bytes, &mut out) && !numbers.read(&bytes[1..], &mut out));
        out
    }

    #[test]
    fn values_come_back_as_near_as_the_numbers_can() {
        let row: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0).powi(3) * 1e-3).collect();
        assert_eq!(there_and_back(Numbers::F32, &row), row);
        let largest = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        for (numbers, error) in [(Numbers::F16, largest / 2048.0), (Numbers::Int8, largest / 254.0 * 1.001)] {
            for (value, back) in row.iter().zip(there_and_back(numbers, &row)) {
                assert!((value - back).abs() <= error, "{numbers:?}: {value} {back}");
            }
        }
        // Of a row with exact codes they are exact; ties go to the even code.
        let codes = [-127.0, -2.5, -0.5, 0.5, 1.5, 126.0];
        assert_eq!(there_and_back(Numbers::Int8, &codes), [-127.0, -2.0, 0.0, 0.0, 2.0, 126.0]);
        for row in [[0.0, -0.0], [f32::from_bits(1), f32::from_bits(3)]] {
            assert!(
                there_and_back(Numbers::Int8, &row).iter().all(|value| value.abs() <= row[1].abs() * 2.0)
            );
        }
    }

    #[test]
    fn what_has_no_number_is_found() {
        let row = [1.0, 65519.0, 65520.0, f32::INFINITY];
        assert_eq!(
            [Numbers::F32, Numbers::F16, Numbers::Int8].map(|numbers| numbers.lacks(&row)),
            [None, Some(2), Some(3)]
        );
    }
}
