//! What the families of models take from their text towers, and how a user says otherwise.

use std::fmt;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use cliptext::tokenizer::Padding;

use crate::ir::{Activation, Outputs, Pooled};

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Stable Diffusion 1: last hidden states with the final norm
    Sd1,
    /// Stable Diffusion 2: penultimate hidden states with the final norm, padded with 0
    Sd2,
    /// Stable Diffusion XL: penultimate hidden states of both encoders without final norm, pooled projection of the second
    Sdxl,
    /// Stable Diffusion 3: penultimate hidden states and pooled projections of both encoders
    Sd3,
    /// Flux: the pooled row
    Flux,
    /// Zero-shot classification and retrieval: projection of length 1
    Clip,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preset::Sd1 => "sd1",
            Preset::Sd2 => "sd2",
            Preset::Sdxl => "sdxl",
            Preset::Sd3 => "sd3",
            Preset::Flux => "flux",
            Preset::Clip => "clip",
        })
    }
}

/// Which hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// After the last layer.
    Last,
    /// After the last but one: "clip skip 2".
    Penultimate,
    /// After this many layers.
    After(usize),
}

/// What a user chose; what is `None` is as the preset says, or as the model's own class gives it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The family.
    pub preset: Option<Preset>,
    /// Which hidden states.
    pub hidden: Option<Hidden>,
    /// Whether the final norm is on them.
    pub final_norm: Option<bool>,
    /// The pooled output.
    pub pooled: Option<Pooled>,
    /// Whether the pooled output is divided by its length.
    pub normalize: Option<bool>,
    /// What fills the context.
    pub padding: Option<Padding>,
    /// Tokens of the context, where less than the model has positions.
    pub context: Option<usize>,
    /// The activation that the layers have, where the files don't tell.
    pub activation: Option<Activation>,
}

/// What a model can give out.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Whether its final norm is known.
    pub final_norm: bool,
    /// Whether its projection is known.
    pub projection: bool,
}

/// Layers of the text tower that Stable Diffusion 2 was trained with, and its width. Its own repository holds one layer
/// less: the one that it does not use.
const SD2: (usize, usize) = (24, 1024);

/// Width of OpenCLIP's bigG, the second of two encoders.
pub const BIG_G: usize = 1280;

impl Choice {
    /// The outputs wanted of a model, given those of its own class.
    ///
    /// # Errors
    /// When the model hasn't what is wanted.
    pub fn outputs(&self, facts: &Facts, own: Outputs) -> Result<Outputs> {
        let second = facts.width >= BIG_G;
        let penultimate = facts.layers.saturating_sub(1);
        let mut wanted = own;
        let mut set = |layer, norm, pooled, normalized| {
            wanted = Outputs { hidden_layer: layer, hidden_norm: norm, pooled, normalized, ..own };
        };
        match self.preset {
            None => {}
            Some(Preset::Sd1) => set(facts.layers, true, Pooled::EndToken, false),
            Some(Preset::Sd2) if (facts.layers + 1, facts.width) == SD2 => {
                set(facts.layers, true, Pooled::None, false);
            }
            Some(Preset::Sd2) => set(penultimate, true, Pooled::None, false),
            Some(Preset::Sdxl) if second => set(penultimate, false, Pooled::Projected, false),
            Some(Preset::Sdxl) => set(penultimate, false, Pooled::None, false),
            Some(Preset::Sd3) => set(penultimate, false, Pooled::Projected, false),
            Some(Preset::Flux) => set(facts.layers, true, Pooled::EndToken, false),
            Some(Preset::Clip) => set(facts.layers, true, Pooled::Projected, true),
        }
        match self.hidden {
            None => {}
            Some(Hidden::Last) => wanted.hidden_layer = facts.layers,
            Some(Hidden::Penultimate) => wanted.hidden_layer = penultimate,
            Some(Hidden::After(layer)) => {
                wanted.hidden_layer = layer;
            }
        }
        ensure!(
            (1..=facts.layers).contains(&wanted.hidden_layer),
            "hidden states after layer {} are wanted{}, the model has {} layers",
            wanted.hidden_layer,
            if self.hidden.is_some() { " (--hidden)".into() } else { self.by_preset() },
            facts.layers
        );
        wanted.hidden_norm = self.final_norm.unwrap_or(wanted.hidden_norm);
        wanted.pooled = self.pooled.unwrap_or(wanted.pooled);
        wanted.normalized = self.normalize.unwrap_or(wanted.normalized) && wanted.pooled != Pooled::None;
        if wanted.pooled == Pooled::Projected && !facts.projection {
            bail!(
                "the projection of the end token's row is wanted{}, the model has none: take the model with projection, or \
                 --pooled eos",
                self.by_preset()
            );
        }
        let normed = wanted.hidden_norm || wanted.pooled != Pooled::None;
        ensure!(
            facts.final_norm || !normed,
            "the final norm is wanted{}, the graph has none: export it with the last hidden state as an output",
            self.by_preset()
        );
        Ok(wanted)
    }

    /// What fills the context of a tower of that width in the family, if there is one.
    pub fn family_padding(&self, width: usize) -> Option<Padding> {
        Some(match self.preset? {
            Preset::Sd2 => Padding::Id(0),
            Preset::Sdxl | Preset::Sd3 if width >= BIG_G => Padding::ZeroAfterEnd,
            _ => Padding::End,
        })
    }

    fn by_preset(&self) -> String {
        self.preset.map_or(String::new(), |preset| format!(" (preset {preset})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the UNets of each family were trained on, of text encoders as their repositories hold them.
    #[test]
    fn families_take_what_their_unets_expect() {
        let of = |layers, width, projection| Facts { layers, width, final_norm: true, projection };
        let (l, g) = (of(12, 768, true), of(32, 1280, true));
        let own = Outputs {
            hidden_layer: 1,
            hidden_norm: false,
            pooled: Pooled::None,
            normalized: false,
            end_token: 49407,
        };
        // Family, encoder; layer, norm, pooled, length 1; padding.
        let (none, eos, projected) = (Pooled::None, Pooled::EndToken, Pooled::Projected);
        for (preset, facts, layer, norm, pooled, unit, padding) in [
            (Preset::Sd1, of(12, 768, false), 12, true, eos, false, Padding::End),
            // OpenCLIP's 24 layers in a checkpoint; in the repository the last, which is not used, is left out.
            (Preset::Sd2, of(24, 1024, true), 23, true, none, false, Padding::Id(0)),
            (Preset::Sd2, of(23, 1024, false), 23, true, none, false, Padding::Id(0)),
            (Preset::Sdxl, l, 11, false, none, false, Padding::End),
            (Preset::Sdxl, g, 31, false, projected, false, Padding::ZeroAfterEnd),
            (Preset::Sd3, l, 11, false, projected, false, Padding::End),
            (Preset::Sd3, g, 31, false, projected, false, Padding::ZeroAfterEnd),
            (Preset::Flux, l, 12, true, eos, false, Padding::End),
            (Preset::Clip, l, 12, true, projected, true, Padding::End),
        ] {
            let choice = Choice { preset: Some(preset), ..Choice::default() };
            let wanted = Outputs { hidden_layer: layer, hidden_norm: norm, pooled, normalized: unit, ..own };
            assert_eq!(choice.outputs(&facts, own).expect("it has all"), wanted, "{preset} {facts:?}");
            assert_eq!(choice.family_padding(facts.width), Some(padding), "{preset} {facts:?}");
        }
        assert_eq!(Choice::default().outputs(&l, own).expect("its own"), own);
        assert_eq!(Choice::default().family_padding(768), None);
    }

    /// A graph whose outputs are without final norm does not tell that norm.
    #[test]
    fn a_norm_that_is_not_known_can_t_be_had() {
        let facts = Facts { layers: 11, width: 768, final_norm: false, projection: false };
        let choice = Choice { preset: Some(Preset::Sd1), ..Choice::default() };
        let own = Outputs {
            hidden_layer: 11,
            hidden_norm: false,
            pooled: Pooled::None,
            normalized: false,
            end_token: 49407,
        };
        let error = choice.outputs(&facts, own).expect_err("no norm").to_string();
        assert!(error.contains("final norm") && error.contains("preset sd1"), "{error}");
    }
}
