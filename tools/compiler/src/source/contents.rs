//! What a checkpoint is, by the names of its tensors.

use crate::import::safetensors::naming::Location;
use crate::preset::Preset;
use crate::tensors::Tensors;

use super::tower::SourceTower;

/// Whether a file holds a text tower alone, or a whole CLIP, so that the `config.json` in its folder describes it: the one
/// beside a checkpoint describes something larger. What all names in the file begin with, such as the `module.` of a
/// model that was trained in parallel, says nothing.
pub fn is_component(tensors: &Tensors, location: &Location) -> bool {
    let is_part = |prefix: &str| ["", "text_model.", "text."].contains(&prefix);
    let prefix = location.prefix.as_str();
    is_part(prefix) || prefix.strip_prefix(tensors.shared_prefix()).is_some_and(is_part)
}

/// The family of models that a file with text towers belongs to, and what to call such a file.
pub fn family(tensors: &Tensors, towers: &[SourceTower]) -> (Option<Preset>, &'static str) {
    let any = |start: &str| tensors.names().any(|name| name.starts_with(start));
    if any("conditioner.embedders.") {
        return (Some(Preset::Sdxl), "a Stable Diffusion XL checkpoint");
    }
    if any("cond_stage_model.model.") {
        return (Some(Preset::Sd2), "a Stable Diffusion 2 checkpoint");
    }
    if any("cond_stage_model.transformer.") {
        return (Some(Preset::Sd1), "a Stable Diffusion 1 checkpoint");
    }
    if any("text_encoders.") || any("te.") || any("te1.") {
        if any("model.diffusion_model.joint_blocks.") {
            return (Some(Preset::Sd3), "a Stable Diffusion 3 checkpoint");
        }
        if any("model.diffusion_model.double_blocks.") {
            return (Some(Preset::Flux), "a Flux checkpoint");
        }
        let preset = match towers.len() {
            2 => Some(Preset::Sdxl),
            _ => None,
        };
        return (preset, "a checkpoint with text encoders");
    }
    let shared = tensors.shared_prefix();
    if ["vision_model.", "visual."].iter().any(|tower| any(&format!("{shared}{tower}"))) {
        return (Some(Preset::Clip), "a whole CLIP");
    }
    (None, "a text encoder's weights")
}

/// What names of UNets and diffusion transformers begin with.
const DENOISERS: [&str; 6] = [
    "down_blocks.",
    "transformer_blocks.",
    "double_blocks.",
    "joint_blocks.",
    "input_blocks.",
    "model.diffusion_model.",
];

/// Whether these can be the tensors of a textual inversion: of A1111, for two encoders, or one that has the word's name.
fn is_inversion(names: &[&str]) -> bool {
    match names {
        [word] => !word.contains('.'),
        _ => names.iter().any(|name| ["emb_params", "clip_l", "clip_g"].contains(name)),
    }
}

/// Says what a file without a text tower holds, and what to give instead.
pub fn explain(tensors: &Tensors) -> String {
    let names: Vec<&str> = tensors.names().collect();
    let any = |part: &str| names.iter().any(|name| name.contains(part));
    let starts = |part: &str| names.iter().any(|name| name.starts_with(part));
    let found = if any("lora_") || any("lora.up") || any("lora_A") || any(".hada_w1_a") || any(".lokr_w1") {
        "it is a LoRA: give the model, and this with --lora"
    } else if is_inversion(&names) {
        "it may be a textual inversion: give the model, and this with --embedding NAME=FILE"
    } else if starts("encoder.block.") || starts("shared.weight") || any(".SelfAttention.") {
        "it is a T5 encoder, not CLIP's: in the same pipeline, CLIP's is in the folder text_encoder"
    } else if any("controlnet_") || starts("control_model.") {
        "it is a ControlNet: give the folder text_encoder of the pipeline that it is used in"
    } else if DENOISERS.iter().any(|part| starts(part)) {
        "it is a UNet or a diffusion transformer without text encoder: give the folder text_encoder of the same pipeline, \
         or a checkpoint that holds everything"
    } else if starts("first_stage_model.") || starts("decoder.") || starts("quant_conv") {
        "it is a VAE: give the folder text_encoder of the same pipeline"
    } else if any("vision_model.") || any("visual.") || any("patch_embedding.") {
        "it is a vision tower without the text tower: give the whole CLIP, or its text encoder; or compile it as it is with --image"
    } else if any("encoder.layers.") || any("resblocks.") {
        "the layers of a text encoder are there, its token embedding is not: a part of the file is missing"
    } else {
        "no tensor of a CLIP text encoder is in it (none ends in token_embedding.weight)"
    };
    let sample: Vec<&str> = names.iter().copied().take(3).collect();
    match names.len() {
        0 => "no text encoder: there is no tensor in it".into(),
        count => format!("no text encoder: {found}. Its {count} tensors begin with {}", sample.join(", ")),
    }
}
