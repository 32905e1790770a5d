//! Rounding with GPTQ's error compensation: each weight's rounding error is compensated by those still to be rounded.
//!
//! Of all codes, those are wanted that keep what the layer computes: with inputs `X` (as the runtime will see them,
//! quantized) and the steps given, `|X·Vᵀ − X·Wᵀ|² + λ|V − W|²` is to be small. With `H = XᵀX + λI = L·Lᵀ` that is
//! `|(V − W)·L|²`. `L` being triangular, its columns can be made small one after the other from the last, each by the choice
//! of one code: Babai's nearest plane, which is what GPTQ computes (Frantar et al., "GPTQ", 2022; Chen et al., "The geometry
//! of LLM quantization", 2025), and takes only the factor, no inverse.

use crate::arithmetic::cholesky::{self, NotPositive};
use crate::arithmetic::gemm::{Part, View, add_product};
use crate::arithmetic::parallel;
use crate::arithmetic::vectors::vectorized;
use crate::ir::{Matrix, QuantizedMatrix};

use super::rows::{code, multiple, row_scale};

/// Inputs that are rounded before the others are told.
const BLOCK: usize = 128;

/// λ as a part of the mean diagonal of `XᵀX`: 0.01 to 0.1 measure alike.
const DAMPING: f32 = 0.01;

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
    /// From `XᵀX`, `[count, count]`.
    ///
    /// # Errors
    /// [`NotPositive`] where `gram` has values that are not finite.
    pub fn new(gram: &[f32], count: usize) -> Result<Self, NotPositive> {
        let diagonal: Vec<f32> = (0..count).map(|i| gram[i * count + i]).collect();
        let mean = diagonal.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| diagonal[a].total_cmp(&diagonal[b]));
        let mut damping = DAMPING;
        // Once in a while f32 is too coarse: more damping is always enough.
        for _ in 0..6 {
            // Inputs that are always zero must not make the matrix singular.
            let lambda = (f64::from(damping) * mean) as f32 + f32::MIN_POSITIVE;
            let mut factor = vec![0.0; count * count];
            parallel::each(factor.chunks_exact_mut(count).zip(&order).enumerate(), |(row, (factor, &i))| {
                let gram = &gram[i * count..][..count];
                factor.iter_mut().zip(&order).take(row + 1).for_each(|(x, &j)| *x = gram[j]);
                factor[row] += lambda;
            });
            if cholesky::factor(&mut factor, count).is_ok() {
                return Ok(Self { count, order, factor });
            }
            damping *= 10.0;
        }
        Err(NotPositive)
    }

    /// The codes of `weight` (`[outputs, count]`). Each row's scale is its largest magnitude's times that one of `clips` which
    /// leaves the least error: what a smaller scale clips is compensated, too.
    pub fn round(&self, weight: &Matrix, clips: &[f32]) -> QuantizedMatrix {
        let n = self.count;
        let full: Vec<f32> = weight.values.chunks_exact(n).map(row_scale).collect();
        let mut ordered = vec![0.0; weight.values.len()];
        let rows = ordered.chunks_mut(LANES * n).zip(weight.values.chunks(LANES * n));
        parallel::each(rows, |(ordered, values)| {
            for (ordered, values) in ordered.chunks_exact_mut(n).zip(values.chunks_exact(n)) {
                ordered.iter_mut().zip(&self.order).for_each(|(x, &i)| *x = values[i]);
            }
        });
        let mut tried = clips.iter().map(|&clip| {
            let scales: Vec<f32> = full.iter().map(|scale| scale * clip).collect();
            let (values, left) = self.round_to(ordered.clone(), &scales);
            (values, scales, left)
        });
        let first = tried.next().unwrap_or_else(|| {
            let (values, left) = self.round_to(ordered.clone(), &full);
            (values, full.clone(), left)
        });
        let (mut best, mut scales, mut least) = first;
        for (values, others, errors) in tried {
            for (row, (least, error)) in least.iter_mut().zip(errors).enumerate() {
                if error < *least {
                    let place = row * n..(row + 1) * n;
                    best[place.clone()].copy_from_slice(&values[place]);
                    scales[row] = others[row];
                    *least = error;
                }
            }
        }
        let mut codes = vec![0i8; best.len()];
        let rows = codes.chunks_mut(n).zip(best.chunks(n)).zip(&scales);
        parallel::each(rows, |((codes, values), &scale)| {
            for (&place, &value) in self.order.iter().zip(values) {
                codes[place] = code(value, scale);
            }
        });
        QuantizedMatrix { rows: weight.rows, cols: n, codes, scales }
    }

    /// Rows of `values` (`[outputs, count]`, the inputs in `order`) as multiples of `scales`, and each row's `|(V − W)·L|²`.
    fn round_to(&self, mut values: Vec<f32>, scales: &[f32]) -> (Vec<f32>, Vec<f64>) {
        let (n, outputs) = (self.count, scales.len());
        // `(V − W)·L` of the columns to come, as far as it is settled: each choice has to make up for it.
        let mut owed = vec![0.0; outputs * n];
        let mut left = vec![0.0; outputs];
        for start in (0..n).step_by(BLOCK).rev() {
            let end = n.min(start + BLOCK);
            let factor = Factor { values: &self.factor, count: n, start, end };
            let rows = values.chunks_mut(LANES * n).zip(owed.chunks_mut(LANES * n));
            let rows = rows.zip(scales.chunks(LANES)).zip(left.chunks_mut(LANES));
            parallel::each(rows, |(((values, owed), scales), left)| {
                let mut block = Block::load(values, owed, scales, &factor);
                round_block(&mut block, &factor);
                block.store(values, owed, left, &factor);
            });
            // The block holds its errors now: the inputs before it are to make up for them.
            let errors = View::strided(&owed[start..], outputs, end - start, n).to_vec();
            let factor = View::strided(&self.factor[start * n..], end - start, start, n);
            add_product(&mut owed, n, View::new(&errors, end - start), factor, 1.0, Part::Whole);
        }
        (values, left)
    }
}

/// Columns `start..end` of the factor, and its rows of the same numbers.
struct Factor<'f> {
    values: &'f [f32],
    count: usize,
    start: usize,
    end: usize,
}

impl Factor<'_> {
    /// Row `k` of the block, counted from its first, up to the diagonal.
    fn row(&self, k: usize) -> &[f32] {
        &self.values[(self.start + k) * self.count + self.start..][..=k]
    }

    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Outputs that are rounded side by side: each is a chain of divisions, of which the machine works on many at once.
const LANES: usize = 16;

/// A block of inputs of [`LANES`] outputs, an input's values side by side.
struct Block {
    values: [[f32; LANES]; BLOCK],
    owed: [[f32; LANES]; BLOCK],
    scales: [f32; LANES],
    left: [f64; LANES],
}

impl Block {
    fn load(values: &[f32], owed: &[f32], scales: &[f32], factor: &Factor<'_>) -> Self {
        let mut block = Self {
            values: [[0.0; LANES]; BLOCK],
            owed: [[0.0; LANES]; BLOCK],
            scales: [0.0; LANES],
            left: [0.0; LANES],
        };
        block.scales[..scales.len()].copy_from_slice(scales);
        let rows = values.chunks_exact(factor.count).zip(owed.chunks_exact(factor.count));
        for (lane, (values, owed)) in rows.enumerate() {
            let place = factor.start..factor.end;
            block.values.iter_mut().zip(&values[place.clone()]).for_each(|(to, from)| to[lane] = *from);
            block.owed.iter_mut().zip(&owed[place]).for_each(|(to, from)| to[lane] = *from);
        }
        block
    }

    fn store(&self, values: &mut [f32], owed: &mut [f32], left: &mut [f64], factor: &Factor<'_>) {
        let rows = values.chunks_exact_mut(factor.count).zip(owed.chunks_exact_mut(factor.count));
        for (lane, ((values, owed), left)) in rows.zip(left).enumerate() {
            let place = factor.start..factor.end;
            values[place.clone()].iter_mut().zip(&self.values).for_each(|(to, from)| *to = from[lane]);
            owed[place].iter_mut().zip(&self.owed).for_each(|(to, from)| *to = from[lane]);
            *left += self.left[lane];
        }
    }

    /// Rounds the inputs, the last one first: values become multiples of the scales, what is owed their errors. `left` grows by
    /// what is left of the block's columns, squared.
    #[inline(always)]
    fn round(&mut self, factor: &Factor<'_>) {
        for k in (0..factor.len()).rev() {
            let row = factor.row(k);
            let mut errors = [0.0; LANES];
            let (before, here) = self.owed.split_at_mut(k);
            let (values, owed) = (&mut self.values[k], &mut here[0]);
            for lane in 0..LANES {
                let target = values[lane] + owed[lane] / row[k];
                let rounded = multiple(target, self.scales[lane]);
                let column = f64::from((target - rounded) * row[k]);
                self.left[lane] += column * column;
                errors[lane] = values[lane] - rounded;
                values[lane] = rounded;
            }
            for (owed, factor) in before.iter_mut().zip(row) {
                for lane in 0..LANES {
                    owed[lane] += errors[lane] * factor;
                }
            }
            *owed = errors;
        }
    }
}

vectorized! {
    /// [`Block::round`] with the machine's vectors.
    fn round_block(block: &mut Block, factor: &Factor<'_>) {
        block.round(factor);
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

    /// `weight` rounded to multiples of `scales`, and what is left of each row.
    fn rounded_to(inputs: &Inputs, weight: &Matrix, scales: &[f32]) -> (Vec<f32>, Vec<f64>) {
        let rows = weight.values.chunks_exact(inputs.count);
        let ordered = rows.flat_map(|row| inputs.order.iter().map(|&i| row[i])).collect();
        let (rounded, left) = inputs.round_to(ordered, scales);
        let mut values = vec![0.0; rounded.len()];
        for (values, rounded) in values.chunks_exact_mut(inputs.count).zip(rounded.chunks_exact(inputs.count))
        {
            inputs.order.iter().zip(rounded).for_each(|(&i, &value)| values[i] = value);
        }
        (values, left)
    }

    fn error(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    #[test]
    fn errors_are_made_up_for() {
        for n in [20, 50, 300] {
            let (x, weight, scales) = example(4 * n, n, 10);
            let mut gram = vec![0.0; n * n];
            add_gram(&mut gram, &x, n);
            let wanted = outputs(&x, n, &weight.values);
            let inputs = Inputs::new(&gram, n).unwrap();
            let (rounded, _) = rounded_to(&inputs, &weight, &scales);
            let nearest = with_scales(&weight, scales);
            let ours = error(&outputs(&x, n, &rounded), &wanted);
            let theirs = error(&outputs(&x, n, &nearest.to_f32().values), &wanted);
            assert!(ours < 0.5 * theirs, "{n}: {ours} {theirs}");
        }
    }

    #[test]
    fn what_is_left_is_told_and_the_least_is_taken() {
        let (n, out) = (200, 8);
        let (x, mut weight, _) = example(1000, n, out);
        // A large weight each, which is not to be clipped.
        weight.values.iter_mut().step_by(n).for_each(|w| *w = 3.0);
        let mut gram = vec![0.0; n * n];
        add_gram(&mut gram, &x, n);
        let inputs = Inputs::new(&gram, n).unwrap();
        let scales: Vec<f32> = weight.values.chunks_exact(n).map(row_scale).collect();
        let (rounded, left) = rounded_to(&inputs, &weight, &scales);
        let wanted = outputs(&x, n, &weight.values);
        let whole = error(&outputs(&x, n, &rounded), &wanted);
        let lambda = f64::from(DAMPING) * (0..n).map(|i| f64::from(gram[i * n + i])).sum::<f64>() / n as f64;
        let told = whole + lambda * error(&rounded, &weight.values);
        assert!((left.iter().sum::<f64>() / told - 1.0).abs() < 1e-3, "{left:?} {told}");
        // Of several scales the one that leaves least is taken, in whatever order they come.
        let full = inputs.round(&weight, &[1.0]);
        assert_eq!(full.to_f32().values, rounded);
        assert_eq!(inputs.round(&weight, &[0.3, 1.0, 0.2]), full);
    }

    #[test]
    fn inputs_that_are_always_zero_do_no_harm() {
        let mut gram = vec![0.0; 9];
        gram[0] = 2.0;
        let inputs = Inputs::new(&gram, 3).unwrap();
        let weight = Matrix { rows: 1, cols: 3, values: vec![0.5, -1.27, 0.25] };
        let rounded = inputs.round(&weight, &[1.0]);
        assert_eq!(rounded.codes, [50, -127, 25]);
        assert!(Inputs::new(&[f32::NAN], 1).is_err());
    }
}
