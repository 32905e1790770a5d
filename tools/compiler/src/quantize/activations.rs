//! What the runtime's quantizing of activations does to them: see "Quantizing a row" in `docs/plan-format.md`.

use crate::arithmetic::parallel;

/// Half of a row's range below which its codes are all zero.
const TINY: f32 = 1e-30;

/// Replaces each row of `cols` values by what its codes, scale and middle say.
pub fn through_codes(values: &mut [f32], cols: usize) {
    parallel::each(values.chunks_mut(64 * cols), |rows| {
        rows.chunks_exact_mut(cols).for_each(row_through_codes)
    });
}

/// One row of [`through_codes`].
pub fn row_through_codes(row: &mut [f32]) {
    let least = row.iter().fold(f32::INFINITY, |m, &x| if x < m { x } else { m });
    let largest = row.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    let middle = least * 0.5 + largest * 0.5;
    let half = (largest - middle).max(middle - least);
    let (scale, factor) = if half < TINY { (0.0, 0.0) } else { (half / 127.0, 127.0 / half) };
    for x in row {
        // To the nearest integer, ties to even: adding 1.5 · 2^23 leaves no bits for a fraction.
        const MAGIC: f32 = 12_582_912.0;
        let code = ((*x - middle) * factor + MAGIC) - MAGIC;
        *x = code * scale + middle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_within_half_a_step() {
        for (low, high) in [(-1.0, 1.0), (-0.17, 9.0), (3.0, 3.5), (-1e-20, 1e20)] {
            let row: Vec<f32> = (0..=1000).map(|i| low + (high - low) * (i as f32 / 1000.0)).collect();
            let mut again = row.clone();
            through_codes(&mut again, row.len());
            let step = (high - low) / 254.0;
            for (a, b) in row.iter().zip(again) {
                assert!((a - b).abs() <= step * 0.501 + high * 1e-6, "{low} {high}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_row_of_one_value_keeps_it() {
        let mut row = [0.3; 20];
        row_through_codes(&mut row);
        assert_eq!(row, [0.3; 20]);
    }
}
