//! Peak signal-to-noise ratios.
//!
//! Apple's conversion of Stable Diffusion refuses a text encoder below 35 dB (`compute_psnr` and `ABSOLUTE_MIN_PSNR` in
//! `python_coreml_stable_diffusion/torch2coreml.py`, apple/ml-stable-diffusion), and Qualcomm's AI Hub compares models by the same formula
//! (`compute_psnr` in `qai_hub_models/utils/compare.py`, quic/ai-hub-models): `20 log10(peak / root of the mean squared error)` of one
//! output, here with the peak of the f32 model's.

use serde::Serialize;

use crate::arithmetic::extremes::{larger, smaller};
use crate::verify::decibels::Decibels;

/// PSNR of several outputs in the making.
#[derive(Clone, Debug, Default)]
pub struct Peaks(Vec<f64>);

/// PSNR of outputs of one kind, in dB.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Psnr {
    /// Mean over the outputs.
    pub mean_db: Decibels,
    /// The least of them.
    pub min_db: Decibels,
}

impl Peaks {
    /// Adds an output: all values of one prompt or image.
    pub fn add(&mut self, ours: &[f32], reference: &[f32]) {
        let pairs = ours.iter().zip(reference).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let (mut peak, mut error) = (0f64, 0f64);
        for (a, b) in pairs {
            peak = larger(peak, b.abs());
            error += (a - b) * (a - b);
        }
        self.0.push(Decibels::of(peak * peak, error / reference.len().max(1) as f64).0);
    }

    /// The figures; `None` before there are outputs.
    pub fn psnr(&self) -> Option<Psnr> {
        let mean = self.0.iter().sum::<f64>() / self.0.len() as f64;
        let least = self.0.iter().copied().reduce(smaller)?;
        Some(Psnr { mean_db: Decibels(mean), min_db: Decibels(least) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_peak_over_the_root_of_the_mean_squared_error() {
        let mut peaks = Peaks::default();
        assert_eq!(peaks.psnr(), None);
        peaks.add(&[1.0, -10.0, 3.0, 4.5], &[1.0, -10.0, 3.0, 4.0]);
        let wanted = 20.0 * (10.0 / (0.25f64 / 4.0).sqrt()).log10();
        let found = peaks.psnr().unwrap();
        assert!((found.mean_db.0 - wanted).abs() < 1e-9 && found.mean_db == found.min_db);
        peaks.add(&[1.0, 1.0], &[2.0, 1.0]);
        assert!(peaks.psnr().unwrap().min_db < found.min_db);
        peaks.add(&[f32::NAN], &[1.0]);
        assert!(peaks.psnr().unwrap().min_db.0.is_nan() && peaks.psnr().unwrap().mean_db.0.is_nan());
    }
}
