//! What a compile ends with.

use std::fmt;

use serde::Serialize;

use crate::emit::Emitted;
use crate::measure::Quality;

/// Everything that a compile has to tell.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's file.
    pub model: String,
    /// The plan's file.
    pub plan: String,
    /// How weights are stored.
    pub precision: &'static str,
    /// The text tower.
    pub tower: Tower,
    /// Bytes of the plan and its parts.
    pub bytes: Bytes,
    /// The plan against tract's f32 run.
    pub quality: Measured,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// A text tower's sizes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tower {
    /// Layers.
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

impl From<&Emitted> for Bytes {
    fn from(emitted: &Emitted) -> Self {
        Self {
            plan: emitted.bytes.len(),
            weights: emitted.weights,
            embeddings: emitted.embeddings,
            norms: emitted.norms,
            vocabulary: emitted.vocabulary,
            arena: emitted.arena,
        }
    }
}

/// The plan against the f32 model.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Prompts compared, all tokens of each.
    pub prompts: usize,
    /// Hidden states.
    pub hidden: Option<Quality>,
    /// Pooled output.
    pub pooled: Option<Quality>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tower { layers, width, heads, context, vocabulary, hidden_layer, hidden_norm, pooled } =
            self.tower;
        writeln!(f, "{} from {}", self.plan, self.model)?;
        writeln!(
            f,
            "  tower       {layers} layers, width {width}, {heads} heads, {context} tokens of {vocabulary}"
        )?;
        let norm = if hidden_norm { "with" } else { "without" };
        writeln!(f, "  hidden      [{context}, {width}], after layer {hidden_layer}, {norm} the final norm")?;
        if let Some(columns) = pooled {
            writeln!(f, "  pooled      [{columns}]")?;
        }
        let mb = |bytes: usize| bytes as f64 / 1e6;
        let bytes = &self.bytes;
        writeln!(f, "  plan        {:>9.2} MB ({} weights)", mb(bytes.plan), self.precision)?;
        writeln!(f, "    weights   {:>9.2} MB", mb(bytes.weights))?;
        writeln!(f, "    tables    {:>9.2} MB tokens and positions", mb(bytes.embeddings))?;
        writeln!(f, "    norms     {:>9.2} MB", mb(bytes.norms))?;
        writeln!(f, "    vocabulary{:>9.2} MB", mb(bytes.vocabulary))?;
        writeln!(f, "  arena       {:>9.2} MB of RAM for a prompt", mb(bytes.arena))?;
        let measured = &self.quality;
        for (what, quality) in [("hidden", measured.hidden), ("pooled", measured.pooled)] {
            let Some(Quality { cosine_mean, cosine_min, sqnr_db }) = quality else { continue };
            writeln!(
                f,
                "  {what}, against f32 on {} prompts: cosine mean {cosine_mean:.5}, min {cosine_min:.5}; SQNR {sqnr_db:.1} dB",
                measured.prompts
            )?;
        }
        write!(f, "  {:.1} s", self.seconds)
    }
}
