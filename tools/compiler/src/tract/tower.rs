//! tract's run of a tower layer by layer: the f32 oracle of a model that came without a graph, or was changed.
//!
//! A graph of the whole tower would hold all weights a second time, and a third time as tract repacks them. Here one layer's are
//! there at a time, while all prompts go through it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cliptext::plan::Mask;
use tract_core::internal::{IntoRunnable, IntoTValue, Tensor, tvec};
use tract_core::model::TypedModel;
use tract_core::prelude::TypedRunnableModel;

use crate::arithmetic::parallel;
use crate::ir::{ImageModel, Matrix, Outputs, Pooled, TextModel};
use crate::tract::graph::{self, Rows};
use crate::tract::guard::guard;
use crate::tract::run::Computed;

/// What `outputs` are of each of `prompts`, token ids as many as the context; with the residual stream's `states` if they are
/// wanted.
///
/// # Errors
/// When an output is wanted that the model has no layer or projection for, an id is not in the vocabulary, or tract fails.
pub fn compute(
    model: &TextModel,
    outputs: &Outputs,
    prompts: &[Vec<u32>],
    states: bool,
) -> Result<Vec<Computed>> {
    ensure!(
        outputs.hidden_layer <= model.layers.len(),
        "hidden states after layer {} are wanted, the model has {} layers",
        outputs.hidden_layer,
        model.layers.len()
    );
    let rows = Rows { rows: model.context(), width: model.width() };
    let mut stream = prompts.iter().map(|ids| embedded(model, ids)).collect::<Result<Vec<_>>>()?;
    let mut kept: Vec<Vec<Matrix>> = vec![vec![]; prompts.len()];
    let mut hidden = Vec::new();
    for done in 0..=outputs.layers(model.layers.len()) {
        if done > 0 {
            let layer = graph::layer(&model.layers[done - 1], rows, model.heads, Mask::Causal);
            stream = through(layer, &stream)?;
        }
        if done == outputs.hidden_layer {
            hidden.clone_from(&stream);
        }
        if states {
            kept.iter_mut().zip(&stream).for_each(|(kept, state)| kept.push(state.clone()));
        }
    }
    if outputs.hidden_norm {
        hidden = through(graph::norm(&model.final_norm, rows), &hidden)?;
    }
    let pooled = match outputs.pooled {
        Pooled::None => vec![None; prompts.len()],
        _ => pooled(model, outputs, prompts, &stream)?.into_iter().map(Some).collect(),
    };
    let computed = hidden.into_iter().zip(pooled).zip(kept);
    Ok(computed.map(|((hidden, pooled), states)| Computed { hidden: Some(hidden), pooled, states }).collect())
}

/// The last hidden states of each of `images`, and its embedding, of length 1 where it is `normalized`.
///
/// # Errors
/// When tract fails.
pub fn compute_images(model: &ImageModel, images: &[Vec<u8>], normalized: bool) -> Result<Vec<Computed>> {
    let pixels: Vec<Matrix> = images.iter().map(|image| model.rows_of(image)).collect();
    let columns = pixels.first().map_or(0, |pixels| pixels.cols);
    let patches = graph::linear(&model.patch_embedding, Rows { rows: model.tokens(), width: columns });
    let mut stream = through(patches, &pixels)?;
    for rows in &mut stream {
        rows.values.iter_mut().zip(&model.positions.values).for_each(|(x, position)| *x += position);
    }
    let rows = Rows { rows: model.tokens(), width: model.width() };
    stream = through(graph::norm(&model.pre_norm, rows), &stream)?;
    for layer in &model.layers {
        stream = through(graph::layer(layer, rows, model.heads, Mask::None), &stream)?;
    }
    let class = |state: &Matrix| Matrix { rows: 1, cols: state.cols, values: state.row(0).to_vec() };
    let classes: Vec<Matrix> = stream.iter().map(class).collect();
    let pooled = through(graph::head(&model.post_norm, model.projection.as_ref(), normalized), &classes)?;
    let one = |(hidden, pooled): (Matrix, Matrix)| Computed {
        hidden: Some(hidden),
        pooled: Some(pooled.values),
        states: vec![],
    };
    Ok(stream.into_iter().zip(pooled).map(one).collect())
}

/// The embedded tokens of a prompt.
fn embedded(model: &TextModel, ids: &[u32]) -> Result<Matrix> {
    let (context, vocabulary) = (model.context(), model.token_embedding.rows);
    ensure!(ids.len() == context, "the prompt has {} tokens where the model takes {context}", ids.len());
    let mut values = model.position_embedding.values.clone();
    for (row, &id) in values.chunks_exact_mut(model.width()).zip(ids) {
        ensure!((id as usize) < vocabulary, "the token {id} is not among the model's {vocabulary}");
        row.iter_mut().zip(model.token_embedding.row(id as usize)).for_each(|(x, token)| *x += token);
    }
    Ok(Matrix { rows: context, cols: model.width(), values })
}

/// The row at each prompt's first end token, behind the final norm, with what `outputs` want of it.
fn pooled(
    model: &TextModel,
    outputs: &Outputs,
    prompts: &[Vec<u32>],
    last: &[Matrix],
) -> Result<Vec<Vec<f32>>> {
    let row = |(ids, state): (&Vec<u32>, &Matrix)| {
        let end = ids.iter().position(|&id| id == outputs.end_token).unwrap_or(0);
        Matrix { rows: 1, cols: state.cols, values: state.row(end).to_vec() }
    };
    let rows: Vec<Matrix> = prompts.iter().zip(last).map(row).collect();
    let projection = match outputs.pooled {
        Pooled::Projected => {
            Some(model.projection.as_ref().context("a projection is wanted, the model has none")?)
        }
        _ => None,
    };
    let head = graph::head(&model.final_norm, projection, outputs.normalized);
    Ok(through(head, &rows)?.into_iter().map(|row| row.values).collect())
}

/// What a graph of one input and one output makes of each of `inputs`.
fn through(model: Result<TypedModel>, inputs: &[Matrix]) -> Result<Vec<Matrix>> {
    let model = model.context("tract cannot take this tower")?;
    let plan: Arc<TypedRunnableModel> =
        guard(|| model.into_decluttered()?.into_optimized().and_then(|model| model.into_runnable()))
            .context("tract cannot run this tower, which the f32 reference needs")?;
    let mut found: Vec<Option<Result<Matrix>>> = inputs.iter().map(|_| None).collect();
    parallel::each(found.iter_mut().zip(inputs), |(found, input)| {
        *found = Some(guard(|| run(&plan, input)).context("tract cannot run this tower on a prompt"));
    });
    found.into_iter().map(|found| found.context("a prompt was left out")?).collect()
}

/// One run.
fn run(plan: &Arc<TypedRunnableModel>, input: &Matrix) -> Result<Matrix> {
    let tensor = Tensor::from_shape(&[1, input.rows, input.cols], &input.values)?;
    let results = plan.run(tvec![tensor.into_tvalue()])?;
    let values = crate::tract::numbers::numbers::<f32>(&results[0]).context("no f32 came out")?.to_vec();
    Ok(Matrix { rows: input.rows, cols: values.len() / input.rows, values })
}
