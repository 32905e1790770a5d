//! Which activation a tower without a configuration has: known of the models that a file can be told to hold, assumed of others.

use super::naming::{Location, Naming};
use crate::ir::Activation;
use crate::tensors::Tensors;

/// What the shapes tell.
pub struct Facts {
    /// Layers in the file.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Rows of the position embedding.
    pub context: usize,
    /// Rows of the projection.
    pub projected: Option<usize>,
}

/// What prefixes of checkpoints say: the text encoders that Stable Diffusion was trained with.
const CHECKPOINTS: [(&str, Naming, Activation); 7] = [
    ("cond_stage_model.transformer.", Naming::HuggingFace, Activation::QuickGelu),
    ("cond_stage_model.model.", Naming::OpenClip, Activation::Gelu),
    ("conditioner.embedders.", Naming::HuggingFace, Activation::QuickGelu),
    ("conditioner.embedders.", Naming::OpenClip, Activation::Gelu),
    ("text_encoders.clip_l.", Naming::HuggingFace, Activation::QuickGelu),
    ("text_encoders.clip_g.", Naming::HuggingFace, Activation::Gelu),
    ("text_encoders.clip_h.", Naming::HuggingFace, Activation::Gelu),
];

/// Positions of Long-CLIP.
const LONG: usize = 248;

/// Width that OpenCLIP's H and bigG reach, and of OpenAI's models one alone.
const WIDE: usize = 1024;

/// The activation of the tower at `location`; a note where it is assumed.
pub fn of_published(tensors: &Tensors, location: &Location, facts: &Facts) -> (Activation, Option<String>) {
    let by_prefix = CHECKPOINTS
        .iter()
        .find(|(prefix, naming, _)| location.prefix.starts_with(prefix) && location.naming == *naming);
    if let Some((.., activation)) = by_prefix {
        return (*activation, None);
    }
    // OpenAI's archives hold their sizes. Its ResNets: 50 projects 512 to 1024, 50x64 has a width of 1024 in 12 layers, where
    // OpenCLIP's H has 24. Long-CLIP was trained from OpenAI's; others
    // have made a bigG as long from OpenCLIP's.
    let archive = tensors.contains(&format!("{}input_resolution", location.outer()));
    let resnet = matches!((facts.width, facts.layers, facts.projected), (512, _, Some(1024)) | (WIDE, 12, _));
    let extended = location.extended_positions().is_some_and(|name| tensors.contains(&name));
    let long = (facts.context == LONG || extended) && facts.width < WIDE;
    if archive || resnet || long {
        return (Activation::QuickGelu, None);
    }
    let (assumed, whose, others) = if facts.width < WIDE {
        (Activation::QuickGelu, "OpenAI's, MetaCLIP's and DFN's models", "gelu (LAION's have it)")
    } else {
        (Activation::Gelu, "LAION's H and bigG", "quick-gelu (MetaCLIP's and DFN's have it)")
    };
    let note = format!(
        "{}: no configuration says which activation it has, and how many heads: {assumed} is assumed, as in {whose}, and heads \
         of 64 channels, as in all published models. If it is another, say --act {others}, or put the model's config.json or \
         open_clip_config.json beside the file",
        tensors.path().display()
    );
    (assumed, Some(note))
}
