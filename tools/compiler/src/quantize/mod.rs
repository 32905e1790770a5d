//! f32 to int8: symmetric, a scale per row.

use crate::ir::Matrix;

/// A matrix of int8 codes with a scale for each row: `value ≈ code · scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` codes in -127..=127, row after row.
    pub codes: Vec<i8>,
    /// A scale per row.
    pub scales: Vec<f32>,
}

/// Quantizes every row of `matrix` by its own largest magnitude, each value to the nearest code.
pub fn quantize_rows(matrix: &Matrix) -> QuantizedMatrix {
    let (codes, scales) = quantize_values(&matrix.values, matrix.cols);
    QuantizedMatrix { rows: matrix.rows, cols: matrix.cols, codes, scales }
}

fn quantize_values(values: &[f32], cols: usize) -> (Vec<i8>, Vec<f32>) {
    let mut codes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / cols.max(1));
    for row in values.chunks_exact(cols) {
        let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // A row of (next to) nothing: its reciprocal would overflow.
        let (scale, factor) = if largest < 1e-30 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        scales.push(scale);
        codes.extend(row.iter().map(|value| (value * factor).round_ties_even() as i8));
    }
    (codes, scales)
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
        let matrix = Matrix { rows: 2, cols: 2, values: vec![0.0, -0.0, 1e-41, -1e-40] };
        let quantized = quantize_rows(&matrix);
        assert_eq!((quantized.codes, quantized.scales), (vec![0; 4], vec![0.0; 2]));
    }
}
