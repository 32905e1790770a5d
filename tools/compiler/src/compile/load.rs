//! From a model's files to its towers in the intermediate representation: imported, changed as the user wants, and given the
//! outputs that are wanted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cliptext::tokenizer::Padding;

use crate::compile::check;
use crate::edit::Edits;
use crate::edit::words::Word;
use crate::import::{onnx, safetensors};
use crate::ir::{Outputs, Pooled, TextModel};
use crate::preset::{Choice, Facts, Preset};
use crate::progress::Progress;
use crate::recognise::{Recognised, recognise};
use crate::source::{self, NamedTower, Source, SourceTower, Weights};
use crate::tract::run::F32Run;
use crate::tract::tower;
use crate::verify::reference::Reference;

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

/// A model with its towers.
pub struct LoadedModel {
    /// What stands at the path.
    pub source: Source,
    /// What was chosen, the family included.
    pub choice: Choice,
    /// In the order of their outputs.
    pub towers: Vec<LoadedTower>,
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
    pub fn select<'s>(&self, source: &'s Source, choice: &Choice) -> Result<Vec<&'s SourceTower>> {
        let towers = select(source, self.tower.as_deref(), choice.preset)?;
        same_context(&towers, choice.context)?;
        Ok(towers)
    }

    /// Loads the towers and changes them.
    ///
    /// # Errors
    /// When the weights can't be imported, are no CLIP text encoder, or haven't what is wanted (the message names the file),
    /// and when the edits don't fit them all.
    pub fn load_towers(
        &self,
        towers: &[&SourceTower],
        choice: &Choice,
        progress: &Progress,
    ) -> Result<Vec<LoadedTower>> {
        let mut loaded = Vec::new();
        for tower in towers {
            let path = tower.path().display().to_string();
            loaded.push(load(tower, choice, &self.edits, progress).with_context(|| path)?);
        }
        self.edits.leftovers(loaded.iter().map(|tower| &tower.model), |note| progress.note(note))?;
        let same = loaded.windows(2).all(|pair| pair[0].words == pair[1].words);
        ensure!(
            same,
            "the text towers have token embeddings of different lengths, so new words can't have the same ids in both"
        );
        Ok(loaded)
    }

    /// All of it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), [`select`](Self::select) and [`load_towers`](Self::load_towers).
    pub fn load(&self, progress: &Progress) -> Result<LoadedModel> {
        let (source, choice) = self.open(progress)?;
        let towers = self.load_towers(&self.select(&source, &choice)?, &choice, progress)?;
        Ok(LoadedModel { source, choice, towers })
    }
}

/// The towers that the plan is made of.
fn select<'s>(
    source: &'s Source,
    name: Option<&str>,
    preset: Option<Preset>,
) -> Result<Vec<&'s SourceTower>> {
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
fn same_context(towers: &[&SourceTower], context: Option<usize>) -> Result<()> {
    let positions = |tower: &&SourceTower| match &tower.weights {
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

/// A tower with all that a plan needs of it.
pub struct LoadedTower {
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
    /// tract's run of the graph that the model came as, where the model still is that graph's.
    exported: Option<F32Run>,
}

impl LoadedTower {
    /// What the f32 model computes of the token ids `prompts`, by tract; with the residual stream's `states` if they are
    /// wanted. An exported graph's run, which holds all weights once more, is gone when this returns.
    ///
    /// # Errors
    /// When tract cannot run the model, or an output can't be had.
    pub fn reference(&mut self, prompts: Vec<Vec<u32>>, states: bool) -> Result<Reference> {
        let answers = match self.exported.take().filter(|_| !states) {
            Some(run) => prompts.iter().map(|ids| run.encode(ids)).collect::<Result<_>>()?,
            None => tower::compute(&self.model, &self.outputs, &prompts, states)?,
        };
        Reference::new(&self.model, &self.outputs, prompts, answers)
    }
}

/// Imports `tower` and makes of it what `choice` and `edits` ask for.
fn load(tower: &SourceTower, choice: &Choice, edits: &Edits, progress: &Progress) -> Result<LoadedTower> {
    let mut loaded = match &tower.weights {
        Weights::Tensors(named) => named_tower(tower, named, choice, progress)?,
        Weights::Onnx(path) => graph(tower, path, choice, progress)?,
    };
    let model = &mut loaded.model;
    loaded.words = edits.apply(model, |note| progress.note(note))?;
    let shortened = shorten(model, choice.context)?;
    check::finite(model.tensors())?;
    if !edits.is_empty() || shortened {
        loaded.exported = None;
    }
    Ok(loaded)
}

/// The tower of named tensors: their names say what each is.
fn named_tower(
    tower: &SourceTower,
    named: &NamedTower,
    choice: &Choice,
    progress: &Progress,
) -> Result<LoadedTower> {
    let NamedTower { tensors, location, shape, logit_scale, .. } = named;
    let projection = shape.projected.is_some();
    let facts = Facts { layers: shape.layers, width: shape.width, final_norm: true, projection };
    let outputs = choice.outputs(&facts, shape.outputs())?;
    let model =
        progress.stage("read the tensors", || safetensors::load(tensors, location, shape, &outputs))?;
    Ok(LoadedTower {
        name: tower.name.clone(),
        padding: choice.family_padding(model.width()),
        model,
        outputs,
        words: vec![],
        logit_scale: *logit_scale,
        exported: None,
    })
}

/// The tower of a graph, which has to be recognised: what was understood is held against tract's run of the graph itself.
fn graph(tower: &SourceTower, path: &Path, choice: &Choice, progress: &Progress) -> Result<LoadedTower> {
    let imported = progress.stage("import: load, type, fold, declutter", || onnx::load(path))?;
    let Recognised { model, outputs: own, outlets } = progress
        .stage("recognise", || recognise(&imported.model))
        .context("not a CLIP text encoder that can be compiled")?;
    check::finite(model.tensors())?;
    let run = progress.stage("check against tract's f32 run", || {
        let run = F32Run::new(imported, &outlets)?;
        check::recognised(&model, &own, &run)?;
        anyhow::Ok(run)
    })?;
    let outputs = choice.outputs(&facts(&model, &own), own)?;
    // A graph that nowhere has the hidden states of every token says nothing about them.
    let exported = (outputs == own && outlets.hidden.is_some()).then_some(run);
    Ok(LoadedTower {
        name: tower.name.clone(),
        padding: choice.family_padding(model.width()),
        model,
        outputs,
        words: vec![],
        logit_scale: None,
        exported,
    })
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
