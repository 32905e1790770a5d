//! An independent f32 evaluator of the intermediate representation: the model's formulas, prompt by prompt.
//!
//! On purpose it shares no step with the other two forward passes, tract's run of a graph and the calibration's of
//! `quantize`: what they compute is held against it. Only products of matrices are `arithmetic`'s, whose order of additions
//! is tested by itself.

use crate::arithmetic::extremes::{larger, largest_magnitude};
use crate::arithmetic::functions::erf;
use crate::arithmetic::gemm::{View, product};
use crate::ir::{Activation, Layer, LayerNorm, Linear, Matrix, Outputs, Pooled, TextModel};

/// What a model computes from one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// `[tokens, width]`.
    pub hidden: Matrix,
    /// `width` or `projected` values, if the model pools.
    pub pooled: Option<Vec<f32>>,
}

/// Encodes a prompt of at most the context's length; ids must be below the vocabulary's size.
///
/// Attention being causal, a prompt shorter than the context gives the first rows of the longer one's states.
pub fn encode(model: &TextModel, outputs: &Outputs, ids: &[u32]) -> Encoded {
    let mut encoded = encode_all(model, outputs, &[ids.to_vec()]);
    encoded.remove(0)
}

/// Encodes several prompts, each as [`encode`] does. Side by side they take less time, since every weight is read once.
pub fn encode_all(model: &TextModel, outputs: &Outputs, prompts: &[Vec<u32>]) -> Vec<Encoded> {
    let width = model.width();
    let mut x = Matrix { rows: 0, cols: width, values: vec![] };
    for (position, &id) in prompts.iter().flat_map(|ids| ids.iter().enumerate()) {
        let token = model.token_embedding.row(id as usize);
        x.values.extend(token.iter().zip(model.position_embedding.row(position)).map(|(t, p)| t + p));
        x.rows += 1;
    }
    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let mut hidden = x.clone();
    for (index, layer) in model.layers.iter().enumerate().take(outputs.layers(model.layers.len())) {
        let attended = attend(layer, &normed(&layer.norm1, &x), model.heads, &lengths);
        add(&mut x, &linear(&layer.out, &attended));
        let mut inner = linear(&layer.fc1, &normed(&layer.norm2, &x));
        inner.values.iter_mut().for_each(|v| *v = activate(layer.activation, *v));
        add(&mut x, &linear(&layer.fc2, &inner));
        if index + 1 == outputs.hidden_layer {
            hidden = x.clone();
        }
    }
    if outputs.hidden_norm {
        hidden = normed(&model.final_norm, &hidden);
    }
    let last = normed(&model.final_norm, &x);
    let starts = lengths.iter().scan(0, |next, length| {
        let start = *next;
        *next += length;
        Some(start)
    });
    let one = |(ids, start): (&Vec<u32>, usize)| {
        let rows = start * width..(start + ids.len()) * width;
        let end = ids.iter().position(|&id| id == outputs.end_token).unwrap_or(0);
        Encoded {
            hidden: Matrix { rows: ids.len(), cols: width, values: hidden.values[rows].to_vec() },
            pooled: pooled(model, outputs, last.row(start + end)),
        }
    };
    prompts.iter().zip(starts).map(one).collect()
}

/// The pooled output, made of the end token's row behind the final norm.
fn pooled(model: &TextModel, outputs: &Outputs, row: &[f32]) -> Option<Vec<f32>> {
    let mut row = match (outputs.pooled, &model.projection) {
        (Pooled::None, _) => return None,
        (Pooled::Projected, Some(matrix)) => product(View::new(row, matrix.cols), transposed(matrix)),
        _ => row.to_vec(),
    };
    if outputs.normalized {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        // A row of zeros has no direction and stays as it is.
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v /= length);
        }
    }
    Some(row)
}

fn transposed(matrix: &Matrix) -> View<'_> {
    View::new(&matrix.values, matrix.cols).transposed()
}

fn add(x: &mut Matrix, y: &Matrix) {
    x.values.iter_mut().zip(&y.values).for_each(|(x, y)| *x += y);
}

fn normed(norm: &LayerNorm, x: &Matrix) -> Matrix {
    let mut y = x.clone();
    for row in y.values.chunks_mut(x.cols) {
        let n = row.len() as f32;
        let mean = row.iter().sum::<f32>() / n;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
        let deviation = (variance + norm.epsilon).sqrt();
        for (v, (gain, bias)) in row.iter_mut().zip(norm.gain.iter().zip(&norm.bias)) {
            *v = (*v - mean) / deviation * gain + bias;
        }
    }
    y
}

fn linear(linear: &Linear, x: &Matrix) -> Matrix {
    let outputs = linear.weight.rows();
    let weight = linear.weight.to_f32();
    let mut values = product(View::new(&x.values, x.cols), transposed(&weight));
    for row in values.chunks_exact_mut(outputs) {
        row.iter_mut().zip(&linear.bias).for_each(|(y, bias)| *y += bias);
    }
    Matrix { rows: x.rows, cols: outputs, values }
}

/// Causal attention in each prompt, of `lengths` rows.
fn attend(layer: &Layer, x: &Matrix, heads: usize, lengths: &[usize]) -> Matrix {
    let (query, key, value) = (linear(&layer.query, x), linear(&layer.key, x), linear(&layer.value, x));
    let size = query.cols / heads;
    let mut mixed = Matrix { rows: x.rows, cols: query.cols, values: vec![0.0; x.rows * query.cols] };
    let mut first = 0;
    for length in lengths {
        for (head, token) in
            (0..heads).flat_map(|head| (first..first + length).map(move |token| (head, token)))
        {
            let channels = head * size..(head + 1) * size;
            let asked = &query.row(token)[channels.clone()];
            let dot = |key: &[f32]| asked.iter().zip(key).map(|(q, k)| q * k).sum::<f32>();
            let scores = (first..=token).map(|other| layer.scale * dot(&key.row(other)[channels.clone()]));
            let mut weights: Vec<f32> = scores.collect();
            let highest = weights.iter().copied().fold(f32::NEG_INFINITY, larger);
            weights.iter_mut().for_each(|w| *w = (*w - highest).exp());
            let total: f32 = weights.iter().sum();
            let out = &mut mixed.values[token * query.cols..][channels.clone()];
            for (other, weight) in (first..).zip(&weights) {
                let row = &value.row(other)[channels.clone()];
                out.iter_mut().zip(row).for_each(|(o, v)| *o += weight / total * v);
            }
        }
        first += length;
    }
    mixed
}

fn activate(activation: Activation, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match activation {
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }
    };
    y as f32
}

/// Largest difference over the largest value of the second; infinite where the lengths differ or a value is no finite
/// number, so that neither a comparison nor `f32::max` loses it.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    let finite = found.iter().chain(expected).all(|value| value.is_finite());
    if found.len() != expected.len() || !finite {
        return f32::INFINITY;
    }
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, larger) / larger(largest_magnitude(expected), f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_number_is_infinitely_wrong_wherever_it_stands() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..3 {
                let (plain, mut broken) = ([1.0, -1.0, 0.5], [1.0, -1.0, 0.5]);
                broken[at] = value;
                for (found, expected) in [(broken, plain), (plain, broken), (broken, broken)] {
                    assert_eq!(relative_error(&found, &expected), f32::INFINITY, "{found:?} {expected:?}");
                }
            }
        }
        assert_eq!(relative_error(&[1.0], &[1.0, 1.0]), f32::INFINITY);
        assert_eq!(relative_error(&[1.0, 3.0], &[1.0, 4.0]), 0.25);
        assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        let matrix = |rows| Matrix { rows, cols: 2, values: vec![0.0; 2 * rows] };
        let model = TextModel {
            token_embedding: matrix(3),
            position_embedding: matrix(2),
            heads: 1,
            layers: vec![],
            final_norm: LayerNorm { gain: vec![1.0; 2], bias: vec![0.0; 2], epsilon: 1e-5 },
            projection: None,
        };
        let outputs = Outputs {
            hidden_layer: 0,
            hidden_norm: false,
            pooled: Pooled::EndToken,
            normalized: true,
            end_token: 2,
        };
        assert_eq!(encode(&model, &outputs, &[1, 2]).pooled, Some(vec![0.0; 2]));
    }
}
