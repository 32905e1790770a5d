//! The Cholesky factor of a symmetric positive definite matrix, in blocks.

use super::gemm::{Part, View, add_product};
use super::parallel;

/// Columns worked out together; the rest of the matrix is brought up to date by a product after each block.
const BLOCK: usize = 64;

/// A pivot that is not positive: the matrix is not positive definite, as far as f32 can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPositive;

/// Replaces the lower triangle of the `n × n` matrix `a` by `L`, with `A = L · Lᵀ`; what stands above it is left as it is
/// or overwritten, and means nothing.
///
/// # Errors
/// [`NotPositive`]; `a` is then spoiled.
pub fn factor(a: &mut [f32], n: usize) -> Result<(), NotPositive> {
    assert_eq!(a.len(), n * n);
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        diagonal_block(a, n, start, end)?;
        // The rows below: each is solved against the block by itself.
        let (above, below) = a.split_at_mut(end * n);
        let block = |row: usize| &above[(start + row) * n + start..][..=row];
        parallel::each(below.chunks_mut(16 * n), |rows| {
            for row in rows.chunks_exact_mut(n) {
                let row = &mut row[start..end];
                for col in 0..row.len() {
                    let factors = block(col);
                    let known: f64 = (0..col).map(|k| f64::from(row[k]) * f64::from(factors[k])).sum();
                    row[col] = ((f64::from(row[col]) - known) / f64::from(factors[col])) as f32;
                }
            }
        });
        if end == n {
            break;
        }
        let panel: Vec<f32> = below.chunks_exact(n).flat_map(|row| row[start..end].iter().copied()).collect();
        let panel = View::new(&panel, end - start);
        add_product(&mut below[end..], n, panel, panel.transposed(), -1.0, Part::Lower);
    }
    Ok(())
}

/// The factor of the block on the diagonal, one column after the other.
fn diagonal_block(a: &mut [f32], n: usize, start: usize, end: usize) -> Result<(), NotPositive> {
    for col in start..end {
        let products = |a: &[f32], row: usize| -> f64 {
            (start..col).map(|k| f64::from(a[row * n + k]) * f64::from(a[col * n + k])).sum()
        };
        let pivot = f64::from(a[col * n + col]) - products(a, col);
        // NaN is not positive either.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(NotPositive);
        }
        let root = pivot.sqrt();
        a[col * n + col] = root as f32;
        for row in col + 1..end {
            a[row * n + col] = ((f64::from(a[row * n + col]) - products(a, row)) / root) as f32;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gemm::{add_gram, product};
    use super::*;

    #[test]
    fn the_factor_times_its_transpose_is_the_matrix() {
        for n in [1, 5, 64, 65, 200] {
            let x: Vec<f32> = (0..2 * n * n).map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 0.002).collect();
            let mut a = vec![0.0; n * n];
            add_gram(&mut a, &x, n);
            (0..n).for_each(|i| a[i * n + i] += 1.0);
            let before = a.clone();
            factor(&mut a, n).unwrap();
            for row in 0..n {
                a[row * n + row + 1..(row + 1) * n].fill(0.0);
            }
            let again = product(View::new(&a, n), View::new(&a, n).transposed());
            let largest = before.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (found, wanted) in again.iter().zip(&before) {
                assert!((found - wanted).abs() < 1e-5 * largest, "{n}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert_eq!(factor(&mut [1.0, 2.0, 2.0, 1.0], 2), Err(NotPositive));
        assert_eq!(factor(&mut [f32::NAN], 1), Err(NotPositive));
        assert_eq!(factor(&mut [0.0], 1), Err(NotPositive));
    }
}
