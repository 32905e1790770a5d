//! `cliptext verify`: a plan against the f32 model that it was made from, on prompts that nothing was calibrated on.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cliptext::plan::Step;
use cliptext::threads::Solo;
use cliptext::tokenizer::{Padding, Tokenizer};
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};
use serde::Serialize;

pub mod compare;
pub mod decibels;
pub mod figures;
pub mod trial;
pub mod unet;

use crate::ir::{Matrix, Outputs, Pooled, TextModel};
use crate::progress::Progress;
use crate::tract::graph;
use crate::tract::run::{Computed, F32Run};
use crate::verify::compare::{Comparison, Quality};
use crate::verify::decibels::Decibels;
use figures::{Figures, LayerFigures, PromptFigures, Sums};
use unet::{Unet, UnetFigures};

/// Channels that are listed.
const CHANNELS: usize = 16;

/// What a verification tells.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The kernels that it ran with.
    pub kernels: &'static str,
    /// Distances.
    pub figures: Figures,
    /// What it does to a UNet's output, where one was given.
    pub unet: Option<UnetFigures>,
    /// Bytes and milliseconds of each step.
    pub steps: Vec<StepFigures>,
    /// Bytes of the plan's file.
    pub plan_bytes: usize,
}

/// A step's size and time.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    /// What it does.
    pub name: &'static str,
    /// The tower's number, and the layer it belongs to, from 1; 0 before the first.
    pub tower: usize,
    /// As `tower`.
    pub layer: usize,
    /// Bytes of its constants.
    pub bytes: usize,
    /// Median milliseconds at one thread on this machine.
    pub ms: f64,
}

/// A text tower's f32 reference: tract's run, with the states of the residual stream.
pub struct Reference {
    run: F32Run,
    layers: usize,
    width: usize,
    columns: usize,
}

impl Reference {
    /// The reference for a tower as the plan has it. Takes the model, whose weights the run repacks.
    ///
    /// # Errors
    /// When an output can't be had, or tract fails.
    pub fn new(model: TextModel, outputs: &Outputs) -> Result<Self> {
        let pools = outputs.pooled != Pooled::None;
        let (layers, width) = (outputs.layers(model.layers.len()), model.width());
        let columns = model.pooled_columns(outputs).unwrap_or(0);
        let run = F32Run::built(graph::build_with_states(model, outputs)?, pools)?;
        Ok(Reference { run, layers, width, columns })
    }
}

/// Compares the plan in `bytes` with `references`, one for each of its towers, on `prompts`; with a UNet if there is one.
///
/// # Errors
/// When the plan does not load or is not of these towers, or tract fails.
pub fn verify(
    bytes: &[u8],
    references: &[Reference],
    prompts: &[String],
    unet: Option<&Path>,
    progress: &Progress,
) -> Result<Verification> {
    let plan = Plan::load(bytes)?;
    same_towers(&plan, references)?;
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo)?;
    let mut run = Run::new(&plan, references)?;
    let mut embeddings = Vec::new();
    progress.stage(&format!("compare on {} prompts", prompts.len()), || {
        prompts.iter().try_for_each(|prompt| {
            embeddings.push(run.prompt(&mut encoder, prompt)?);
            anyhow::Ok(())
        })
    })?;
    let unet = match unet {
        Some(path) => Some(progress.stage("run the UNet with both embeddings", || {
            Unet::load(path, plan.context(), plan.width())?.compare(&embeddings)
        })?),
        None => None,
    };
    Ok(Verification {
        kernels: kernels.name(),
        figures: run.figures()?,
        unet,
        steps: steps(&plan, &mut encoder),
        plan_bytes: bytes.len(),
    })
}

/// Whether the plan's towers are the references'.
fn same_towers(plan: &Plan<'_>, references: &[Reference]) -> Result<()> {
    let theirs: Vec<(usize, usize)> =
        references.iter().map(|reference| (reference.layers, reference.width)).collect();
    let ours: Vec<(usize, usize)> = plan.towers().map(|tower| (tower.layers, tower.width)).collect();
    let columns: usize = references.iter().map(|reference| reference.columns).sum();
    let pooled = plan.manifest().pooled.map_or(0, |rows| rows.columns as usize);
    ensure!(
        ours == theirs && pooled == columns,
        "the plan has (layers, width) {ours:?} and {pooled} pooled columns, the model as it is chosen here {theirs:?} and \
         {columns}: give the options that the plan was compiled with (--preset, --hidden, --pooled, --tower)"
    );
    Ok(())
}

/// Sums in the making.
struct Run<'a> {
    tokenizers: Vec<Tokenizer<'a>>,
    references: &'a [Reference],
    /// Of each tower, the sums of each state.
    states: Vec<Vec<Sums>>,
    hidden: Sums,
    pooled: Comparison,
    prompts: Vec<PromptFigures>,
}

impl<'a> Run<'a> {
    fn new(plan: &Plan<'a>, references: &'a [Reference]) -> Result<Self> {
        let tokenizer =
            |padding: Padding| Tokenizer::new(*plan.tokenizer().vocabulary(), plan.context(), padding);
        let tokenizers = plan.towers().map(|tower| tokenizer(tower.padding)).collect::<Result<_, _>>()?;
        let states = references.iter().map(|r| vec![Sums::new(r.width); r.layers + 1]).collect();
        Ok(Run {
            tokenizers,
            references,
            states,
            hidden: Sums::new(plan.width()),
            pooled: Comparison::default(),
            prompts: vec![],
        })
    }

    /// Adds a prompt; returns both embeddings, the plan's first.
    fn prompt(&mut self, encoder: &mut Encoder<'_>, prompt: &str) -> Result<[Vec<f32>; 2]> {
        let mut theirs = Vec::new();
        for (reference, tokenizer) in self.references.iter().zip(&self.tokenizers) {
            theirs.push(reference.run.encode(tokenizer.encode(prompt).ids())?);
        }
        let states = &mut self.states;
        let ours = encoder.encode_observed(prompt, |observed| {
            let tower = usize::from(observed.step.role.tower);
            if let Some(layer) = observed.step.completes_layer()
                && let Some(sums) = states.get_mut(tower).and_then(|states| states.get_mut(layer))
            {
                // Without the first row, which some plans do not compute, and which outweighs the others.
                let reference = &theirs[tower].states[layer];
                let skipped = if observed.first == 0 { reference.cols } else { 0 };
                sums.add(1, &observed.values[skipped..], &reference.values);
            }
        });
        let reference = side_by_side(&theirs);
        self.hidden.add(0, ours.hidden(), &reference);
        let pooled: Vec<f32> =
            theirs.iter().flat_map(|computed| computed.pooled.iter().flatten()).copied().collect();
        if let Some(ours) = ours.pooled() {
            self.pooled.add(ours, &pooled, pooled.len());
        }
        let mut alone = Comparison::default();
        alone.add(ours.hidden(), &reference, ours.width());
        let quality = alone.quality().context("a prompt without tokens")?;
        let tokens = self.tokenizers.first().map_or(0, |tokenizer| tokenizer.encode(prompt).len());
        let (sqnr_db, cosine_min) = (quality.sqnr_db, quality.cosine_min);
        self.prompts.push(PromptFigures { prompt: prompt.to_owned(), tokens, sqnr_db, cosine_min });
        Ok([ours.hidden().to_vec(), reference])
    }

    fn figures(mut self) -> Result<Figures> {
        let mut layers = Vec::new();
        for (tower, states) in self.states.iter().enumerate() {
            for (layer, sums) in states.iter().enumerate() {
                let quality = sums.quality().context("the plan has fewer layers than its manifest says")?;
                layers.push(LayerFigures {
                    tower,
                    layer,
                    sqnr_db: quality.sqnr_db,
                    prompt_specific_db: sums.prompt_specific_db(),
                    cosine_mean: quality.cosine_mean,
                });
            }
        }
        self.prompts.sort_by(|a, b| a.sqnr_db.worst_first(&b.sqnr_db));
        let mut channels = self.hidden.by_channel();
        channels.truncate(CHANNELS);
        Ok(Figures {
            hidden: self.hidden.quality().context("no prompts to compare on")?,
            prompt_specific_db: self.hidden.prompt_specific_db(),
            pooled: self.pooled.quality(),
            layers,
            positions: self.hidden.by_position(),
            prompts: self.prompts,
            channels,
        })
    }
}

/// The towers' hidden states joined as the plan joins them: `[context, all widths]`.
fn side_by_side(theirs: &[Computed]) -> Vec<f32> {
    let hidden: Vec<&Matrix> = theirs.iter().filter_map(|computed| computed.hidden.as_ref()).collect();
    let rows = hidden.first().map_or(0, |matrix| matrix.rows);
    (0..rows).flat_map(|row| hidden.iter().flat_map(move |matrix| matrix.row(row))).copied().collect()
}

/// Encodings that each step's time is the median of.
const RUNS: usize = 9;

fn steps(plan: &Plan<'_>, encoder: &mut Encoder<'_>) -> Vec<StepFigures> {
    let mut times: Vec<Vec<f64>> = vec![vec![]; plan.step_count()];
    for _ in 0..RUNS {
        let mut last = Instant::now();
        encoder.encode_observed("a running dog", |observed| {
            let now = Instant::now();
            times[observed.index].push((now - last).as_secs_f64() * 1e3);
            last = now;
        });
    }
    let figures = |(step, mut times): (Step, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        StepFigures {
            name: step.name(),
            tower: step.role.tower.into(),
            layer: step.role.layer.into(),
            bytes: step.constant_bytes().unwrap_or_default() as usize,
            ms: times[times.len() / 2],
        }
    };
    plan.steps().zip(times).map(figures).collect()
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let Quality { cosine_mean, cosine_min, sqnr_db } = figures.hidden;
        writeln!(
            f,
            "  hidden states, {} prompts, all {} tokens",
            figures.prompts.len(),
            figures.positions.len()
        )?;
        writeln!(f, "    SQNR {sqnr_db:.2} dB, cosine mean {cosine_mean:.5}, min {cosine_min:.5}")?;
        if let Some(specific) = figures.prompt_specific_db {
            writeln!(f, "    prompt-specific SQNR {specific:.2} dB")?;
        }
        if let Some(Quality { cosine_mean, cosine_min, sqnr_db }) = figures.pooled {
            writeln!(f, "  pooled")?;
            writeln!(f, "    SQNR {sqnr_db:.2} dB, cosine mean {cosine_mean:.5}, min {cosine_min:.5}")?;
        }
        writeln!(f, "  residual stream without the first row, dB (prompt-specific dB)")?;
        for layer in &figures.layers {
            let specific = layer.prompt_specific_db.map_or(String::new(), |db| format!(" ({db:.1})"));
            let tower = if layer.tower > 0 { format!("tower {}, ", layer.tower + 1) } else { String::new() };
            writeln!(f, "    {tower}layer {:<3} {:>6.1}{specific}", layer.layer, layer.sqnr_db)?;
        }
        let at = |position: usize| figures.positions.get(position).copied().unwrap_or(Decibels(f64::NAN));
        let last = figures.positions.len().saturating_sub(1);
        let (least, worst) = figures
            .positions
            .iter()
            .enumerate()
            .min_by(|a, b| a.1.worst_first(b.1))
            .map_or((0, Decibels(f64::NAN)), |(position, db)| (position, *db));
        writeln!(
            f,
            "  positions: the first {:.1} dB, the second {:.1}, the last {:.1}, the worst {worst:.1} at {least}",
            at(0),
            at(1),
            at(last)
        )?;
        writeln!(f, "  prompts, the worst first")?;
        for prompt in figures.prompts.iter().take(5) {
            let text: String = prompt.prompt.chars().take(70).collect();
            writeln!(f, "    {:>6.1} dB, cosine min {:.5}  {text:?}", prompt.sqnr_db, prompt.cosine_min)?;
        }
        if let Some(unet) = &self.unet {
            writeln!(f, "  UNet's output, {} runs", unet.runs)?;
            writeln!(
                f,
                "    SQNR {:.2} dB; of what the prompt changes {:.2} dB",
                unet.sqnr_db, unet.guidance_sqnr_db
            )?;
        }
        write!(f, "  measured with the kernels {}", self.kernels)
    }
}
