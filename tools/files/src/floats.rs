//! Numbers as files hold them: little-endian, f32 or f16.

use half::f16;

/// A type of numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16: the nearest, of two as near the even one; up to [`LARGEST`](Self::LARGEST).
    F16,
}

/// The first value that f16 has no number for: it is finite, and so large that it would become infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TooLarge {
    /// Which of the values.
    pub index: usize,
    /// The value.
    pub value: f32,
}

impl Float {
    /// The largest value of f16.
    pub const LARGEST: f32 = 65504.0;

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F16 => 2,
        }
    }

    /// Appends `values` to `out`. Infinities and NaN stay what they are.
    ///
    /// # Errors
    /// [`TooLarge`] where a finite value would not stay finite; `out` then ends before it.
    pub fn append(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), TooLarge> {
        out.reserve(values.len() * self.size());
        match self {
            Float::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Float::F16 => {
                for (index, &value) in values.iter().enumerate() {
                    let rounded = f16::from_f32(value);
                    if rounded.is_infinite() && value.is_finite() {
                        return Err(TooLarge { index, value });
                    }
                    out.extend(rounded.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(values: &[f32]) -> Result<Vec<u16>, TooLarge> {
        let mut out = Vec::new();
        Float::F16.append(values, &mut out)?;
        Ok(out.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect())
    }

    #[test]
    fn halves_are_the_nearest_and_of_two_the_even_one() {
        // IEEE 754 binary16: 0x3c00 is 1, whose neighbour is 2^-10 away; 2^-24 is the smallest.
        let ulp = 1.0 / 1024.0;
        let values = [1.0, 1.0 + ulp / 2.0, 1.0 + ulp * 1.5, 1.0 + ulp * 0.501, -2.0, 65504.0, 65519.0];
        assert_eq!(halves(&values), Ok(vec![0x3c00, 0x3c00, 0x3c02, 0x3c01, 0xc000, 0x7bff, 0x7bff]));
        let least = 2f32.powi(-24);
        assert_eq!(halves(&[least, least * 0.5, least * 0.501, -0.0]), Ok(vec![1, 0, 1, 0x8000]));
        assert_eq!(halves(&[f32::INFINITY, f32::NEG_INFINITY]), Ok(vec![0x7c00, 0xfc00]));
        let nan = halves(&[f32::NAN]).unwrap()[0];
        assert!(nan & 0x7c00 == 0x7c00 && nan & 0x3ff != 0);
    }

    #[test]
    fn what_f16_can_not_hold_is_found() {
        // Halfway between the largest and the next that there would be, the even one is infinity.
        assert_eq!(halves(&[0.0, 65520.0, 1e9]), Err(TooLarge { index: 1, value: 65520.0 }));
        assert_eq!(halves(&[-1e9]), Err(TooLarge { index: 0, value: -1e9 }));
        let mut out = Vec::new();
        Float::F32.append(&[1e9, f32::NAN], &mut out).unwrap();
        assert_eq!(out, [1e9f32, f32::NAN].map(f32::to_le_bytes).concat());
    }
}
