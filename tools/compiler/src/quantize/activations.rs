//! What the runtime's quantizing of activations does to them: see "Quantizing a row" in `docs/plan-format.md`.

use cliptext::kernels::layout::{HALF, NARROW, TINY};

use crate::arithmetic::extremes::fold;
use crate::arithmetic::functions::round;
use crate::arithmetic::parallel;
use crate::arithmetic::vectors::vectorized;

/// Replaces each row of `cols` values by what its codes, scale and offset say.
pub fn through_codes(values: &mut [f32], cols: usize) {
    parallel::each_row(values, cols, row_through_codes);
}

vectorized! {
/// One row of [`through_codes`].
pub fn row_through_codes(row: &mut [f32]) {
    let (lesser, greater) = (|m, x| if x < m { x } else { m }, |m, x| if x > m { x } else { m });
        let least = fold(row, f32::INFINITY, lesser, lesser);
    let largest = fold(row, f32::NEG_INFINITY, greater, greater);
    let middle = least * 0.5 + largest * 0.5;
    let half = (largest - middle).max(middle - least).max(middle.abs() * NARROW);
    let (scale, factor) = if half < TINY { (0.0, 0.0) } else { (half / HALF, HALF / half) };
    for x in row {
        // The offset is taken off to make a code of it, and added again to make a value of the code.
        *x = round(*x * factor) * scale;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_within_half_a_step() {
        for (low, high) in [(-1.0, 1.0), (-0.17, 9.0), (3.0, 6.0), (-1e-20, 1e20)] {
            let row: Vec<f32> = (0..=1000).map(|i| low + (high - low) * (i as f32 / 1000.0)).collect();
            let mut again = row.clone();
            through_codes(&mut again, row.len());
            let step = (high - low) / 253.9;
            for (a, b) in row.iter().zip(again) {
                assert!((a - b).abs() <= step * 0.501 + high * 1e-6, "{low} {high}: {a} {b}");
            }
        }
    }

    #[test]
    fn rows_of_zeros_keep_them() {
        let mut row = [1e-38; 20];
        row_through_codes(&mut row);
        assert_eq!(row, [0.0; 20]);
    }
}
