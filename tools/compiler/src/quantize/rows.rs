//! f32 to int8 by the nearest code: symmetric, a scale per row.

use crate::arithmetic::extremes::largest_magnitude;
use crate::arithmetic::functions::round;
use crate::arithmetic::parallel::{self, ROWS};
use crate::arithmetic::vectors::vectorized;
use crate::ir::{Matrix, QuantizedMatrix};

/// Rows whose largest magnitude is below this become zeros: its reciprocal would overflow.
const TINY: f32 = 1e-30;

/// The scale of a row by its largest magnitude; 0 for a row of (next to) nothing, NaN for one with a NaN.
pub fn row_scale(row: &[f32]) -> f32 {
    let mut largest = 0.0;
    magnitude(row, &mut largest);
    if largest < TINY { 0.0 } else { largest / 127.0 }
}

vectorized! {
    fn magnitude(row: &[f32], largest: &mut f32) {
        *largest = largest_magnitude(row);
    }
}

/// The code nearest to `value`; 0 where the scale is.
#[inline(always)]
pub fn code(value: f32, scale: f32) -> i8 {
    if scale == 0.0 {
        return 0;
    }
    round((value / scale).clamp(-127.0, 127.0)) as i8
}

/// The value of the code nearest to `value`: what [`code`] times `scale` is, in vectors.
#[inline(always)]
pub fn multiple(value: f32, scale: f32) -> f32 {
    let code = round((value / scale).clamp(-127.0, 127.0));
    // Also for NaN, as the conversion to an integer does.
    if scale == 0.0 || code.is_nan() { 0.0 } else { code * scale }
}

/// Quantizes every row of `matrix` by its own largest magnitude, each value to the nearest code.
pub fn quantize_rows(matrix: &Matrix) -> QuantizedMatrix {
    let mut scales = vec![0.0; matrix.rows];
    let rows = scales.chunks_mut(ROWS).zip(matrix.values.chunks(ROWS * matrix.cols));
    parallel::each(rows, |(scales, rows)| {
        scales
            .iter_mut()
            .zip(rows.chunks_exact(matrix.cols))
            .for_each(|(scale, row)| *scale = row_scale(row));
    });
    with_scales(matrix, scales)
}

/// Quantizes every row of `matrix` by its scale, each value to the nearest code.
pub fn with_scales(matrix: &Matrix, scales: Vec<f32>) -> QuantizedMatrix {
    let mut codes = vec![0; matrix.values.len()];
    let chunk = ROWS * matrix.cols;
    let chunks = codes.chunks_mut(chunk).zip(matrix.values.chunks(chunk)).zip(scales.chunks(ROWS));
    parallel::each(chunks, |((codes, values), scales)| {
        let rows = codes.chunks_exact_mut(matrix.cols).zip(values.chunks_exact(matrix.cols)).zip(scales);
        for ((codes, row), &scale) in rows {
            codes.iter_mut().zip(row).for_each(|(to, &value)| *to = code(value, scale));
        }
    });
    QuantizedMatrix { rows: matrix.rows, cols: matrix.cols, codes, scales }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_symmetric_and_within_half_a_step() {
        let values: Vec<f32> = (0..600).map(|i| ((i * 7919 % 601) as f32 - 300.0) * 0.013).collect();
        let matrix = Matrix { rows: 6, cols: 100, values };
        let quantized = quantize_rows(&matrix);
        for row in 0..6 {
            let scale = quantized.scales[row];
            for (code, value) in quantized.codes[row * 100..][..100].iter().zip(matrix.row(row)) {
                assert!((-127..=127).contains(code));
                assert!((f32::from(*code) * scale - value).abs() <= scale * 0.5001);
            }
        }
    }

    #[test]
    fn rows_of_zeros_and_denormals_become_zeros() {
        let matrix = Matrix { rows: 2, cols: 2, values: vec![0.0, -0.0, 1e-41, 0.0] };
        let quantized = quantize_rows(&matrix);
        assert_eq!(quantized.scales, vec![0.0; 2]);
        assert_eq!(quantized.codes, [0; 4]);
    }

    #[test]
    fn multiples_are_what_codes_stand_for() {
        for scale in [0.0, 1e-3, 0.7] {
            for value in (-300..300).map(|i| i as f32 * 0.37).chain([f32::NAN, f32::INFINITY, -1e30]) {
                assert_eq!(multiple(value, scale), f32::from(code(value, scale)) * scale, "{value} {scale}");
            }
        }
    }

    #[test]
    fn a_row_with_a_nan_has_no_scale() {
        for row in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
            assert!(row_scale(&row).is_nan());
        }
    }

    #[test]
    fn multiples_of_a_step_come_back_as_they_were() {
        for step in [1e-9f32, 0.003_7, 1.0, 77.7] {
            let values: Vec<f32> = (-127..=127).map(|code| code as f32 * step).collect();
            let matrix = Matrix { rows: 1, cols: 255, values };
            let codes: Vec<i8> = (-127..=127).collect();
            assert_eq!(with_scales(&matrix, vec![step]).codes, codes);
        }
    }
}
