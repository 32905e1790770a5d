//! One transformer layer.

use crate::arithmetic::{exact_sum, inverse_sqrt};
use crate::maker::{LayerNorm, Maker, Scales};
use crate::tensor::PREFIX;

/// Which layer it is.
struct LayerPosition {
    index: usize,
    /// 0 for the first layer, 1 for the last.
    depth: f64,
    /// What the names of its tensors start with.
    prefix: String,
}

/// A linear layer: weights `[outputs, inputs]` and a bias for each output.
struct Linear {
    name: String,
    weights: Vec<f64>,
    bias: Vec<f64>,
}

impl Linear {
    fn new(
        maker: &Maker,
        name: String,
        shape: [usize; 2],
        scales: Scales,
        bias_std: f64,
        bias_mean: f64,
    ) -> Self {
        let weights = maker.matrix(&format!("{name}.weight"), shape, scales).values();
        let bias = maker.vector(&format!("{name}.bias"), shape[0], bias_std, bias_mean);
        Self { name, weights, bias }
    }

    fn store(self, maker: &mut Maker) {
        let outputs = self.bias.len();
        let inputs = self.weights.len() / outputs;
        maker.store(format!("{}.weight", self.name), vec![outputs, inputs], &self.weights);
        maker.store(format!("{}.bias", self.name), vec![outputs], &self.bias);
    }
}

/// Adds layer `index`. `start` is the direction in which the start token stands out.
pub(crate) fn add_layer(maker: &mut Maker, index: usize, start: &[f64]) {
    let depth = index as f64 / last(maker);
    let position = LayerPosition { index, depth, prefix: format!("{PREFIX}encoder.layers.{index}.") };
    // The massive channels have small gains; one layer in four leaves them larger.
    let massive_gain = if index % 4 == 2 { 0.30 } else { 0.06 };

    let base = 0.45 + 0.55 * depth;
    let name = format!("{}layer_norm1", position.prefix);
    let norm =
        maker.layer_norm(&name, &LayerNorm { base, sigma: 0.30, bias_std: 0.06, tiny: 0.01, massive_gain });
    maker.store_affine(&name, &norm);
    add_attention(maker, &position, base, &norm.gain);

    let base = 0.60 + 0.60 * depth;
    let name = format!("{}layer_norm2", position.prefix);
    let norm =
        maker.layer_norm(&name, &LayerNorm { base, sigma: 0.25, bias_std: 0.06, tiny: 0.01, massive_gain });
    maker.store_affine(&name, &norm);
    add_mlp(maker, &position, base, &norm.gain, start);
}

/// The last layer's index, or 1 for a tower of one layer: what depths are counted in.
fn last(maker: &Maker) -> f64 {
    (maker.options.layers - 1).max(1) as f64
}

/// Adds the attention: queries and keys of standard deviation about 1 whatever the layer norm's gain.
fn add_attention(maker: &mut Maker, position: &LayerPosition, norm_base: f64, norm_gain: &[f64]) {
    let &LayerPosition { index, depth, ref prefix } = position;
    let width = maker.options.width;
    let unit = inverse_sqrt(width);
    let std = unit / norm_base;
    let linear = |part: &str, std: f64, rows: f64, bias_std: f64| {
        let scales = Scales { std, rows, columns: 0.20 };
        Linear::new(maker, format!("{prefix}self_attn.{part}"), [width, width], scales, bias_std, 0.0)
    };
    let mut queries = linear("q_proj", std, 0.35, 0.3);
    let mut keys = linear("k_proj", std, 0.35, 0.01);
    let values = linear("v_proj", 0.5 * std, 0.30, 0.03);
    let out_std = unit * if index == 0 { 0.10 } else { 0.6 + 0.9 * depth };
    let mut out = linear("out_proj", out_std, 0.30, 0.04);
    if index == 0 {
        out.bias.iter_mut().for_each(|b| *b *= 0.2);
    }
    make_sink(maker, position, norm_gain, &mut queries, &mut keys);
    for linear in [queries, keys, values, out] {
        linear.store(maker);
    }
}

/// Lets the heads rest on the start token: a large key there, where a massive channel is huge, met by the query bias.
fn make_sink(
    maker: &Maker,
    position: &LayerPosition,
    norm_gain: &[f64],
    queries: &mut Linear,
    keys: &mut Linear,
) {
    let (width, heads) = (maker.options.width, maker.options.heads);
    let head_width = width / heads;
    let channel = maker.outliers.positive;
    let at_start = (width as f64 / 2.0).sqrt() * norm_gain[channel];
    let wanted: Vec<f64> = maker.stream(&format!("{}sink", position.prefix)).normals().take(heads).collect();
    for (head, wanted) in wanted.into_iter().enumerate() {
        let logit = 2.5 + 1.5 * wanted;
        let stream = maker.stream(&format!("{}sink.{head}", position.prefix));
        let mut direction: Vec<f64> = stream.normals().take(head_width).collect();
        let length = exact_sum(direction.iter().map(|x| x * x)).sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
        let size = (logit.abs() * (head_width as f64).sqrt()).sqrt();
        let key_size = size.copysign(logit) / at_start;
        for (output, u) in (head * head_width..).zip(direction) {
            queries.bias[output] += size * u;
            if position.index > 0 {
                keys.weights[output * width + channel] += key_size * u;
            }
        }
    }
}

/// Adds the MLP; the first layer's writes the massive channels.
fn add_mlp(maker: &mut Maker, position: &LayerPosition, norm_base: f64, norm_gain: &[f64], start: &[f64]) {
    let &LayerPosition { index, depth, ref prefix } = position;
    let (width, mlp, layers) = (maker.options.width, maker.options.mlp, maker.options.layers);
    let std = inverse_sqrt(2 * width) / norm_base * 1.3;
    let scales = Scales { std, rows: 0.35, columns: 0.20 };
    let mut up = Linear::new(maker, format!("{prefix}mlp.fc1"), [mlp, width], scales, 0.35, -0.55);
    let shape_factor = (3072.0 / mlp as f64 * width as f64 / 768.0).sqrt();
    let std = inverse_sqrt(width) * inverse_sqrt(2 * 12) * (1.2 + 1.3 * depth) * shape_factor;
    let scales = Scales { std, rows: 0.35, columns: 0.30 };
    let mut down = Linear::new(maker, format!("{prefix}mlp.fc2"), [width, mlp], scales, 0.04, 0.0);

    if index == 0 {
        make_massive(maker, position, norm_gain, start, &mut up, &mut down);
    } else {
        // The massive channels drift slowly.
        down.bias[maker.outliers.negative] -= 4.0 / last(maker);
        down.bias[maker.outliers.positive] += 4.6 / last(maker);
    }
    // The constant channels reach their value in the first three layers.
    let early = layers.min(3);
    if index < early {
        for &(channel, amplitude) in &maker.outliers.offsets {
            down.bias[channel] += amplitude / early as f64;
        }
    }
    up.store(maker);
    down.store(maker);
}

/// Turns a few neurons into detectors of the start token that write the massive channels.
fn make_massive(
    maker: &Maker,
    position: &LayerPosition,
    norm_gain: &[f64],
    start: &[f64],
    up: &mut Linear,
    down: &mut Linear,
) {
    let (width, mlp, massive) = (maker.options.width, maker.options.mlp, maker.options.massive);
    let count = (mlp / 256).max(2);
    let mut uniforms = maker.stream(&format!("{}massive", position.prefix)).uniforms();
    let activations: Vec<f64> = uniforms.by_ref().take(count).map(|u| 10.0 + 4.0 * u).collect();
    let mut shares: Vec<f64> = uniforms.take(count).map(|u| 0.5 + u).collect();
    let total = exact_sum(shares.iter().copied());
    shares.iter_mut().for_each(|share| *share /= total);
    // The norm's output at the start token is about sqrt(width) * gain * start * cosine; that cosine is about 0.8.
    let overlap = exact_sum(start.iter().zip(norm_gain).map(|(x, g)| x * x * g));
    let gain = (width as f64).sqrt() * 0.8 * overlap;
    let noise = maker.stream(&format!("{}massive.noise", position.prefix));
    for (k, (activation, share)) in activations.into_iter().zip(shares).enumerate() {
        let neuron = (k * (mlp / count) + 7 * mlp / 3072) % mlp;
        let slope = (activation + 2.0) / gain;
        let weights = &mut up.weights[neuron * width..][..width];
        for ((weight, x), noise) in weights.iter_mut().zip(start).zip(noise.normals_from(k * width)) {
            *weight = slope * x + 0.005 * noise;
        }
        up.bias[neuron] = -2.0;
        down.weights[maker.outliers.negative * mlp + neuron] = -massive * 0.92 * share / activation;
        down.weights[maker.outliers.positive * mlp + neuron] = massive * share / activation;
    }
}
