//! How close a plan's hidden states are to the f32 model's.

use serde::{Deserialize, Serialize};

use crate::arithmetic::extremes::smaller;
use crate::verify::decibels::Decibels;

/// Sums over token rows: [`Quality`] in the making.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    rows: usize,
    cosine_sum: f64,
    cosine_min: Option<f64>,
    signal: f64,
    noise: f64,
}

/// The figures that the field compares by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean over all token rows of the cosine between the plan's row and the reference's.
    pub cosine_mean: f64,
    /// The least of them.
    pub cosine_min: f64,
    /// `10 log10(Σ reference² / Σ (plan - reference)²)` over all values, in dB; infinite where they are equal.
    pub sqnr_db: Decibels,
}

impl Comparison {
    /// Adds rows of `width` values.
    pub fn add(&mut self, ours: &[f32], reference: &[f32], width: usize) {
        for (ours, reference) in ours.chunks_exact(width).zip(reference.chunks_exact(width)) {
            let (mut dot, mut a2, mut b2) = (0f64, 0f64, 0f64);
            for (&a, &b) in ours.iter().zip(reference) {
                let (a, b) = (f64::from(a), f64::from(b));
                dot += a * b;
                a2 += a * a;
                b2 += b * b;
                self.noise += (a - b) * (a - b);
            }
            self.signal += b2;
            let lengths = (a2 * b2).sqrt();
            // Two rows of zeros are alike; a NaN in either row makes the cosine one.
            let cosine = if lengths == 0.0 { f64::from(a2 == b2) } else { dot / lengths };
            self.rows += 1;
            self.cosine_sum += cosine;
            self.cosine_min = Some(self.cosine_min.map_or(cosine, |least| smaller(least, cosine)));
        }
    }

    /// The figures; `None` before there are rows.
    pub fn quality(&self) -> Option<Quality> {
        Some(Quality {
            cosine_mean: self.cosine_sum / self.rows as f64,
            cosine_min: self.cosine_min?,
            sqnr_db: Decibels::of(self.signal, self.noise),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_they_say() {
        let mut comparison = Comparison::default();
        assert_eq!(comparison.quality(), None);
        comparison.add(&[3.0, 4.0, 0.0, 1.0], &[3.0, 4.0, 1.0, 0.0], 2);
        let quality = comparison.quality().unwrap();
        assert!((quality.cosine_mean - 0.5).abs() < 1e-12 && quality.cosine_min == 0.0);
        assert!((quality.sqnr_db.0 - 10.0 * (26.0f64 / 2.0).log10()).abs() < 1e-12);
    }

    #[test]
    fn a_value_that_is_no_number_shows_in_every_figure_wherever_it_stands() {
        for at in 0..6 {
            let reference = [3.0, 4.0, 1.0, 0.0, 5.0, 12.0];
            let mut ours = reference;
            ours[at] = f32::NAN;
            for (ours, reference) in [(ours, reference), (reference, ours)] {
                let mut comparison = Comparison::default();
                comparison.add(&ours, &reference, 2);
                let Quality { cosine_mean, cosine_min, sqnr_db } = comparison.quality().unwrap();
                assert!(cosine_mean.is_nan() && cosine_min.is_nan() && sqnr_db.0.is_nan(), "{at}");
            }
        }
    }

    #[test]
    fn equal_rows_are_written_and_read_back() {
        let mut comparison = Comparison::default();
        comparison.add(&[1.0, 0.0, 0.0, 0.0], &[1.0, 0.0, 0.0, 0.0], 2);
        let quality = comparison.quality().unwrap();
        assert_eq!((quality.cosine_min, quality.sqnr_db.0), (1.0, f64::INFINITY));
        let json = serde_json::to_string(&quality).unwrap();
        assert!(json.contains("\"sqnr_db\":\"inf\""), "{json}");
        assert_eq!(serde_json::from_str::<Quality>(&json).unwrap(), quality);
    }
}
