//! A plain f32 evaluator of the intermediate representation: what `recognise` understood, run without tract.
//!
//! [`check`] compares it with tract's run of the graph itself, so that a graph which is almost a CLIP text encoder is
//! not compiled into one.

use anyhow::{Result, ensure};

use crate::ir::{Activation, Layer, LayerNorm, Linear, Matrix, Outputs, Pooled, TextModel};
use crate::tract::run::F32Run;

/// What a model computes from one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// `[tokens, width]`.
    pub hidden: Matrix,
    /// `width` or `projected` values, if the model pools.
    pub pooled: Option<Vec<f32>>,
}

/// The hidden states after each layer: `[0]` is the embedded prompt. No final norm.
///
/// Attention being causal, a prompt shorter than the context gives the first rows of the longer one's states.
pub fn hidden_states(model: &TextModel, ids: &[u32]) -> Vec<Matrix> {
    let width = model.width();
    let mut x = Matrix { rows: ids.len(), cols: width, values: vec![] };
    for (row, &id) in ids.iter().enumerate() {
        let token = model.token_embedding.row(id as usize);
        x.values.extend(token.iter().zip(model.position_embedding.row(row)).map(|(t, p)| t + p));
    }
    let mut states = vec![x.clone()];
    for layer in &model.layers {
        let attended = attend(layer, &normed(&layer.norm1, &x), model.heads);
        add(&mut x, &linear(&layer.out, &attended));
        let mut inner = linear(&layer.fc1, &normed(&layer.norm2, &x));
        inner.values.iter_mut().for_each(|v| *v = activate(layer.activation, *v));
        add(&mut x, &linear(&layer.fc2, &inner));
        states.push(x.clone());
    }
    states
}

/// Encodes a prompt of at most the context's length; ids must be below the vocabulary's size.
pub fn encode(model: &TextModel, outputs: &Outputs, ids: &[u32]) -> Encoded {
    let states = hidden_states(model, ids);
    let hidden = states[outputs.hidden_layer].clone();
    let hidden = if outputs.hidden_norm { normed(&model.final_norm, &hidden) } else { hidden };
    let pooled = match outputs.pooled {
        Pooled::None => None,
        Pooled::EndToken => Some(None),
        Pooled::Projected => Some(model.projection.as_ref()),
    };
    let pooled = pooled.map(|projection| {
        let end = ids.iter().position(|&id| id == outputs.end_token).unwrap_or(0);
        let last = normed(&model.final_norm, &states[states.len() - 1]);
        let row = last.row(end);
        let mut row = projection.map_or(row.to_vec(), |p| (0..p.rows).map(|r| dot(p.row(r), row)).collect());
        if outputs.normalized {
            let length = dot(&row, &row).sqrt();
            row.iter_mut().for_each(|v| *v /= length);
        }
        row
    });
    Encoded { hidden, pooled }
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

/// A dot product in sixteen partial sums, which the compiler can keep in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn linear(linear: &Linear, x: &Matrix) -> Matrix {
    let outputs = linear.weight.rows;
    let mut y = Matrix { rows: x.rows, cols: outputs, values: vec![0.0; x.rows * outputs] };
    for out in 0..outputs {
        let weight = linear.weight.row(out);
        for row in 0..x.rows {
            y.values[row * outputs + out] = dot(weight, x.row(row)) + linear.bias[out];
        }
    }
    y
}

fn attend(layer: &Layer, x: &Matrix, heads: usize) -> Matrix {
    let (query, key, value) = (linear(&layer.query, x), linear(&layer.key, x), linear(&layer.value, x));
    let size = query.cols / heads;
    let mut mixed = Matrix { rows: x.rows, cols: query.cols, values: vec![0.0; x.rows * query.cols] };
    for head in 0..heads {
        let channels = head * size..(head + 1) * size;
        for token in 0..x.rows {
            let asked = &query.row(token)[channels.clone()];
            let scores =
                (0..=token).map(|key_token| layer.scale * dot(asked, &key.row(key_token)[channels.clone()]));
            let mut weights: Vec<f32> = scores.collect();
            let highest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.iter_mut().for_each(|w| *w = (*w - highest).exp());
            let total: f32 = weights.iter().sum();
            let out = &mut mixed.values[token * query.cols..][channels.clone()];
            for (other, weight) in weights.iter().enumerate() {
                let row = &value.row(other)[channels.clone()];
                out.iter_mut().zip(row).for_each(|(o, v)| *o += weight / total * v);
            }
        }
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

/// `erf` by its Maclaurin series, to about 1e-7; 1 beyond 5, where it is within 2e-12.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// Largest difference over the largest value of the second.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    // NaN must not pass, so not f32::max.
    let worst = |m: f32, (a, b): (&f32, &f32)| if (a - b).abs() <= m { m } else { (a - b).abs() };
    found.iter().zip(expected).fold(0.0, worst) / largest
}

/// Most that the recognised model may differ from tract's run of the graph, relative to the largest value.
pub const TOLERANCE: f32 = 1e-4;

/// Tokens that [`check`] computes: few, since attention is causal and the rows after them say nothing new.
const CHECKED: usize = 8;

/// Runs the recognised model and the graph on a short prompt of arbitrary tokens and compares.
///
/// # Errors
/// When they differ by more than [`TOLERANCE`], or when tract cannot run the graph.
pub fn check(model: &TextModel, outputs: &Outputs, run: &F32Run) -> Result<()> {
    let vocabulary = model.token_embedding.rows as u32;
    let context = model.context();
    let end = outputs.end_token.min(vocabulary - 1);
    // Spread over the ids below the end token's; the end token stands last of those computed.
    let arbitrary = |place: usize| (place as u32 + 1).wrapping_mul(2_654_435_761) % end.max(1);
    let checked = CHECKED.min(context);
    let ids: Vec<u32> =
        (0..context).map(|place| if place + 1 >= checked { end } else { arbitrary(place) }).collect();
    let expected = run.encode(&ids)?;
    let found = encode(model, outputs, &ids[..checked]);
    if let Some(hidden) = &expected.hidden {
        let error = relative_error(&found.hidden.values, &hidden.values[..checked * hidden.cols]);
        ensure!(
            error <= TOLERANCE,
            "what was recognised in this graph computes other hidden states than the graph itself ({error:.1e} of the \
             largest value, {TOLERANCE:.0e} allowed): it is not quite a CLIP text encoder"
        );
    }
    if let Some(pooled) = &expected.pooled {
        let error = relative_error(found.pooled.as_deref().unwrap_or_default(), pooled);
        ensure!(
            error <= TOLERANCE,
            "what was recognised in this graph computes another pooled output than the graph itself ({error:.1e} of \
             the largest value, {TOLERANCE:.0e} allowed): it is not quite a CLIP text encoder"
        );
    }
    Ok(())
}
