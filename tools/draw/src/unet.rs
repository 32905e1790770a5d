//! The UNet, run by tract.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tract_core::internal::{DatumType, IntoRunnable, IntoTValue, Tensor};
use tract_core::prelude::{Framework, TypedRunnableModel};
use tract_onnx::prelude::{InferenceFact, InferenceModel, InferenceModelExt};
use tract_onnx::tract_hir::internal::{DimLike, Factoid};

use crate::recipe::Recipe;

/// What the inputs are called, as diffusers' exports do.
const INPUTS: [&str; 3] = ["sample", "timestep", "encoder_hidden_states"];

/// Pixels of a side of a picture, at the most: what a UNet in f32 on a board draws in reasonable time.
const MOST_PIXELS: usize = 1024;

/// A UNet that was read.
#[derive(Debug)]
pub struct Unet {
    path: PathBuf,
    model: InferenceModel,
    recipe: Recipe,
    /// Height and width of its pictures.
    size: (usize, usize),
    /// Tokens and width of what it reads.
    embedding: (usize, usize),
    /// Which of [`INPUTS`] each of the graph's is.
    order: [usize; 3],
}

/// A UNet and the hidden states that it reads.
#[derive(Debug)]
pub struct Ready<'u> {
    unet: &'u Unet,
    plan: Arc<TypedRunnableModel>,
    batch: usize,
    states: Tensor,
}

impl Unet {
    /// Reads the ONNX file at `path`: `sample` `[n, 3, height, width]`, `timestep` `[n]`, `encoder_hidden_states` `[n, tokens, width]`, and
    /// a [`Recipe`] among its `metadata_props`.
    ///
    /// # Errors
    /// When it is another graph, or tract does not know an operator.
    pub fn read(path: &Path) -> Result<Self> {
        guard(|| Self::parse(path)).with_context(|| path.display().to_string())
    }

    fn parse(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let onnx = tract_onnx::onnx();
        let proto = onnx.proto_model_for_read(&mut &bytes[..]).map_err(|_| anyhow!("no ONNX model"))?;
        ensure!(proto.graph.is_some(), "no ONNX model");
        let model = onnx.model_for_proto_model(&proto)?;
        let entries = proto.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));

        let names: Vec<&str> =
            model.inputs.iter().map(|outlet| model.node(outlet.node).name.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_by_key(|name| INPUTS.iter().position(|input| input == name));
        ensure!(sorted == INPUTS, "its inputs are {}; expected {}", listed(&names), listed(&INPUTS));
        ensure!(model.outputs.len() == 1, "it has {} outputs; expected one", model.outputs.len());
        let order = [0, 1, 2].map(|at| INPUTS.iter().position(|&input| input == names[at]).unwrap_or(at));
        // Of each input the lengths that are fixed.
        let mut shapes = [const { Vec::new() }; 3];
        for (&outlet, &input) in model.inputs.iter().zip(&order) {
            let fact = model.outlet_fact(outlet)?;
            let kind = fact.datum_type.concretize().unwrap_or(DatumType::F32);
            ensure!(kind == DatumType::F32, "its input {} is of type {kind:?}; expected f32", INPUTS[input]);
            let length = |dim: &tract_onnx::tract_hir::internal::DimFact| dim.concretize()?.to_usize().ok();
            shapes[input] = fact.shape.dims().map(length).collect::<Vec<_>>();
        }
        let [sample, timestep, states] = &shapes;
        let (&[_, Some(3), Some(height), Some(width)], &[_], &[_, Some(tokens), Some(columns)]) =
            (&sample[..], &timestep[..], &states[..])
        else {
            bail!(
                "its inputs are of the shapes {}; expected [n, 3, height, width], [n] and [n, tokens, width] with n free",
                listed(&shapes.map(|shape| shown(&shape)))
            );
        };
        let sides = 1..=MOST_PIXELS;
        ensure!(
            sides.contains(&height) && sides.contains(&width),
            "it draws {width} by {height} pixels; up to {MOST_PIXELS} each are drawn"
        );
        let recipe = Recipe::read(entries)?;
        Ok(Self {
            path: path.into(),
            recipe,
            size: (height, width),
            embedding: (tokens, columns),
            order,
            model,
        })
    }

    /// How it wants to be used.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Height and width of its pictures.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Values of a picture: 3 for each pixel.
    pub fn pixels(&self) -> usize {
        3 * self.size.0 * self.size.1
    }

    /// Tokens and width of the hidden states that it reads.
    pub fn embedding(&self) -> (usize, usize) {
        self.embedding
    }

    /// Makes it ready for a batch of so many `states`, `[batch, tokens, width]`.
    ///
    /// # Errors
    /// When tract can't run the graph.
    pub fn ready(&self, batch: usize, states: &[f32]) -> Result<Ready<'_>> {
        let (tokens, width) = self.embedding;
        let plan = || {
            let mut model = self.model.clone();
            for (index, &input) in self.order.iter().enumerate() {
                model.set_input_fact(
                    index,
                    InferenceFact::dt_shape(DatumType::F32, self.shape(input, batch)),
                )?;
            }
            model.into_optimized()?.into_runnable()
        };
        let plan = guard(plan).with_context(|| self.path.display().to_string())?;
        let states = Tensor::from_shape(&[batch, tokens, width], states)?;
        Ok(Ready { unet: self, plan, batch, states })
    }

    fn shape(&self, input: usize, batch: usize) -> Vec<usize> {
        match input {
            0 => vec![batch, 3, self.size.0, self.size.1],
            1 => vec![batch],
            _ => vec![batch, self.embedding.0, self.embedding.1],
        }
    }
}

impl Ready<'_> {
    /// The outputs for one sample `[3, height, width]`, read with each of the hidden states: `[batch, 3, height, width]`.
    ///
    /// # Errors
    /// When tract can't run the graph, or its output has another shape.
    pub fn run(&mut self, sample: &[f32], timestep: f32) -> Result<Vec<f32>> {
        let unet = self.unet;
        let run = || {
            let shape = |input| unet.shape(input, self.batch);
            let values = [
                Tensor::from_shape(&shape(0), &sample.repeat(self.batch))?,
                Tensor::from_shape(&shape(1), &vec![timestep; self.batch])?,
                self.states.clone(),
            ];
            let inputs = unet.order.iter().map(|&input| values[input].clone().into_tvalue()).collect();
            let outputs = self.plan.run(inputs)?;
            let output = outputs.first().context("it has no output")?;
            ensure!(
                output.shape() == shape(0),
                "its output is of the shape {:?}; expected {:?}, as its sample",
                output.shape(),
                shape(0)
            );
            Ok(output.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        guard(run).with_context(|| unet.path.display().to_string())
    }
}

/// tract panics on some damaged graphs: that becomes an error.
fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow!("tract gave up on this graph; export the model again")))
}

fn listed(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn shown(shape: &[Option<usize>]) -> String {
    let lengths: Vec<String> =
        shape.iter().map(|length| length.map_or_else(|| "?".into(), |n| n.to_string())).collect();
    format!("[{}]", lengths.join(", "))
}
