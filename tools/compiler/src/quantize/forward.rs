//! A tower in f32, linear by linear, for many prompts or images at once.
//!
//! A text's first position is the start token, whatever the prompt, and attention is causal: so all that the tower computes
//! there is the same for all prompts. It is worked out once, the other positions for each prompt.

use crate::arithmetic::extremes::larger;
use crate::arithmetic::functions::{exp, sum};
use crate::arithmetic::gemm::{Part, View, add_product};
use crate::arithmetic::parallel::{self, ROWS};
use crate::arithmetic::vectors::vectorized;
use crate::ir::{LayerNorm, Matrix, TextModel};

/// The layer norm of each row.
pub fn normed(norm: &LayerNorm, x: &Matrix) -> Matrix {
    let mut y = x.clone();
    parallel::each_row(&mut y.values, x.cols, |row| normalize(norm, row));
    y
}

vectorized! {
    /// One row of [`normed`].
    fn normalize(norm: &LayerNorm, row: &mut [f32]) {
        let n = row.len() as f32;
        let mean = sum(row, |x| x) / n;
        let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
        let inverse = 1.0 / (variance + norm.epsilon).sqrt();
        for (x, (gain, bias)) in row.iter_mut().zip(norm.gain.iter().zip(&norm.bias)) {
            *x = (*x - mean) * inverse * gain + bias;
        }
    }
}

/// `x · weightᵀ + bias`.
pub fn linear(weight: &Matrix, bias: &[f32], x: &Matrix) -> Matrix {
    let outputs = weight.rows;
    let mut values = Vec::with_capacity(x.rows * outputs);
    (0..x.rows).for_each(|_| values.extend_from_slice(bias));
    let weight = View::new(&weight.values, x.cols).transposed();
    add_product(&mut values, outputs, View::new(&x.values, x.cols), weight, 1.0, Part::Whole);
    Matrix { rows: x.rows, cols: outputs, values }
}

/// `x += y`.
pub fn add(x: &mut Matrix, y: &Matrix) {
    let rows = x.values.chunks_mut(ROWS * x.cols).zip(y.values.chunks(ROWS * x.cols));
    parallel::each(rows, |(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

/// Queries, keys and values of a layer.
pub struct Attended {
    /// `[rows, width]` each.
    pub query: Matrix,
    /// As `query`.
    pub key: Matrix,
    /// As `query`.
    pub value: Matrix,
}

/// Attention in each sequence of `tokens` rows. Of a prompt, whose rows stand behind the start token, `start` are that token's key and
/// value, and it is causal; an image has no start token, and each row sees all.
pub fn attention(
    heads: usize,
    scale: f32,
    qkv: &Attended,
    start: Option<(&[f32], &[f32])>,
    tokens: usize,
) -> Matrix {
    let width = qkv.query.cols;
    let mut out = Matrix { rows: qkv.query.rows, cols: width, values: vec![0.0; qkv.query.rows * width] };
    parallel::each(out.values.chunks_mut(tokens * width).enumerate(), |(prompt, out)| {
        let part = |matrix: &'_ Matrix| {
            let rows = prompt * tokens * width..(prompt + 1) * tokens * width;
            rows.start..rows.end.min(matrix.values.len())
        };
        let [query, key, value] =
            [&qkv.query, &qkv.key, &qkv.value].map(|matrix| &matrix.values[part(matrix)]);
        attend([query, key, value], (width, heads), scale, start, out);
    });
    out
}

vectorized! {
    /// One sequence of [`attention`].
    fn attend(
        qkv: [&[f32]; 3],
        sizes: (usize, usize),
        scale: f32,
        start: Option<(&[f32], &[f32])>,
        out: &mut [f32],
    ) {
        let [query, key, value] = qkv;
        let (width, heads) = sizes;
        let (size, tokens) = (width / heads, out.len() / width);
        let part = |row: usize, head: usize| row * width + head * size..row * width + (head + 1) * size;
        let before = usize::from(start.is_some());
        let keys = tokens + before;
        // Keys of a head, a row for each channel: all keys' scores are worked out side by side.
        let mut turned = vec![0.0; size * keys];
        let mut scores = vec![0.0; keys];
        for head in 0..heads {
            if let Some((start, _)) = start {
                for channel in 0..size {
                    turned[channel * keys] = start[head * size + channel];
                }
            }
            for row in 0..tokens {
                for (channel, &k) in key[part(row, head)].iter().enumerate() {
                    turned[channel * keys + row + before] = k;
                }
            }
            for row in 0..tokens {
                let seen = if start.is_some() { row + 2 } else { keys };
                scores[..seen].fill(0.0);
                for (channel, &q) in query[part(row, head)].iter().enumerate() {
                    for (score, k) in scores[..seen].iter_mut().zip(&turned[channel * keys..]) {
                        *score += q * k;
                    }
                }
                let highest = scores[..seen].iter().fold(f32::NEG_INFINITY, |m, &s| larger(m, s * scale));
                scores[..seen].iter_mut().for_each(|s| *s = exp(*s * scale - highest));
                let inverse = 1.0 / sum(&scores[..seen], |s| s);
                let place = &mut out[part(row, head)];
                place.fill(0.0);
                if let Some((_, start)) = start {
                    let start = &start[head * size..][..size];
                    place.iter_mut().zip(start).for_each(|(out, v)| *out = scores[0] * inverse * v);
                }
                for (other, score) in scores[before..seen].iter().enumerate() {
                    let weight = score * inverse;
                    let value = &value[part(other, head)];
                    place.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v);
                }
            }
        }
    }
}

/// The embedded tokens of `prompts` but the first of each, `context - 1` rows a prompt; and the first one's row.
pub fn embedded(model: &TextModel, prompts: &[Vec<u32>], token: impl Fn(usize, &mut [f32])) -> Matrix {
    let width = model.width();
    let rows: usize = prompts.iter().map(|ids| ids.len() - 1).sum();
    let mut x = Matrix { rows, cols: width, values: vec![0.0; rows * width] };
    let ids = prompts.iter().flat_map(|ids| ids.iter().enumerate().skip(1));
    for (row, (position, &id)) in x.values.chunks_exact_mut(width).zip(ids) {
        token(id as usize, row);
        let position = model.position_embedding.row(position);
        row.iter_mut().zip(position).for_each(|(x, p)| *x += p);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_the_weighted_mean_of_what_came_before() {
        // One head of one channel; two prompts of two tokens.
        let matrix = |values: [f32; 4]| Matrix { rows: 4, cols: 1, values: values.to_vec() };
        let qkv = Attended {
            query: matrix([1.0, 2.0, 0.0, -1.0]),
            key: matrix([0.5, -0.5, 1.0, 2.0]),
            value: matrix([10.0, 20.0, 30.0, 40.0]),
        };
        let out = attention(1, 0.5, &qkv, Some((&[1.5], &[5.0])), 2);
        let mean = |q: f64, seen: &[(f64, f64)]| {
            let weights: Vec<f64> = seen.iter().map(|(k, _)| (0.5 * q * k).exp()).collect();
            let total: f64 = weights.iter().sum();
            seen.iter().zip(weights).map(|((_, v), w)| v * w / total).sum::<f64>() as f32
        };
        let expected = [
            mean(1.0, &[(1.5, 5.0), (0.5, 10.0)]),
            mean(2.0, &[(1.5, 5.0), (0.5, 10.0), (-0.5, 20.0)]),
            mean(0.0, &[(1.5, 5.0), (1.0, 30.0)]),
            mean(-1.0, &[(1.5, 5.0), (1.0, 30.0), (2.0, 40.0)]),
        ];
        for (found, expected) in out.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        // Without a start token each sees all of its own.
        let out = attention(1, 0.5, &qkv, None, 2);
        let (first, second) = ([(0.5, 10.0), (-0.5, 20.0)], [(1.0, 30.0), (2.0, 40.0)]);
        let expected = [mean(1.0, &first), mean(2.0, &first), mean(0.0, &second), mean(-1.0, &second)];
        for (found, expected) in out.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}
