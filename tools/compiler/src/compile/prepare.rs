//! A tower made ready to be quantized: imported, understood, checked against tract, and given the outputs that are wanted.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cliptext::tokenizer::Padding;

use crate::compile::check;
use crate::edit::Edits;
use crate::edit::words::Word;
use crate::ir::{Outputs, Pooled, TextModel};
use crate::preset::{Choice, Facts, Preset};
use crate::progress::Progress;
use crate::recognise::{Recognised, recognise};
use crate::source::{self, Source, Tower, Weights};
use crate::tract::graph;
use crate::tract::run::F32Run;

/// A model and what a user wants of it.
#[derive(Debug)]
pub struct Spec {
    /// A file, a folder, or a name on the hub.
    pub path: PathBuf,
    /// What the user called it.
    pub name: String,
    /// The one text tower to take, by its name, where there are several.
    pub tower: Option<String>,
    /// What comes out.
    pub choice: Choice,
    /// What to change in the model first.
    pub edits: Edits,
}

/// A model's towers, ready.
pub struct Model {
    /// What stands at the path.
    pub source: Source,
    /// What was chosen, the family included.
    pub choice: Choice,
    /// In the order of their outputs.
    pub towers: Vec<Prepared>,
}

impl Spec {
    /// Looks at the path; tells the choice with the family that was found.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open(&self, progress: &Progress) -> Result<(Source, Choice)> {
        let source = source::open(&self.path, self.choice.activation, progress)?;
        source.notes.iter().for_each(|note| progress.note(note));
        if let (Some(said), Some(found)) = (self.choice.preset, source.preset)
            && said != found
        {
            progress.note(&format!(
                "{} looks like {found}, and is compiled as {said} since --preset says so",
                self.name
            ));
        }
        let choice = Choice { preset: self.choice.preset.or(source.preset), ..self.choice };
        Ok((source, choice))
    }

    /// The towers that a plan is made of.
    ///
    /// # Errors
    /// When it isn't clear which.
    pub fn select<'s>(&self, source: &'s Source, choice: &Choice) -> Result<Vec<&'s Tower>> {
        let towers = select(source, self.tower.as_deref(), choice.preset)?;
        same_context(&towers, choice.context)?;
        Ok(towers)
    }

    /// Makes the towers ready.
    ///
    /// # Errors
    /// As [`prepare`], and when the edits don't fit them all.
    pub fn prepare_all(
        &self,
        towers: &[&Tower],
        choice: &Choice,
        progress: &Progress,
    ) -> Result<Vec<Prepared>> {
        let mut prepared = Vec::new();
        for tower in towers {
            prepared.push(prepare(tower, choice, &self.edits, progress)?);
        }
        self.edits.leftovers(prepared.iter().map(|tower| &tower.model), |note| progress.note(note))?;
        let same = prepared.windows(2).all(|pair| pair[0].words == pair[1].words);
        ensure!(
            same,
            "the text towers have token embeddings of different lengths, so new words can't have the same ids in both"
        );
        Ok(prepared)
    }

    /// All of it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), [`select`](Self::select) and [`prepare_all`](Self::prepare_all).
    pub fn prepare(&self, progress: &Progress) -> Result<Model> {
        let (source, choice) = self.open(progress)?;
        let towers = self.prepare_all(&self.select(&source, &choice)?, &choice, progress)?;
        Ok(Model { source, choice, towers })
    }
}

/// The towers that the plan is made of.
fn select<'s>(source: &'s Source, name: Option<&str>, preset: Option<Preset>) -> Result<Vec<&'s Tower>> {
    let names = || source.towers.iter().map(|tower| tower.name.as_str()).collect::<Vec<_>>().join(", ");
    let path = source.path.display();
    if let Some(name) = name {
        let found = source.towers.iter().find(|tower| tower.name == name);
        let found = found
            .with_context(|| format!("{path}: no text encoder is called {name:?}; there are {}", names()))?;
        return Ok(vec![found]);
    }
    match (source.towers.len(), preset) {
        (1, _) | (2, Some(Preset::Sdxl | Preset::Sd3)) => Ok(source.towers.iter().collect()),
        // These take the first encoder's outputs, whatever is beside it.
        (_, Some(Preset::Flux | Preset::Sd1)) => Ok(source.towers.iter().take(1).collect()),
        _ => bail!(
            "{path}: several text encoders are in it ({}): say what they are for with --preset sdxl or sd3, or take one with \
             --tower NAME",
            names()
        ),
    }
}

/// Refuses towers whose contexts differ, where `context` does not cut them to one length: Long-CLIP beside bigG.
fn same_context(towers: &[&Tower], context: Option<usize>) -> Result<()> {
    let positions = |tower: &&Tower| match &tower.weights {
        Weights::Tensors(named) => Some((tower.name.clone(), named.shape.context)),
        Weights::Onnx(_) => None,
    };
    let known: Vec<(String, usize)> = towers.iter().filter_map(positions).collect();
    let least = known.iter().map(|(_, positions)| *positions).min();
    let (Some(least), None) = (least, context) else { return Ok(()) };
    if known.iter().any(|(_, positions)| *positions != least) {
        let all: Vec<String> = known.iter().map(|(name, tokens)| format!("{name} takes {tokens}")).collect();
        bail!(
            "the text encoders take different numbers of tokens ({}), a plan has one context for all: cut it with --context \
             {least}",
            all.join(", ")
        );
    }
    Ok(())
}

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
    let recognised = progress
        .stage("recognise", || recognise(&imported.model))
        .with_context(|| format!("{path}: not a CLIP text encoder that can be compiled"))?;
    check::finite(&recognised.model).with_context(|| path.clone())?;
    let run = progress.stage("check against tract's f32 run", || {
        let run = F32Run::new(imported, &recognised)?;
        check::recognised(&recognised.model, &recognised.outputs, &run)?;
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
    check::finite(&model).with_context(|| path.clone())?;
    let shortened = shorten(&mut model, choice.context).with_context(|| path.clone())?;
    let run = if !edits.is_empty() || shortened || outputs != own {
        drop(run);
        progress.stage("rebuild with what was chosen", || {
            let run = F32Run::built(graph::build(model.clone(), &outputs)?, outputs.pooled != Pooled::None)?;
            check::recognised(&model, &outputs, &run)?;
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
