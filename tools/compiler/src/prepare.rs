//! A tower made ready to be quantized: imported, understood, checked against tract, and given the outputs that are wanted.

use anyhow::{Context, Result, ensure};
use cliptext::tokenizer::Padding;

use crate::edit::Edits;
use crate::edit::words::Word;
use crate::f32_run::F32Run;
use crate::import::graph;
use crate::ir::{Outputs, Pooled, TextModel};
use crate::preset::{Choice, Facts};
use crate::progress::Progress;
use crate::recognise::{Recognised, recognise};
use crate::reference::check;
use crate::source::{Tower, Weights};

/// A tower with all that a plan needs of it, and its f32 reference.
pub struct Prepared {
    /// What to call it.
    pub name: String,
    /// The weights, f32.
    pub model: TextModel,
    /// What the plan gives out.
    pub outputs: Outputs,
    /// The words that were added to it.
    pub words: Vec<Word>,
    /// What fills its context, if the preset says so.
    pub padding: Option<Padding>,
    /// Factor of cosines, if the files have it.
    pub logit_scale: Option<f32>,
    /// tract's run of the same outputs.
    pub run: F32Run,
}

/// Imports `tower` and makes of it what `choice` and `edits` ask for.
///
/// # Errors
/// When the weights can't be imported, are no CLIP text encoder, or haven't what is wanted. The message names the file.
pub fn prepare(tower: &Tower, choice: &Choice, edits: &Edits, progress: &Progress) -> Result<Prepared> {
    let path = tower.path().display().to_string();
    let mut chosen = None;
    let imported = progress.stage("import: load, type, fold, declutter", || {
        tower
            .import(|shape, own| {
                let projection = shape.projected.is_some();
                let facts = Facts { layers: shape.layers, width: shape.width, final_norm: true, projection };
                let outputs = choice.outputs(&facts, own)?;
                chosen = Some(outputs);
                Ok(outputs)
            })
            .with_context(|| format!("{path}: cannot be imported"))
    })?;
    let half = imported.half;
    let recognised = progress
        .stage("recognise", || recognise(&imported.model))
        .with_context(|| format!("{path}: not a CLIP text encoder that can be compiled"))?;
    let run = progress.stage("check against tract's f32 run", || {
        let run = F32Run::new(imported, &recognised)?;
        check(&recognised.model, &recognised.outputs, &run)?;
        anyhow::Ok(run)
    })?;
    let Recognised { mut model, outputs: own, .. } = recognised;
    let outputs = match chosen {
        Some(chosen) => {
            // Without a pooled row the graph has no use for the end token.
            let own =
                if own.pooled == Pooled::None { Outputs { end_token: chosen.end_token, ..own } } else { own };
            ensure!(own == chosen, "{path}: {chosen:?} became {own:?} on the way through the graph: a bug");
            chosen
        }
        // A graph has the outputs that its exporter gave it.
        None => choice.outputs(&facts(&model, &own), own).with_context(|| path.clone())?,
    };
    let words = edits.apply(&mut model, |note| progress.note(note)).with_context(|| path.clone())?;
    let shortened = shorten(&mut model, choice.context).with_context(|| path.clone())?;
    let run = if !edits.is_empty() || shortened || outputs != own {
        drop(run);
        progress.stage("rebuild with what was chosen", || {
            let run = F32Run::built(graph::build(model.clone(), &outputs, half)?)?;
            check(&model, &outputs, &run)?;
            anyhow::Ok(run)
        })?
    } else {
        run
    };
    let logit_scale = match &tower.weights {
        Weights::Tensors(named) => named.logit_scale,
        Weights::Onnx(_) => None,
    };
    let padding = choice.family_padding(model.width());
    Ok(Prepared { name: tower.name.clone(), model, outputs, words, padding, logit_scale, run })
}

/// What a graph that was understood can give out. Its final norm is known if one of its outputs has it.
fn facts(model: &TextModel, own: &Outputs) -> Facts {
    Facts {
        layers: model.layers.len(),
        width: model.width(),
        final_norm: own.hidden_norm || own.pooled != Pooled::None,
        projection: model.projection.is_some(),
    }
}

/// Cuts the context; whether there was something to cut.
fn shorten(model: &mut TextModel, context: Option<usize>) -> Result<bool> {
    let positions = model.context();
    let Some(context) = context.filter(|context| *context != positions) else { return Ok(false) };
    ensure!(
        context >= 2,
        "a context of {context} tokens (--context) has no room for a start and an end token"
    );
    ensure!(
        context < positions,
        "a context of {context} tokens is wanted (--context), the model has {positions} positions"
    );
    let width = model.width();
    model.position_embedding.rows = context;
    model.position_embedding.values.truncate(context * width);
    Ok(true)
}
