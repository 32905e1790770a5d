//! The distributions that every tensor is made of.

use crate::arithmetic::{f32exp, heavy};
use crate::options::{Dtype, Options};
use crate::random::Stream;
use crate::tensor::Tensor;

/// Makes tensors by name and keeps the finished ones.
pub(crate) struct Maker<'a> {
    pub(crate) options: &'a Options,
    pub(crate) outliers: Outliers,
    tensors: Vec<Tensor>,
}

/// The channels that trained towers use for constants.
pub(crate) struct Outliers {
    /// Hugely negative at the start token; channel 133 of Stable Diffusion 1.5.
    pub(crate) negative: usize,
    /// Hugely positive at the start token; channel 725 of Stable Diffusion 1.5.
    pub(crate) positive: usize,
    /// Channels with a large constant at every position, and that constant.
    pub(crate) offsets: Vec<(usize, f64)>,
}

impl Outliers {
    fn new(options: &Options) -> Self {
        let width = options.width;
        let (negative, positive) = (133 * width / 768, 725 * width / 768);
        let count = ((width * 4) as f64 / 768.0).round_ties_even().max(1.0) as usize;
        let mut uniforms = Stream::new(options.seed, "offset_channels").uniforms();
        let mut channels = Vec::with_capacity(count);
        while channels.len() < count {
            let channel = (uniforms.by_ref().next().unwrap_or(0.0) * width as f64) as usize;
            if !channels.contains(&channel) && channel != negative && channel != positive {
                channels.push(channel);
            }
        }
        let amplitudes =
            uniforms.enumerate().map(|(k, u)| (4.0 + 10.0 * u) * if k % 2 == 1 { 1.0 } else { -1.0 });
        Self { negative, positive, offsets: channels.into_iter().zip(amplitudes).collect() }
    }
}

/// Standard deviations of a [`Matrix`].
pub(crate) struct Scales {
    /// Of the elements.
    pub(crate) std: f64,
    /// Of the logarithm of each row's scale.
    pub(crate) rows: f64,
    /// Of the logarithm of each column's scale.
    pub(crate) columns: f64,
}

/// Heavy-tailed elements with log-normal scales of rows and columns, computed where they are wanted.
pub(crate) struct Matrix {
    stream: Stream,
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Matrix {
    /// One row.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = f64> {
        let scale = self.rows[row];
        let normals = self.stream.normals_from(row * self.columns.len());
        self.columns.iter().zip(normals).map(move |(column, z)| heavy(z) * scale * column)
    }

    /// All elements, row by row.
    pub(crate) fn values(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.rows.len() * self.columns.len());
        for row in 0..self.rows.len() {
            values.extend(self.row(row));
        }
        values
    }
}

/// Statistics of a layer norm's parameters.
pub(crate) struct LayerNorm {
    /// The ordinary gain.
    pub(crate) base: f64,
    /// Standard deviation of the gain's logarithm.
    pub(crate) sigma: f64,
    /// Standard deviation of the bias.
    pub(crate) bias_std: f64,
    /// Share of channels whose gain is next to nothing.
    pub(crate) tiny: f64,
    /// Gain of the outlier channels, in ordinary gains.
    pub(crate) massive_gain: f64,
}

/// A layer norm's parameters.
pub(crate) struct Affine {
    pub(crate) gain: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self { options, outliers: Outliers::new(options), tensors: Vec::new() }
    }

    pub(crate) fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }

    pub(crate) fn stream(&self, name: &str) -> Stream {
        Stream::new(self.options.seed, name)
    }

    /// `n` values whose logarithm has standard deviation `sigma`.
    fn lognormal(&self, name: &str, n: usize, sigma: f64) -> Vec<f64> {
        self.stream(name).normals().take(n).map(|z| f32exp(z * sigma)).collect()
    }

    /// A matrix of `[rows, columns]`; the scales of rows and columns have unit mean square.
    pub(crate) fn matrix(&self, name: &str, [rows, columns]: [usize; 2], scales: Scales) -> Matrix {
        let mean_square = |sigma: f64| libm::exp(-sigma * sigma);
        let mut row_scales = self.lognormal(&format!("{name}#row"), rows, scales.rows);
        let row_factor = scales.std * mean_square(scales.rows);
        row_scales.iter_mut().for_each(|scale| *scale *= row_factor);
        let mut column_scales = self.lognormal(&format!("{name}#col"), columns, scales.columns);
        let column_factor = mean_square(scales.columns);
        column_scales.iter_mut().for_each(|scale| *scale *= column_factor);
        Matrix { stream: self.stream(name), rows: row_scales, columns: column_scales }
    }

    /// `n` heavy-tailed values.
    pub(crate) fn vector(&self, name: &str, n: usize, std: f64, mean: f64) -> Vec<f64> {
        self.stream(name).normals().take(n).map(|z| mean + std * heavy(z)).collect()
    }

    /// Gains log-normal around the base, some tiny, a few loud, those of the outlier channels set; heavy-tailed biases.
    pub(crate) fn layer_norm(&self, name: &str, statistics: &LayerNorm) -> Affine {
        let &LayerNorm { base, sigma, bias_std, tiny, massive_gain } = statistics;
        let width = self.options.width;
        let mut gain = self.lognormal(&format!("{name}.weight"), width, sigma);
        gain.iter_mut().for_each(|g| *g *= base);
        let mut redraw = |what: &str, share: f64, least: f64, range: f64| {
            let uniforms: Vec<f64> =
                self.stream(&format!("{name}.weight#{what}")).uniforms().take(2 * width).collect();
            for ((g, chosen), value) in gain.iter_mut().zip(&uniforms).zip(&uniforms[width..]) {
                if *chosen < share {
                    *g = base * (least + range * value);
                }
            }
        };
        redraw("tiny", tiny, 0.01, 0.04);
        redraw("spike", 0.005, 2.0, 2.5);

        let Outliers { negative, positive, offsets } = &self.outliers;
        let jitter = self.lognormal(&format!("{name}.weight#massive"), 2 + offsets.len(), 0.4);
        let channels = [*negative, *positive].into_iter().chain(offsets.iter().map(|offset| offset.0));
        for (channel, jitter) in channels.zip(jitter) {
            gain[channel] = base * massive_gain * jitter;
        }
        Affine { gain, bias: self.vector(&format!("{name}.bias"), width, bias_std, 0.0) }
    }

    /// Keeps a finished tensor.
    pub(crate) fn store(&mut self, name: String, shape: Vec<usize>, values: &[f64]) {
        let values = self.rounded(values.iter().copied());
        self.tensors.push(Tensor { name, shape, values });
    }

    /// Keeps a matrix that needs no changes, a row at a time: the token embedding is large.
    pub(crate) fn store_matrix(&mut self, name: String, matrix: &Matrix) {
        let (rows, columns) = (matrix.rows.len(), matrix.columns.len());
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            values.extend(self.rounded(matrix.row(row)));
        }
        self.tensors.push(Tensor { name, shape: vec![rows, columns], values });
    }

    /// Keeps the parameters of the layer norm `name`.
    pub(crate) fn store_affine(&mut self, name: &str, affine: &Affine) {
        self.store(format!("{name}.weight"), vec![affine.gain.len()], &affine.gain);
        self.store(format!("{name}.bias"), vec![affine.bias.len()], &affine.bias);
    }

    /// Values as they are stored: half precision goes through single, so that one file is the other's rounding.
    fn rounded(&self, values: impl Iterator<Item = f64>) -> Vec<f32> {
        match self.options.dtype {
            Dtype::F32 => values.map(|v| v as f32).collect(),
            Dtype::F16 => values.map(|v| half::f16::from_f32(v as f32).to_f32()).collect(),
        }
    }
}
