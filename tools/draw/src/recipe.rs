//! What a UNet's file says of how it wants to be used: ONNX's `metadata_props`, under the names that diffusers' configurations have.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::schedule::{Point, Schedule};

/// How a UNet was trained and is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// What its output is.
    pub prediction: Prediction,
    /// How signal and noise change.
    pub schedule: Schedule,
    /// Whether pictures are kept within -1 and 1 on the way (Imagen's static thresholding, arXiv:2205.11487, section 2.3).
    pub clips: bool,
    /// The scale of guidance where none is asked for.
    pub guidance: f32,
}

/// What a UNet's output is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction {
    /// The noise.
    Noise,
    /// `signal · noise - noise's share · picture` (progressive distillation, arXiv:2202.00512).
    Velocity,
    /// `noise - picture` (rectified flow, arXiv:2209.03003).
    Flow,
}

impl Prediction {
    /// The picture that an output means for a value `x` of the sample.
    pub fn picture(self, x: f64, output: f64, at: Point) -> f64 {
        match self {
            Self::Noise => (x - at.noise * output) / at.signal,
            Self::Velocity => at.signal * x - at.noise * output,
            Self::Flow => x - at.noise * output,
        }
    }
}

impl Recipe {
    /// Reads keys and values; those of other programs are left aside.
    ///
    /// # Errors
    /// When one is missing or not known, by its name.
    pub fn read<'k>(entries: impl Iterator<Item = (&'k str, &'k str)> + Clone) -> Result<Self> {
        let found = |key: &str| entries.clone().find(|entry| entry.0 == key).map(|entry| entry.1);
        let text = |key: &str| {
            found(key).with_context(|| {
                format!("its metadata_props have no {key}: export it with tools/train/unet.py")
            })
        };
        let prediction = match text("prediction_type")? {
            "epsilon" => Prediction::Noise,
            "v_prediction" => Prediction::Velocity,
            "flow_prediction" => Prediction::Flow,
            other => bail!("prediction_type {other:?}: epsilon, v_prediction and flow_prediction are known"),
        };
        let timesteps = number(text("num_train_timesteps")?, "num_train_timesteps")?;
        ensure!((1..=100_000).contains(&timesteps), "num_train_timesteps {timesteps}: not from 1 to 100000");
        let schedule = match prediction {
            Prediction::Flow => {
                let shift = number(text("shift")?, "shift")?;
                ensure!((0.01..=100.0).contains(&shift), "shift {shift}: not from 0.01 to 100");
                Schedule::Flow { shift, timesteps }
            }
            _ => match text("beta_schedule")? {
                "squaredcos_cap_v2" => Schedule::Cosine { timesteps },
                other => bail!("beta_schedule {other:?}: squaredcos_cap_v2 is known"),
            },
        };
        let guidance = number(text("guidance_scale")?, "guidance_scale")?;
        ensure!((0.0..=100.0).contains(&guidance), "guidance_scale {guidance}: not from 0 to 100");
        Ok(Self { prediction, schedule, clips: number(text("clip_sample")?, "clip_sample")?, guidance })
    }
}

fn number<T: FromStr>(text: &str, key: &str) -> Result<T> {
    match text.parse() {
        Ok(number) => Ok(number),
        Err(_) => bail!("{key} {text:?}: not a value of its kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: [(&str, &str); 5] = [
        ("prediction_type", "flow_prediction"),
        ("num_train_timesteps", "1000"),
        ("shift", "2.5"),
        ("clip_sample", "true"),
        ("guidance_scale", "3.0"),
    ];

    #[test]
    fn keys_are_read_and_missing_or_strange_ones_are_named() {
        let read = Recipe::read(FLOW.into_iter()).unwrap();
        let schedule = Schedule::Flow { shift: 2.5, timesteps: 1000 };
        assert_eq!(read, Recipe { prediction: Prediction::Flow, schedule, clips: true, guidance: 3.0 });
        for left_out in FLOW {
            let said =
                Recipe::read(FLOW.into_iter().filter(|entry| *entry != left_out)).unwrap_err().to_string();
            assert!(said.contains(&format!("no {}", left_out.0)), "{said}");
        }
        for (key, value) in [
            ("prediction_type", "sample"),
            ("num_train_timesteps", "0"),
            ("num_train_timesteps", "-1"),
            ("shift", "NaN"),
            ("clip_sample", "yes"),
            ("guidance_scale", "inf"),
        ] {
            let changed = FLOW.into_iter().map(|entry| if entry.0 == key { (key, value) } else { entry });
            let said = Recipe::read(changed).unwrap_err().to_string();
            assert!(said.contains(key), "{said}");
        }
        let cosine = [("prediction_type", "v_prediction"), ("beta_schedule", "squaredcos_cap_v2")];
        let cosine = cosine.into_iter().chain(FLOW.into_iter().skip(1));
        assert_eq!(Recipe::read(cosine).unwrap().schedule, Schedule::Cosine { timesteps: 1000 });
    }
}
