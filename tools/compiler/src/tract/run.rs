//! tract's own run of an imported graph, in f32: what plans are measured against.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tract_core::internal::{IntoRunnable, IntoTValue, Tensor, tvec};
use tract_core::prelude::{DatumType, OutletId, TypedModel, TypedRunnableModel, tensor1};

use crate::colours::{COLOURS, Colours};
use crate::ir::Matrix;
use crate::tract::Imported;
use crate::tract::guard::guard;

/// A graph made ready to run prompt after prompt.
#[derive(Clone, Debug)]
pub struct F32Run {
    plan: Arc<TypedRunnableModel>,
    ids_shape: Vec<usize>,
    context: usize,
    ids_type: DatumType,
    /// Which of the plan's outputs are the hidden states and the pooled row.
    hidden: Option<usize>,
    pooled: Option<usize>,
    /// Where the residual stream's states begin, behind those.
    states: usize,
}

/// Where in a graph the values are that it is run for.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    /// The hidden states, `[batch, context, width]`, if an edge holds them.
    pub hidden: Option<OutletId>,
    /// The pooled row.
    pub pooled: Option<OutletId>,
    /// States of the residual stream.
    pub states: Vec<OutletId>,
}

/// What the graph computes from one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// `[context, width]`; `None` where the graph nowhere computes them for every token.
    pub hidden: Option<Matrix>,
    /// The pooled output, if the graph has one.
    pub pooled: Option<Vec<f32>>,
    /// `[context, width]` each: the residual stream before the first layer and after each, if it was asked for.
    pub states: Vec<Matrix>,
}

impl F32Run {
    /// Lets tract optimise an imported graph for this machine. Takes the graph, whose weights the optimised one repacks.
    ///
    /// # Errors
    /// When tract has no code for one of the graph's operators.
    pub fn new(imported: Imported, outlets: &Outlets) -> Result<Self> {
        let mut model = imported.model;
        let Outlets { hidden, pooled, states } = outlets;
        let all: Vec<OutletId> = hidden.iter().chain(pooled).chain(states).copied().collect();
        ensure!(!all.is_empty(), "the graph has no output to run it for");
        model.select_output_outlets(&all).context("tract cannot select the outputs")?;
        let ids_shape =
            model.input_fact(0)?.shape.as_concrete().context("the ids' shape is not fixed")?.to_vec();
        let plan = guard(|| model.into_optimized().and_then(|model| model.into_runnable()))
            .context("tract cannot run this graph, which the f32 reference needs")?;
        let states = all.len() - states.len();
        let (hidden, pooled) = (hidden.map(|_| 0), pooled.map(|_| states - 1));
        let (context, ids_type) = (imported.context, imported.ids_type);
        Ok(F32Run { plan, ids_shape, context, ids_type, hidden, pooled, states })
    }

    /// Runs one prompt of exactly the context's length. A graph for several prompts gets it for each, and its first
    /// answer counts.
    ///
    /// # Errors
    /// When the prompt has another length, an id is not in the vocabulary, or tract fails.
    pub fn encode(&self, ids: &[u32]) -> Result<Computed> {
        let context = self.context;
        ensure!(ids.len() == context, "the prompt has {} tokens where the graph takes {context}", ids.len());
        let batch = self.ids_shape.iter().product::<usize>() / context;
        let wide: Vec<i64> = ids.repeat(batch).into_iter().map(i64::from).collect();
        let input = tensor1(&wide).cast_to_dt(self.ids_type)?.into_owned().into_shape(&self.ids_shape)?;
        let results = guard(|| self.plan.run(tvec![input.into_tvalue()]))
            .context("tract cannot run this graph on a prompt")?;
        let hidden = self.hidden.map(|at| matrix(&results[at], batch, context)).transpose()?;
        let pooled = self.pooled.map(|at| first(&results[at], batch)).transpose()?;
        let states = results[self.states..].iter().map(|state| matrix(state, batch, context));
        Ok(Computed { hidden, pooled, states: states.collect::<Result<_>>()? })
    }
}

/// A graph whose one input is pixels, made ready to run picture after picture.
#[derive(Clone, Debug)]
pub struct ImageRun {
    plan: Arc<TypedRunnableModel>,
    /// `[batch, 3, side, side]`.
    shape: [usize; 4],
}

impl ImageRun {
    /// Lets tract optimise a graph for this machine, to be run for the edge that holds the images' embeddings.
    ///
    /// # Errors
    /// When tract has no code for one of the graph's operators, or the input is no pixels of a fixed shape.
    pub fn new(mut model: TypedModel, embedding: OutletId) -> Result<Self> {
        model.select_output_outlets(&[embedding]).context("tract cannot select the outputs")?;
        let shape = model.input_fact(0)?.shape.as_concrete().and_then(|shape| shape.try_into().ok());
        let shape = shape.context("the pixels' shape is not fixed")?;
        let plan = guard(|| {
            model.declutter()?;
            model.into_optimized().and_then(|model| model.into_runnable())
        })
        .context("tract cannot run this graph")?;
        Ok(ImageRun { plan, shape })
    }

    /// Pixels of a side of the images.
    pub fn side(&self) -> usize {
        self.shape[3]
    }

    /// The embedding of an image, `[side, side, 3]` bytes, normalised by `colours`. A graph for several images at once gets it for
    /// each, and its first answer counts.
    ///
    /// # Errors
    /// When the image has another size, or tract fails.
    pub fn embed(&self, image: &[u8], colours: Colours) -> Result<Vec<f32>> {
        let [batch, .., side] = self.shape;
        ensure!(
            image.len() == side * side * COLOURS,
            "the image has {} bytes where the graph takes [{side}, {side}, {COLOURS}]",
            image.len()
        );
        let (mean, deviation) = colours;
        let plane = |colour: usize| {
            let values = image.iter().skip(colour).step_by(COLOURS);
            values.map(move |&pixel| (f32::from(pixel) / 255.0 - mean[colour]) / deviation[colour])
        };
        let pixels: Vec<f32> = (0..COLOURS).flat_map(plane).collect();
        let input = Tensor::from_shape(&self.shape, &pixels.repeat(batch))?;
        let results = guard(|| self.plan.run(tvec![input.into_tvalue()]))
            .context("tract cannot run this graph on a picture")?;
        first(&results[0], batch)
    }
}

/// The first of the batch's answers, which is the outermost axis of every edge that is run for.
fn first(tensor: &Tensor, batch: usize) -> Result<Vec<f32>> {
    match crate::tract::numbers::numbers::<f32>(tensor) {
        Some(values) => Ok(values[..values.len() / batch].to_vec()),
        None => bail!("the graph gives out {:?} where f32 was expected", tensor.datum_type()),
    }
}

fn matrix(tensor: &Tensor, batch: usize, rows: usize) -> Result<Matrix> {
    let values = first(tensor, batch)?;
    Ok(Matrix { rows, cols: values.len() / rows, values })
}
