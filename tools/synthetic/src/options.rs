//! What a synthetic tower can vary in.

use crate::Error;

/// Shape, statistics and file conventions of a synthetic tower.
///
/// The default is the full-size model: the text tower of CLIP ViT-L/14 as Stable Diffusion 1.5 has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Names the random numbers; every seed is another model.
    pub seed: u64,
    /// Channels of the residual stream (`hidden_size`).
    pub width: usize,
    /// Transformer layers (`num_hidden_layers`).
    pub layers: usize,
    /// Attention heads (`num_attention_heads`); must divide the width.
    pub heads: usize,
    /// Neurons of each MLP (`intermediate_size`).
    pub mlp: usize,
    /// Rows of the token embedding (`vocab_size`).
    pub vocab: usize,
    /// Rows of the position embedding (`max_position_embeddings`).
    pub positions: usize,
    /// The MLP's activation (`hidden_act`); no tensor depends on it.
    pub activation: Activation,
    /// Outputs of `text_projection`; `None` makes a `CLIPTextModel` without one.
    pub projection: Option<usize>,
    /// What the weights are stored as.
    pub dtype: Dtype,
    /// Size of the two massive channels at the start token.
    pub massive: f64,
    /// `bos_token_id` in the configuration; no tensor depends on it.
    pub bos_token_id: u32,
    /// `eos_token_id` in the configuration; 2 asks for pooling at `argmax(ids)`. No tensor depends on it.
    pub eos_token_id: u32,
    /// How the tensors are called.
    pub names: Names,
    /// Whether the file has the int64 buffer `position_ids`, as Stable Diffusion 1.5's does.
    pub position_ids: bool,
}

/// The MLP's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`, OpenAI's models.
    QuickGelu,
    /// GELU by `erf`, OpenCLIP's models.
    Gelu,
}

/// What the weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision, rounded from single.
    F16,
}

/// How the tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `text_model.…`, as in published checkpoints.
    V4,
    /// As transformers 5 saves a `CLIPTextModel`: without `text_model.`. Models with a projection keep the prefix.
    V5,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            width: 768,
            layers: 12,
            heads: 12,
            mlp: 3072,
            vocab: 49408,
            positions: 77,
            activation: Activation::QuickGelu,
            projection: None,
            dtype: Dtype::F32,
            massive: 55.0,
            bos_token_id: 0,
            eos_token_id: 2,
            names: Names::V4,
            position_ids: false,
        }
    }
}

/// More parameters than this is taken for a mistyped option: the largest published tower has 0.7 billion.
const MOST_PARAMETERS: usize = 1 << 32;

impl Options {
    /// Whether a tower can be made of these.
    ///
    /// # Errors
    /// [`Error::Options`] says which option is wrong and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Options(why));
        let least = [
            ("width", self.width, 3), // two massive channels and one that carries an offset
            ("layers", self.layers, 1),
            ("heads", self.heads, 1),
            ("mlp", self.mlp, 2), // two neurons write the massive channels
            ("vocab", self.vocab, 2),
            ("positions", self.positions, 1),
            ("projection-dim", self.projection.unwrap_or(1), 1),
        ];
        for (option, value, least) in least {
            if value < least {
                return refuse(format!("{option} must be at least {least}, not {value}"));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return refuse(format!("width {} must be a multiple of heads {}", self.width, self.heads));
        }
        if !self.massive.is_finite() {
            return refuse(format!("massive must be a finite number, not {}", self.massive));
        }
        match self.parameters() {
            Some(count) if count <= MOST_PARAMETERS => Ok(()),
            _ => refuse(format!("these sizes make more than {MOST_PARAMETERS} parameters")),
        }
    }

    /// Weights, biases, gains and embeddings of the tower; `None` when the count overflows.
    fn parameters(&self) -> Option<usize> {
        let rows = self.vocab.checked_add(self.positions)?.checked_add(self.projection.unwrap_or(0))?;
        // Four attention matrices and two of the MLP, then eight vectors as wide as the residual stream.
        let layer_rows = self.width.checked_add(2)?.checked_mul(4)?.checked_add(self.mlp.checked_mul(2)?)?;
        let layers = layer_rows.checked_mul(self.width)?.checked_add(self.mlp)?.checked_mul(self.layers)?;
        rows.checked_add(2)?.checked_mul(self.width)?.checked_add(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_full_size_model() {
        assert!(Options::default().check().is_ok());
    }

    #[test]
    fn a_wrong_option_is_named() {
        let full = Options::default();
        for (options, named) in [
            (Options { heads: 7, ..full.clone() }, "multiple of heads 7"),
            (Options { width: 2, heads: 1, ..full.clone() }, "width"),
            (Options { layers: 0, ..full.clone() }, "layers"),
            (Options { heads: 0, ..full.clone() }, "heads"),
            (Options { projection: Some(0), ..full.clone() }, "projection-dim"),
            (Options { massive: f64::NAN, ..full.clone() }, "massive"),
            (Options { vocab: usize::MAX, ..full.clone() }, "parameters"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
