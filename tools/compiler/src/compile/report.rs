//! What a compile ends with.

use std::fmt;

use cliptext::tokenizer::Padding;
use serde::Serialize;

use crate::backend::emit::Emitted;
use crate::compile::load::LoadedTower;
use crate::ir::Pooled;
use crate::quantize::Smoothed;
use crate::verify::compare::Quality;
use crate::verify::figures::TowerFigures;
use crate::verify::verification::Verification;

/// Everything that a compile has to tell.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model, as the user named it.
    pub model: String,
    /// What was found there.
    pub kind: String,
    /// The family of models whose conventions the outputs follow.
    pub preset: Option<String>,
    /// The plan's file.
    pub plan: String,
    /// How weights are stored.
    pub precision: &'static str,
    /// The text towers, in the order of their columns in the outputs.
    pub towers: Vec<TowerReport>,
    /// Bytes of the plan and its parts.
    pub bytes: Bytes,
    /// Prompts on which the plan was compared with tract's f32 run, all tokens of each.
    pub prompts: usize,
    /// Where the error arises, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// What smoothing did in each tower; the page shows it.
    #[serde(skip)]
    pub smoothed: Vec<Vec<Smoothed>>,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// A text tower: its sizes, what the plan gives out of it, and how close that is to f32.
#[derive(Clone, Debug, Serialize)]
pub struct TowerReport {
    /// What to call it.
    pub name: String,
    /// Layers that the outputs need.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Heads in each layer.
    pub heads: usize,
    /// Tokens of the context.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// The layer after which the hidden states are taken.
    pub hidden_layer: usize,
    /// Whether the final norm is applied to them.
    pub hidden_norm: bool,
    /// Columns of the pooled output, where there is one.
    pub pooled: Option<usize>,
    /// What the pooled output is: `eos`, `projected`, `projected, length 1`.
    pub pooled_kind: Option<&'static str>,
    /// What fills the context.
    pub padding: String,
    /// Hidden states against f32.
    pub hidden_quality: Option<Quality>,
    /// Pooled output against f32.
    pub pooled_quality: Option<Quality>,
}

impl TowerReport {
    /// What is known before the plan has run.
    pub fn new(tower: &LoadedTower, padding: Padding) -> Self {
        let (model, outputs) = (&tower.model, &tower.outputs);
        let layers = outputs.layers(model.layers.len());
        TowerReport {
            name: tower.name.clone(),
            layers,
            width: model.width(),
            heads: model.heads,
            context: model.context(),
            vocabulary: model.token_embedding.rows,
            hidden_layer: outputs.hidden_layer,
            hidden_norm: outputs.hidden_norm,
            pooled: model.pooled_columns(outputs),
            pooled_kind: match (outputs.pooled, outputs.normalized) {
                (Pooled::None, _) => None,
                (Pooled::EndToken, false) => Some("eos"),
                (Pooled::EndToken, true) => Some("eos, length 1"),
                (Pooled::Projected, false) => Some("projected"),
                (Pooled::Projected, true) => Some("projected, length 1"),
            },
            padding: padding.to_string(),
            hidden_quality: None,
            pooled_quality: None,
        }
    }

    /// The same with the figures of a run.
    pub fn measured(self, figures: TowerFigures) -> Self {
        TowerReport { hidden_quality: figures.hidden, pooled_quality: figures.pooled, ..self }
    }
}

/// Where the bytes are.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// The whole file.
    pub plan: usize,
    /// Linear weights with their scales and biases.
    pub weights: usize,
    /// Token and position tables.
    pub embeddings: usize,
    /// Norms.
    pub norms: usize,
    /// The vocabulary table.
    pub vocabulary: usize,
    /// RAM for one prompt.
    pub arena: usize,
}

impl Bytes {
    /// Of a plan that takes `arena` bytes of RAM for a prompt.
    pub(crate) fn of(emitted: &Emitted, arena: usize) -> Self {
        Self {
            plan: emitted.bytes.len(),
            weights: emitted.weights,
            embeddings: emitted.embeddings,
            norms: emitted.norms,
            vocabulary: emitted.vocabulary,
            arena,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} from {}, {}", self.plan, self.model, self.kind)?;
        if let Some(preset) = &self.preset {
            writeln!(f, "  preset      {preset}")?;
        }
        for tower in &self.towers {
            tower.fmt(f, self.prompts)?;
        }
        let mb = |bytes: usize| bytes as f64 / 1e6;
        let bytes = &self.bytes;
        writeln!(f, "  plan        {:>9.2} MB ({} weights)", mb(bytes.plan), self.precision)?;
        writeln!(f, "    weights   {:>9.2} MB", mb(bytes.weights))?;
        writeln!(f, "    tables    {:>9.2} MB tokens and positions", mb(bytes.embeddings))?;
        writeln!(f, "    norms     {:>9.2} MB", mb(bytes.norms))?;
        writeln!(f, "    vocabulary{:>9.2} MB", mb(bytes.vocabulary))?;
        writeln!(f, "  arena       {:>9.2} MB of RAM for a prompt", mb(bytes.arena))?;
        write!(f, "  {:.1} s", self.seconds)
    }
}

impl TowerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>, prompts: usize) -> fmt::Result {
        let TowerReport {
            name, layers, width, heads, context, vocabulary, hidden_layer, hidden_norm, ..
        } = self;
        writeln!(
            f,
            "  tower       {name}: {layers} layers, width {width}, {heads} heads, {context} tokens of {vocabulary}, padded with {}",
            self.padding
        )?;
        let norm = if *hidden_norm { "with" } else { "without" };
        writeln!(f, "    hidden    [{context}, {width}], after layer {hidden_layer}, {norm} the final norm")?;
        if let (Some(columns), Some(kind)) = (self.pooled, self.pooled_kind) {
            writeln!(f, "    pooled    [{columns}], {kind}")?;
        }
        for (what, quality) in [("hidden", self.hidden_quality), ("pooled", self.pooled_quality)] {
            let Some(Quality { cosine_mean, cosine_min, sqnr_db }) = quality else { continue };
            writeln!(
                f,
                "    {what}, against f32 on {prompts} prompts: cosine mean {cosine_mean:.5}, min {cosine_min:.5}; SQNR {sqnr_db:.1} dB"
            )?;
        }
        Ok(())
    }
}
