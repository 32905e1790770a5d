//! How far a plan's values are from the reference's, by layer, token position, prompt and channel.

use serde::Serialize;

use crate::verify::compare::{Comparison, Quality};
use crate::verify::decibels::Decibels;
use crate::verify::psnr::Psnr;

/// Sums over prompts for values of one shape, `[tokens, width]`.
#[derive(Clone, Debug)]
pub struct Sums {
    width: usize,
    prompts: usize,
    rows: Comparison,
    /// For each value of the shape over the prompts: the reference's sum and sum of squares, and the squared error.
    sum: Vec<f64>,
    square: Vec<f64>,
    error: Vec<f64>,
}

impl Sums {
    /// For rows of `width` values.
    pub fn new(width: usize) -> Self {
        Sums { width, prompts: 0, rows: Comparison::default(), sum: vec![], square: vec![], error: vec![] }
    }

    /// Adds a prompt: all rows of the reference, as many for every prompt; of ours those from row `first` on.
    pub fn add(&mut self, first: usize, ours: &[f32], reference: &[f32]) {
        let skipped = first * self.width;
        self.rows.add(ours, &reference[skipped..], self.width);
        self.prompts += 1;
        for sums in [&mut self.sum, &mut self.square, &mut self.error] {
            sums.resize(reference.len(), 0.0);
        }
        for (at, (&a, &b)) in ours.iter().zip(&reference[skipped..]).enumerate() {
            let at = skipped + at;
            let (a, b) = (f64::from(a), f64::from(b));
            self.sum[at] += b;
            self.square[at] += b * b;
            self.error[at] += (a - b) * (a - b);
        }
    }

    /// The figures of all rows; `None` before there are prompts.
    pub fn quality(&self) -> Option<Quality> {
        self.rows.quality()
    }

    /// SQNR of what differs from prompt to prompt, in dB: the signal less its mean over the prompts at each position, the
    /// start token's row left out, since it is the same for all. `None` for fewer than two prompts or rows.
    pub fn prompt_specific_db(&self) -> Option<Decibels> {
        let width = self.width;
        if self.prompts < 2 || self.sum.len() < 2 * width {
            return None;
        }
        let n = self.prompts as f64;
        let specific = |(sum, square): (&f64, &f64)| square - sum * sum / n;
        let signal: f64 = self.sum[width..].iter().zip(&self.square[width..]).map(specific).sum();
        Some(Decibels::of(signal, self.error[width..].iter().sum()))
    }

    /// SQNR of each token position, in dB.
    pub fn by_position(&self) -> Vec<Decibels> {
        let rows = self.square.chunks(self.width).zip(self.error.chunks(self.width));
        rows.map(|(square, error)| Decibels::of(square.iter().sum(), error.iter().sum())).collect()
    }

    /// Each channel's part of the whole squared error, the largest first.
    pub fn by_channel(&self) -> Vec<ChannelFigures> {
        let whole: f64 = self.error.iter().sum();
        let along =
            |values: &[f64], channel: usize| -> f64 { values.iter().skip(channel).step_by(self.width).sum() };
        let rows = (self.square.len() / self.width.max(1) * self.prompts).max(1) as f64;
        let figures = |channel: usize| ChannelFigures {
            channel,
            part_of_error: if whole == 0.0 { 0.0 } else { along(&self.error, channel) / whole },
            rms: (along(&self.square, channel) / rows).sqrt(),
            sqnr_db: Decibels::of(along(&self.square, channel), along(&self.error, channel)),
        };
        let mut all: Vec<ChannelFigures> = (0..self.width).map(figures).collect();
        // What is not a number first: `total_cmp` puts it before or behind all others by its sign.
        all.sort_by(|a, b| b.part_of_error.abs().total_cmp(&a.part_of_error.abs()));
        all
    }
}

/// A channel of the hidden states.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChannelFigures {
    /// Its number.
    pub channel: usize,
    /// Its part of the whole squared error, 0 to 1.
    pub part_of_error: f64,
    /// Root of the reference's mean square in it.
    pub rms: f64,
    /// SQNR in it alone, in dB.
    pub sqnr_db: Decibels,
}

/// The residual stream after a layer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LayerFigures {
    /// The tower's number.
    pub tower: usize,
    /// How many layers were computed; 0: the embedded prompt.
    pub layer: usize,
    /// SQNR of the rows but the first, which plans may know, in dB.
    pub sqnr_db: Decibels,
    /// SQNR of what differs between prompts, in dB.
    pub prompt_specific_db: Option<Decibels>,
    /// Mean cosine of these rows.
    pub cosine_mean: f64,
}

/// A prompt by itself.
#[derive(Clone, Debug, Serialize)]
pub struct PromptFigures {
    /// The prompt.
    pub prompt: String,
    /// How many tokens it has, start and end included.
    pub tokens: usize,
    /// SQNR of its hidden states, in dB.
    pub sqnr_db: Decibels,
    /// Least cosine among its rows.
    pub cosine_min: f64,
}

/// A text tower's columns of the outputs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TowerFigures {
    /// Of the hidden states, all rows of all prompts.
    pub hidden: Option<Quality>,
    /// Of the pooled output.
    pub pooled: Option<Quality>,
}

/// Everything that a verification finds.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Hidden states, all rows of all prompts.
    pub hidden: Quality,
    /// SQNR of what differs between prompts, in dB.
    pub prompt_specific_db: Option<Decibels>,
    /// PSNR of each prompt's hidden states.
    pub hidden_psnr: Psnr,
    /// Pooled outputs.
    pub pooled: Option<Quality>,
    /// PSNR of each prompt's pooled output.
    pub pooled_psnr: Option<Psnr>,
    /// Each tower's part of both.
    pub towers: Vec<TowerFigures>,
    /// The residual stream after each layer, where the references have it.
    pub layers: Vec<LayerFigures>,
    /// SQNR of the hidden states at each token position, in dB.
    pub positions: Vec<Decibels>,
    /// Each prompt, the worst first.
    pub prompts: Vec<PromptFigures>,
    /// The channels of the hidden states with the largest errors.
    pub channels: Vec<ChannelFigures>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_prompts_share_is_no_signal() {
        // Two prompts of two rows of two values: the first row is the same, the second is 10 ± 1.
        let mut sums = Sums::new(2);
        let reference = [[5.0, 5.0, 11.0, 9.0], [5.0, 5.0, 9.0, 11.0]];
        for values in &reference {
            let ours: Vec<f32> = values.iter().map(|v| v + 0.1).collect();
            sums.add(0, &ours, values);
        }
        // Signal 4 · 1², noise 4 · 0.1²: 20 dB; with the mean it would be 20 dB more.
        assert!((sums.prompt_specific_db().unwrap().0 - 20.0).abs() < 1e-3);
        let positions = sums.by_position();
        assert!((positions[0].0 - 10.0 * (25.0f64 / 0.01).log10()).abs() < 1e-3);
        assert!((positions[1].0 - 10.0 * (101.0f64 / 0.01).log10()).abs() < 1e-3);
        let channels = sums.by_channel();
        assert!((channels[0].part_of_error - 0.5).abs() < 1e-3);
        assert!((channels[0].rms - ((25.0 * 2.0 + 121.0 + 81.0) / 4.0f64).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn one_prompt_has_nothing_of_its_own() {
        let mut sums = Sums::new(1);
        sums.add(0, &[1.0, 2.0], &[1.0, 2.5]);
        assert!(sums.prompt_specific_db().is_none() && sums.quality().is_some());
    }

    #[test]
    fn a_value_that_is_no_number_shows_in_its_position_and_channel_first() {
        let mut sums = Sums::new(2);
        sums.add(0, &[1.0, 2.0, 3.0, 9.0], &[1.0, 2.0, 3.0, 4.0]);
        sums.add(0, &[1.0, 2.0, f32::NAN, 4.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!(sums.prompt_specific_db().unwrap().0.is_nan());
        let positions = sums.by_position();
        assert!(positions[0] == f64::INFINITY && positions[1].0.is_nan());
        let channels = sums.by_channel();
        assert!(channels.iter().all(|channel| channel.part_of_error.is_nan()), "parts of what is no number");
        assert!(channels[0].sqnr_db.0.is_nan() && channels[0].channel == 0);
    }
}
