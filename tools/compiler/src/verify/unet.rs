//! What a plan's error does to what reads the embeddings: a diffusion UNet in ONNX, run by tract with either embedding.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tract_core::internal::{DatumType, IntoRunnable, IntoTValue, Tensor, tvec};
use tract_core::prelude::TypedRunnableModel;
use tract_onnx::prelude::{InferenceFact, InferenceModelExt};
use tract_onnx::tract_hir::internal::{DimLike, Factoid};

use crate::import::onnx;
use crate::tract::guard::guard;
use crate::verify::decibels::Decibels;

/// A UNet ready to run.
#[derive(Debug)]
pub struct Unet {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Input>,
    shape: Vec<usize>,
}

/// What an input of the graph is fed with.
#[derive(Debug)]
struct Input {
    kind: Kind,
    shape: Vec<usize>,
    datum_type: DatumType,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// `[1, channels, height, width]`: noise, as at the beginning.
    Sample,
    /// A number, or one for each sample.
    Timestep,
    /// `[1, tokens, width]`.
    HiddenStates,
}

/// How far the UNet's outputs are from those with the f32 embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct UnetFigures {
    /// Prompts and timesteps that it was run for.
    pub runs: usize,
    /// `10 log10(Σ reference² / Σ difference²)` of its output, in dB.
    pub sqnr_db: Decibels,
    /// The same for what the prompt changes: the reference less the output for the empty prompt, in dB.
    pub guidance_sqnr_db: Decibels,
}

/// Timesteps of the diffusion: early, in the middle, late.
const TIMESTEPS: [f32; 3] = [901.0, 501.0, 101.0];

/// Most bytes of a value that a UNet computes: the attention weights of 20 heads at 64 × 64 are 1.3 GiB.
const MOST_VALUE_BYTES: usize = 4 << 30;

/// Side of the sample where the graph leaves it free.
const SIDE: usize = 16;

impl Unet {
    /// Reads the UNet at `path`, for embeddings of `[tokens, width]`.
    ///
    /// # Errors
    /// When tract can't load or run it, or its inputs are others than a sample, a timestep and the hidden states.
    pub fn load(path: &Path, tokens: usize, width: usize) -> Result<Self> {
        guard(|| Self::read(path, tokens, width))
            .with_context(|| format!("{}: cannot be used as UNet", path.display()))
    }

    fn read(path: &Path, tokens: usize, width: usize) -> Result<Self> {
        let mut model = onnx::load_graph(path, MOST_VALUE_BYTES)?;
        let mut inputs = Vec::new();
        for (index, outlet) in model.inputs.clone().into_iter().enumerate() {
            let name = model.node(outlet.node).name.clone();
            let fact = model.outlet_fact(outlet)?.clone();
            let datum_type = fact.datum_type.concretize().unwrap_or(DatumType::F32);
            let size = |at: usize| {
                fact.shape.dim(at).and_then(|dim| dim.concretize()).and_then(|dim| dim.to_usize().ok())
            };
            let kind = match name.as_str() {
                "encoder_hidden_states" => Kind::HiddenStates,
                "timestep" | "t" => Kind::Timestep,
                "sample" | "latent" | "latents" | "x" => Kind::Sample,
                other => {
                    bail!("it has an input {other:?}; expected sample, timestep and encoder_hidden_states")
                }
            };
            let free = match kind {
                Kind::Sample => vec![1, 4, SIDE, SIDE],
                Kind::Timestep => vec![1],
                Kind::HiddenStates => vec![1, tokens, width],
            };
            let rank = fact.shape.rank().concretize().map_or(free.len(), |rank| rank as usize);
            let shape: Vec<usize> =
                (0..rank).map(|at| size(at).unwrap_or(*free.get(at).unwrap_or(&1))).collect();
            if kind == Kind::HiddenStates {
                ensure!(shape == free, "it reads embeddings of {shape:?}, the plan gives out {free:?}");
            }
            model.set_input_fact(index, InferenceFact::dt_shape(datum_type, &shape))?;
            inputs.push(Input { kind, shape, datum_type });
        }
        for kind in [Kind::Sample, Kind::HiddenStates] {
            ensure!(
                inputs.iter().filter(|input| input.kind == kind).count() == 1,
                "it has no input {kind:?}: not a UNet that reads embeddings"
            );
        }
        let shape = vec![tokens, width];
        let plan = model.into_optimized()?.into_runnable()?;
        Ok(Unet { plan, inputs, shape })
    }

    /// The UNet's output for one embedding, `[tokens, width]`.
    fn run(&self, hidden: &[f32], timestep: f32, sample: &[f32]) -> Result<Vec<f32>> {
        let mut values = tvec![];
        for input in &self.inputs {
            let count: usize = input.shape.iter().product();
            let tensor = match input.kind {
                Kind::Sample => Tensor::from_shape(&input.shape, &sample[..count])?,
                Kind::Timestep => Tensor::from_shape(&input.shape, &vec![timestep; count])?,
                Kind::HiddenStates => Tensor::from_shape(&input.shape, hidden)?,
            };
            values.push(tensor.cast_to_dt(input.datum_type)?.into_owned().into_tvalue());
        }
        let outputs = guard(|| self.plan.run(values)).context("tract cannot run the UNet")?;
        let output = outputs[0].cast_to::<f32>()?;
        crate::tract::numbers::numbers::<f32>(&output)
            .map(|v| v.to_vec())
            .context("the UNet's output is not f32")
    }

    /// Compares the outputs for `[ours, reference]` embeddings of several prompts; the first is of the empty prompt.
    ///
    /// # Errors
    /// When tract fails, or there are no prompts.
    pub fn compare(&self, embeddings: &[[Vec<f32>; 2]]) -> Result<UnetFigures> {
        let Some([_, empty]) = embeddings.first() else { bail!("no prompts to run the UNet with") };
        let size: usize = self.shape.iter().product();
        ensure!(empty.len() == size, "embeddings of {} values where the UNet reads {size}", empty.len());
        let count = self.inputs.iter().map(|input| input.shape.iter().product()).max().unwrap_or(0);
        let sample = noise(count);
        let (mut signal, mut guidance, mut error, mut runs) = (0f64, 0f64, 0f64, 0);
        for timestep in TIMESTEPS {
            let unguided = self.run(empty, timestep, &sample)?;
            for [ours, reference] in embeddings {
                let (ours, reference) =
                    (self.run(ours, timestep, &sample)?, self.run(reference, timestep, &sample)?);
                for ((&a, &b), &u) in ours.iter().zip(&reference).zip(&unguided) {
                    let (a, b, u) = (f64::from(a), f64::from(b), f64::from(u));
                    signal += b * b;
                    guidance += (b - u) * (b - u);
                    error += (a - b) * (a - b);
                }
                runs += 1;
            }
        }
        let (sqnr_db, guidance_sqnr_db) = (Decibels::of(signal, error), Decibels::of(guidance, error));
        Ok(UnetFigures { runs, sqnr_db, guidance_sqnr_db })
    }
}

/// Values with the spread of a normal distribution, always the same: sums of twelve uniform numbers less six.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}
