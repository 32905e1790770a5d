//! The command line.

use std::path::PathBuf;

use clap::Parser;
use cliptext::PlanHash;

use crate::sampler::Solver;

#[derive(Parser)]
#[command(
    name = "cliptext-draw",
    version,
    about = "Draws a small picture of a prompt, with a plan and a diffusion UNet"
)]
#[command(after_help = "Exit codes: 0 done, 1 the work failed, 2 the command line is wrong")]
pub(crate) struct Arguments {
    /// What to draw
    pub(crate) prompt: String,
    /// The picture: a PNG, written under a temporary name and renamed; - is standard output
    #[arg(short, long, value_name = "FILE.png")]
    pub(crate) output: PathBuf,
    /// What not to draw: guidance leads away from it [default: the empty prompt]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) negative: Option<String>,
    /// The UNet as tools/train/unet.py exports it: ONNX, in f32, with its prediction type and schedule in metadata_props. No UNet is built in
    #[arg(long, value_name = "UNET.onnx")]
    pub(crate) unet: PathBuf,
    /// The plan of the text encoder that the UNet was trained with [default: the built-in demonstration plan]
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// Steps from noise to picture, each a run of the UNet
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) steps: u16,
    /// How far the prompt leads beyond its negative; 1 is without guidance and half the work [default: the UNet's own]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true, value_parser = scale)]
    pub(crate) guidance: Option<f32>,
    /// How to step
    #[arg(long, default_value = "dpmpp-2m", value_enum)]
    pub(crate) sampler: Solver,
    /// Of the noise to begin with: the same on every CPU
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

fn scale(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(scale) if (0.0..=100.0).contains(&scale) => Ok(scale),
        _ => Err("not a number from 0 to 100".into()),
    }
}

impl Arguments {
    /// What the picture was made of, for its reader, as AUTOMATIC1111's program words it.
    pub(crate) fn told(&self, guidance: f32, plan: &PlanHash) -> String {
        let negative =
            self.negative.as_deref().map_or_else(String::new, |text| format!("\nNegative prompt: {text}"));
        let sampler = self.sampler.name();
        let Self { prompt, steps, seed, .. } = self;
        format!(
            "{prompt}{negative}\nSteps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, Seed: {seed}, Plan: {plan}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_finite_and_no_less_than_nothing() {
        assert_eq!((scale("3"), scale("0")), (Ok(3.0), Ok(0.0)));
        for wrong in ["-1", "NaN", "inf", "", "x", "1e9"] {
            assert!(scale(wrong).is_err(), "{wrong}");
        }
    }
}
