//! The Cholesky factor of a symmetric positive definite matrix, in blocks.

use super::gemm::{Part, View, add_product};
use super::parallel;
use super::vectors::vectorized;

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
        let block = Diagonal { values: above, n, start, end };
        parallel::each(below.chunks_mut(LANES * n), |rows| solve(&block, rows));
        if end == n {
            break;
        }
        let panel: Vec<f32> = below.chunks_exact(n).flat_map(|row| row[start..end].iter().copied()).collect();
        let panel = View::new(&panel, end - start);
        add_product(&mut below[end..], n, panel, panel.transposed(), -1.0, Part::Lower);
    }
    Ok(())
}

/// Rows that are solved side by side: each is a chain of additions, of which the machine works on many at once.
const LANES: usize = 16;

/// The block on the diagonal, factored, in the rows of the matrix up to it.
struct Diagonal<'a> {
    values: &'a [f32],
    n: usize,
    start: usize,
    end: usize,
}

vectorized! {
    /// Solves the columns of `block` in up to [`LANES`] rows below it.
    fn solve(block: &Diagonal<'_>, rows: &mut [f32]) {
        let Diagonal { values, n, start, end } = *block;
        // As f32 has them, for they stand in the matrix so.
        let mut solved = [[0f64; LANES]; BLOCK];
        for (lane, row) in rows.chunks_exact(n).enumerate() {
            solved.iter_mut().zip(&row[start..end]).for_each(|(to, from)| to[lane] = f64::from(*from));
        }
        for col in 0..end - start {
            let factors = &values[(start + col) * n + start..][..=col];
            let (before, here) = solved.split_at_mut(col);
            let mut known = [0f64; LANES];
            for (row, factor) in before.iter().zip(factors) {
                let factor = f64::from(*factor);
                for lane in 0..LANES {
                    known[lane] += row[lane] * factor;
                }
            }
            let pivot = f64::from(factors[col]);
            for (x, known) in here[0].iter_mut().zip(known) {
                *x = f64::from(((*x - known) / pivot) as f32);
            }
        }
        for (lane, row) in rows.chunks_exact_mut(n).enumerate() {
            row[start..end].iter_mut().zip(&solved).for_each(|(to, from)| *to = from[lane] as f32);
        }
    }
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
