//! Rounding of weights in which each error is made up for by the weights that are still to be rounded.
//!
//! Of all codes, those are wanted that keep what the layer computes: with inputs `X` (as the runtime will see them,
//! quantized), wanted outputs `T` and the step sizes given, `|X·Vᵀ − T|² + λ|V − W|²` is to be small. With
//! `H = XᵀX + λI = L·Lᵀ` this is, but for a constant, `|(V − W)·L − D|²` with `D = C·L⁻ᵀ`, `C = (T − X·Wᵀ)ᵀ·X`. `L` being
//! triangular, its columns can be made small one after the other from the last, each by the choice of one code: Babai's
//! nearest plane, which for `C = 0` is what GPTQ computes (Frantar et al., "GPTQ", 2022; Chen et al., "The geometry of LLM
//! quantization", 2025).

use crate::arithmetic::cholesky::{self, NotPositive};
use crate::arithmetic::gemm::{Part, View, add_product};
use crate::arithmetic::parallel;
use crate::ir::Matrix;

use super::rows::{QuantizedMatrix, code};

/// Inputs that are rounded before the others are told.
const BLOCK: usize = 128;

/// What rounding needs to know of a linear's inputs.
pub struct Inputs {
    /// The inputs' number.
    count: usize,
    /// Input at each place: those that matter most come last, to be rounded first.
    order: Vec<usize>,
    /// `[count, count]`: the factor of `H` in that order.
    factor: Vec<f32>,
}

impl Inputs {
    /// From `XᵀX`, `[count, count]`; `λ` is `damping` times its mean diagonal.
    ///
    /// # Errors
    /// [`NotPositive`] where `gram` has values that are not finite.
    pub fn new(gram: &[f32], count: usize, damping: f32) -> Result<Self, NotPositive> {
        let diagonal: Vec<f32> = (0..count).map(|i| gram[i * count + i]).collect();
        let mean = diagonal.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| diagonal[a].total_cmp(&diagonal[b]));
        let mut damping = damping;
        // Once in a while f32 is too coarse: more damping is always enough.
        for _ in 0..6 {
            // Inputs that are always zero must not make the matrix singular.
            let lambda = (f64::from(damping) * mean) as f32 + f32::MIN_POSITIVE;
            let mut factor = vec![0.0; count * count];
            for (row, &i) in order.iter().enumerate() {
                for (col, &j) in order.iter().enumerate().take(row + 1) {
                    factor[row * count + col] = gram[i * count + j];
                }
                factor[row * count + row] += lambda;
            }
            if cholesky::factor(&mut factor, count).is_ok() {
                return Ok(Self { count, order, factor });
            }
            damping *= 10.0;
        }
        Err(NotPositive)
    }

    /// The codes of `weight` (`[outputs, count]`) for the step sizes in `scales`. `wanted` is `C`, `[outputs, count]`, where
    /// the outputs are to be other than `X·Wᵀ`.
    pub fn round(&self, weight: &Matrix, scales: Vec<f32>, wanted: Option<&[f32]>) -> QuantizedMatrix {
        let (n, outputs) = (self.count, weight.rows);
        let by_order = |values: &[f32]| -> Vec<f32> {
            values.chunks_exact(n).flat_map(|row| self.order.iter().map(|&i| row[i])).collect()
        };
        // Sums that each input's choice has to make up for: first D, then with every error's share.
        let mut owed = match wanted {
            Some(wanted) => {
                let mut owed = by_order(wanted);
                self.solve(&mut owed);
                owed
            }
            None => vec![0.0; outputs * n],
        };
        let mut values = by_order(&weight.values);
        for start in (0..n).step_by(BLOCK).rev() {
            let end = n.min(start + BLOCK);
            let rows = values.chunks_exact_mut(n).zip(owed.chunks_exact_mut(n)).zip(&scales);
            parallel::each(rows, |((values, owed), &scale)| {
                self.round_block(start, end, values, owed, scale)
            });
            // The block holds its errors now: the inputs before it are to make up for them.
            let errors = View::strided(&owed[start..], outputs, end - start, n);
            let errors: Vec<f32> = errors.to_vec();
            let factor = View::strided(&self.factor[start * n..], end - start, start, n);
            add_product(&mut owed, n, View::new(&errors, end - start), factor, 1.0, Part::Whole);
        }
        let mut codes = vec![0i8; outputs * n];
        for ((codes, values), &scale) in codes.chunks_exact_mut(n).zip(values.chunks_exact(n)).zip(&scales) {
            for (&place, &value) in self.order.iter().zip(values) {
                codes[place] = code(value, scale);
            }
        }
        QuantizedMatrix { rows: outputs, cols: n, codes, scales }
    }

    /// Rounds the inputs `start..end` of one output: `values` become multiples of `scale`, `owed` their errors.
    fn round_block(&self, start: usize, end: usize, values: &mut [f32], owed: &mut [f32], scale: f32) {
        for k in (start..end).rev() {
            let factor = &self.factor[k * self.count..][..=k];
            let target = values[k] + owed[k] / factor[k];
            let rounded = f32::from(code(target, scale)) * scale;
            let error = values[k] - rounded;
            values[k] = rounded;
            for (owed, factor) in owed[start..k].iter_mut().zip(&factor[start..k]) {
                *owed += error * factor;
            }
            owed[k] = error;
        }
    }

    /// Replaces each row `c` of `rows` by `d` with `d·Lᵀ = c`.
    fn solve(&self, rows: &mut [f32]) {
        let n = self.count;
        let outputs = rows.len() / n;
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            parallel::each(rows.chunks_exact_mut(n), |row| {
                for k in start..end {
                    let factor = &self.factor[k * n..][..=k];
                    let mut value = row[k];
                    for (d, factor) in row[start..k].iter().zip(&factor[start..k]) {
                        value -= d * factor;
                    }
                    row[k] = value / factor[k];
                }
            });
            if end < n {
                let solved = View::strided(&rows[start..], outputs, end - start, n).to_vec();
                let factor = View::strided(&self.factor[end * n + start..], n - end, end - start, n);
                let solved = View::new(&solved, end - start);
                add_product(&mut rows[end..], n, solved, factor.transposed(), -1.0, Part::Whole);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::gemm::{add_gram, product};
    use crate::quantize::rows::{row_scale, with_scales};

    /// Inputs that have much in common, weights, and the scales of the weights.
    fn example(rows: usize, n: usize, outputs: usize) -> (Vec<f32>, Matrix, Vec<f32>) {
        let mut state = 9u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut x = Vec::new();
        for _ in 0..rows {
            let common = 2.0 * next();
            x.extend((0..n).map(|_| common + 0.5 * next()));
        }
        let weight = Matrix { rows: outputs, cols: n, values: (0..outputs * n).map(|_| next()).collect() };
        let scales = weight.values.chunks_exact(n).map(row_scale).map(|scale| scale * 8.0).collect();
        (x, weight, scales)
    }

    fn outputs(x: &[f32], n: usize, weight: &[f32]) -> Vec<f32> {
        product(View::new(x, n), View::new(weight, n).transposed())
    }

    fn error(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    #[test]
    fn errors_are_made_up_for() {
        for n in [3, 50, 300] {
            let (x, weight, scales) = example(4 * n, n, 10);
            let mut gram = vec![0.0; n * n];
            add_gram(&mut gram, &x, n);
            let wanted = outputs(&x, n, &weight.values);
            let inputs = Inputs::new(&gram, n, 0.01).unwrap();
            let rounded = inputs.round(&weight, scales.clone(), None);
            let nearest = with_scales(&weight, scales);
            let ours = error(&outputs(&x, n, &rounded.values()), &wanted);
            let theirs = error(&outputs(&x, n, &nearest.values()), &wanted);
            assert!(ours < 0.5 * theirs, "{n}: {ours} {theirs}");
        }
    }

    #[test]
    fn a_wanted_change_is_made() {
        let (n, out) = (150, 6);
        let (x, weight, scales) = example(900, n, out);
        let mut gram = vec![0.0; n * n];
        add_gram(&mut gram, &x, n);
        // What another matrix computes is wanted.
        let other: Vec<f32> = weight.values.iter().rev().map(|w| 0.9 * w).collect();
        let other = outputs(&x, n, &other);
        let mine = outputs(&x, n, &weight.values);
        let change: Vec<f32> = other.iter().zip(&mine).map(|(a, b)| a - b).collect();
        let c = product(View::new(&change, out).transposed(), View::new(&x, n));
        let inputs = Inputs::new(&gram, n, 1e-4).unwrap();
        let with = error(&outputs(&x, n, &inputs.round(&weight, scales.clone(), Some(&c)).values()), &other);
        let without = error(&outputs(&x, n, &inputs.round(&weight, scales, None).values()), &other);
        assert!(with < 0.02 * without, "{with} {without}");
    }

    #[test]
    fn inputs_that_are_always_zero_do_no_harm() {
        let mut gram = vec![0.0; 9];
        gram[0] = 2.0;
        let inputs = Inputs::new(&gram, 3, 0.01).unwrap();
        let weight = Matrix { rows: 1, cols: 3, values: vec![0.5, -1.0, 0.25] };
        let rounded = inputs.round(&weight, vec![0.01], None);
        assert_eq!(rounded.codes, [50, -100, 25]);
        assert!(Inputs::new(&[f32::NAN], 1, 0.01).is_err());
    }
}
