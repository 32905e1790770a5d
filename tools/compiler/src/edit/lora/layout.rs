//! How programs name a LoRA's tensors: whose a key is, which layer it changes, and which part of the change it holds.
//!
//! A key is a prefix that names a network, a module, and an ending: `lora_te1_` `text_model_encoder_layers_0_mlp_fc1`
//! `.lora_up.weight`. The three tables of this file are all that is known about each. Sources: the writers themselves (kohya's
//! sd-scripts, diffusers 0.42, PEFT 0.21, OneTrainer, AI-Toolkit, LyCORIS 4.1) and the readers A1111 and ComfyUI.

use std::fmt;

use crate::preset::BIG_G;

/// A text encoder of a pipeline, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The first, or only one.
    First,
    /// The second: bigG.
    Second,
}

impl Slot {
    /// The slot of a tower of that width: pipelines with two text encoders have bigG second, and nothing else is as wide.
    pub fn of(width: usize) -> Self {
        if width >= BIG_G { Slot::Second } else { Slot::First }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::First => "the first text encoder",
            Slot::Second => "the second text encoder",
        })
    }
}

/// The CLIP text encoder that a prefix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoder {
    /// By its slot.
    In(Slot),
    /// By no number: the first of several, or the only one, which is bigG in SDXL's refiner. The width tells.
    Unnumbered,
}

/// A network that is not merged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// What makes the image, or another part of a pipeline that is no text encoder.
    Denoiser,
    /// A T5 text encoder.
    T5,
    /// A language model as text encoder.
    LanguageModel,
    /// CLIP's image encoder.
    ImageEncoder,
    /// Stable Cascade's text encoder, a bigG of its own.
    StableCascade,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Denoiser => "other networks (UNet, diffusion transformer, VAE)",
            Network::T5 => "a T5 text encoder",
            Network::LanguageModel => "a language model as text encoder",
            Network::ImageEncoder => "CLIP's image encoder",
            Network::StableCascade => "Stable Cascade's text encoder (lora_prior_te_)",
        })
    }
}

/// Where a layout keeps the alpha of a low-rank change that has no tensor for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlphaIn {
    /// Nowhere: it is the rank.
    Nothing,
    /// In the settings that the header's notes hold, under keys with this component's name. Without them it is the rank.
    Header(&'static str),
    /// In the `adapter_config.json` beside the file.
    AdapterConfig,
}

/// A key of a CLIP text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextKey<'k> {
    /// Whose it is.
    pub encoder: Encoder,
    /// Where its alpha is.
    pub alpha_in: AlphaIn,
    /// The key without its prefix: module and ending.
    pub rest: &'k str,
}

/// What a key of a LoRA's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    /// A part of a change to a CLIP text encoder.
    Text(TextKey<'k>),
    /// A vector of a textual inversion that the file carries: the word, and the tensor's name in the word's own file.
    Word(&'k str, &'k str),
    /// The same without a word: AI-Toolkit saves what it trained beside a LoRA so.
    NamelessWord,
    /// Another network's.
    Other(Network),
    /// It speaks of a text encoder in a layout that is not known.
    Unknown,
}

/// Whose a prefix is.
#[derive(Clone, Copy)]
enum Owner {
    /// A CLIP text encoder's, a T5's or a language model's: the module tells.
    Text(Encoder, AlphaIn),
    /// A CLIP text encoder's, or whichever network an adapter was made for: only a module of CLIP's text encoder makes it the
    /// former.
    Any(AlphaIn),
    Other(Network),
}

const FIRST: Owner = Owner::Text(Encoder::In(Slot::First), AlphaIn::Nothing);
const SECOND: Owner = Owner::Text(Encoder::In(Slot::Second), AlphaIn::Nothing);
const UNNUMBERED: Owner = Owner::Text(Encoder::Unnumbered, AlphaIn::Nothing);
const DENOISER: Owner = Owner::Other(Network::Denoiser);

/// What keys begin with. The first that fits counts.
const PREFIXES: [(&str, Owner); 35] = [
    // kohya, with `_` for every dot; of SD 3 and Flux the third is T5, in OneTrainer's older files for Flux the second.
    ("lora_te_", UNNUMBERED),
    ("lora_te1_", FIRST),
    ("lora_te2_", SECOND),
    ("lora_te3_", Owner::Other(Network::T5)),
    // OneTrainer and AI-Toolkit.
    ("lora_te.", UNNUMBERED),
    ("lora_te1.", FIRST),
    ("lora_te2.", SECOND),
    ("lora_te3.", Owner::Other(Network::T5)),
    // OneTrainer's newer files (the Open Model Initiative's names).
    ("clip_l.", FIRST),
    ("clip_g.", SECOND),
    ("t5.", Owner::Other(Network::T5)),
    ("t5xxl.", Owner::Other(Network::T5)),
    // ComfyUI: `clip_h` is Stable Diffusion 2's only one.
    ("text_encoders.clip_l.transformer.", FIRST),
    ("text_encoders.clip_h.transformer.", FIRST),
    ("text_encoders.clip_g.transformer.", SECOND),
    ("text_encoders.t5", Owner::Other(Network::T5)),
    ("text_encoders.gemma", Owner::Other(Network::LanguageModel)),
    ("text_encoders.llama", Owner::Other(Network::LanguageModel)),
    ("text_encoders.qwen", Owner::Other(Network::LanguageModel)),
    // diffusers; of Flux the second is T5.
    ("text_encoder.", Owner::Text(Encoder::Unnumbered, AlphaIn::Header("text_encoder"))),
    ("text_encoder_2.", Owner::Text(Encoder::In(Slot::Second), AlphaIn::Header("text_encoder_2"))),
    ("text_encoder_3.", Owner::Other(Network::T5)),
    // PEFT, whose adapters don't say in the keys what they adapt.
    ("base_model.model.", Owner::Any(AlphaIn::AdapterConfig)),
    // LyCORIS around a single network.
    ("lycoris_", Owner::Any(AlphaIn::Nothing)),
    ("lora_prior_te_", Owner::Other(Network::StableCascade)),
    // Denoisers as kohya, OneTrainer, diffusers, AI-Toolkit and ComfyUI call them.
    ("lora_prior_unet_", DENOISER),
    ("lora_unet_", DENOISER),
    ("lora_unet.", DENOISER),
    ("lora_transformer_", DENOISER),
    ("lora_transformer.", DENOISER),
    ("unet.", DENOISER),
    ("transformer.", DENOISER),
    ("diffusion_model.", DENOISER),
    ("model.diffusion_model.", DENOISER),
    // The bare names of transformers 4's model.
    ("text_model.", Owner::Any(AlphaIn::AdapterConfig)),
];

/// What a word's vectors begin with: A1111's and OneTrainer's bundles of a LoRA and its words.
const WORD: &str = "bundle_emb.";

/// Tensors of a word that has no name.
const NAMELESS_WORDS: [&str; 3] = ["emb_params", "clip_l", "clip_g"];

impl<'k> Key<'k> {
    /// What `key` is.
    pub fn of(key: &'k str) -> Self {
        if let Some(word) = key.strip_prefix(WORD) {
            return word.split_once('.').map_or(Key::Unknown, |(word, tensor)| Key::Word(word, tensor));
        }
        if NAMELESS_WORDS.contains(&key) {
            return Key::NamelessWord;
        }
        let found = PREFIXES.iter().find_map(|(prefix, owner)| Some((key.strip_prefix(prefix)?, *owner)));
        match found {
            Some((_, Owner::Other(network))) => Key::Other(network),
            Some((rest, Owner::Text(encoder, alpha_in))) => match another_encoder(rest) {
                Some(network) => Key::Other(network),
                None => Key::Text(TextKey { encoder, alpha_in, rest }),
            },
            Some((rest, Owner::Any(alpha_in))) if is_in_text_model(rest) => {
                Key::Text(TextKey { encoder: Encoder::Unnumbered, alpha_in, rest })
            }
            Some((rest, Owner::Any(_))) => Key::Other(another_encoder(rest).unwrap_or(Network::Denoiser)),
            None => match another_encoder(key) {
                Some(network) => Key::Other(network),
                None if speaks_of_text(key) => Key::Unknown,
                None => Key::Other(Network::Denoiser),
            },
        }
    }
}

/// Whether a module is one of CLIP's text encoder; CLIP's image encoder has some of the same names.
fn is_in_text_model(module: &str) -> bool {
    let module = module.strip_prefix("text_model").map_or(module, |rest| rest.trim_start_matches(['.', '_']));
    ["encoder.layers.", "encoder_layers_", "embeddings", "final_layer_norm", "text_projection"]
        .iter()
        .any(|start| module.starts_with(start))
}

/// The encoder of another kind that a module is of, by its name.
fn another_encoder(module: &str) -> Option<Network> {
    let has = |parts: &[&str]| parts.iter().any(|part| module.contains(part));
    let starts = |parts: &[&str]| parts.iter().any(|part| module.starts_with(part));
    if has(&["SelfAttention", "EncDecAttention", "DenseReluDense"])
        || starts(&["encoder.block.", "encoder_block_", "shared."])
    {
        Some(Network::T5)
    } else if has(&["vision_model", "visual", "vision_tower"]) {
        Some(Network::ImageEncoder)
    } else if has(&["language_model"]) || starts(&["model.layers.", "model_layers_", "layers.", "layers_"]) {
        Some(Network::LanguageModel)
    } else {
        None
    }
}

/// Whether a key without a known prefix may be a text encoder's.
fn speaks_of_text(key: &str) -> bool {
    let signs = [
        "text_model",
        "text_encoder",
        "lora_te",
        "clip_l",
        "clip_g",
        "encoder.layers.",
        "encoder_layers_",
        "resblocks",
        "cond_stage",
        "conditioner",
    ];
    signs.iter().any(|sign| key.contains(sign))
}

/// The part of a change that a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `[outputs, rank]`.
    Up,
    /// `[rank, inputs]`.
    Down,
    /// `[width, rank]`, of an embedding: `down` transposed.
    EmbeddingB,
    /// `[rank, vocabulary]`, of an embedding: `up` transposed.
    EmbeddingA,
    /// One number.
    Alpha,
    /// Of the bias, scaled as the product is.
    UpBias,
    /// The difference of the weight itself.
    Weight,
    /// The difference of the bias itself.
    Bias,
}

/// Endings of the parts, behind the module.
const ENDINGS: [(&str, Part); 17] = [
    // kohya, OneTrainer, ComfyUI.
    (".lora_up.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".alpha", Part::Alpha),
    // diffusers before PEFT: `to_q_lora.up.weight`, later `q_proj.lora_linear_layer.up.weight`.
    ("_lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    // LyCORIS Full and its norms; ComfyUI's extracted differences.
    (".diff", Part::Weight),
    (".diff_b", Part::Bias),
    (".w_norm", Part::Weight),
    (".b_norm", Part::Bias),
    // PEFT without the last word, as some converters write it.
    (".lora_B", Part::Up),
    (".lora_A", Part::Down),
    (".lora_embedding_B", Part::EmbeddingB),
    (".lora_embedding_A", Part::EmbeddingA),
];

/// Endings of PEFT's parts: between the two pieces an adapter's name may stand, `.lora_A.default.weight`.
const NAMED_ENDINGS: [(&str, &str, Part); 5] = [
    (".lora_B", ".weight", Part::Up),
    (".lora_A", ".weight", Part::Down),
    (".lora_B", ".bias", Part::UpBias),
    (".lora_embedding_B", "", Part::EmbeddingB),
    (".lora_embedding_A", "", Part::EmbeddingA),
];

/// Signs of ways to adapt a layer that are no sum of a product and differences: merged as one they would give another model.
const OTHER_METHODS: [(&str, &str); 25] = [
    (".lora_mid.", "LoCon's CP decomposition (lora_mid)"),
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    (".oft_", "OFT or BOFT"),
    (".boft_", "BOFT"),
    (".rescale", "OFT or BOFT"),
    (".on_input", "IA3"),
    (".ia3_l", "IA3"),
    (".a1.weight", "GLoRA"),
    (".a2.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".b2.weight", "GLoRA"),
    (".bm.weight", "GLoRA"),
    (".lambda_layer", "T-LoRA"),
    (".p_layer.", "T-LoRA"),
    (".q_layer.", "T-LoRA"),
    (".lora_E", "AdaLoRA"),
    (".ranknum", "AdaLoRA"),
    (".vera_", "VeRA"),
    (".hra_", "HRA"),
    (".modules_to_save", "whole modules in place of the model's (modules_to_save)"),
    (".trainable_tokens", "trained rows of the token embedding (trainable_token_indices)"),
    (".set_weight", "a whole weight in place of the model's (set_weight)"),
];

impl<'k> TextKey<'k> {
    /// The method of adaptation that the key belongs to, if it is no LoRA.
    pub fn other_method(&self) -> Option<&'static str> {
        OTHER_METHODS.iter().find(|(sign, _)| self.rest.contains(sign)).map(|(_, method)| *method)
    }

    /// The module and the part, if the ending is known.
    pub fn split(&self) -> Option<(&'k str, Part)> {
        let plain =
            || ENDINGS.iter().find_map(|(ending, part)| Some((self.rest.strip_suffix(ending)?, *part)));
        let named = || {
            NAMED_ENDINGS.iter().find_map(|(ending, last, part)| {
                let (module, adapter) = self.rest.strip_suffix(last)?.rsplit_once(ending)?;
                let is_name = adapter.is_empty() || adapter.starts_with('.') && !adapter[1..].contains('.');
                is_name.then_some((module, *part))
            })
        };
        plain().or_else(named)
    }
}

/// A module with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Module {
    /// The token embedding.
    Tokens,
    /// The position embedding.
    Positions,
    /// A part of a layer.
    Layer(usize, LayerPart),
    /// The norm behind the last layer.
    FinalNorm,
    /// The projection of the pooled row.
    Projection,
}

/// A part of a layer with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPart {
    /// Before the attention.
    Norm1,
    /// Of the attention.
    Query,
    /// Of the attention.
    Key,
    /// Of the attention.
    Value,
    /// Of the attention.
    Out,
    /// Before the MLP.
    Norm2,
    /// Of the MLP.
    Fc1,
    /// Of the MLP.
    Fc2,
}

impl Module {
    /// The module that `name` means, in any of the spellings: kohya writes `_` for every dot, transformers 5 leaves `text_model.`
    /// out, diffusers' oldest files call the attention's parts `to_q`.
    pub fn of(name: &str) -> Option<Self> {
        let flat = name.replace('.', "_");
        let rest = flat.strip_prefix("text_model_").unwrap_or(&flat);
        match rest {
            "text_projection" => return Some(Module::Projection),
            "final_layer_norm" => return Some(Module::FinalNorm),
            "embeddings_token_embedding" => return Some(Module::Tokens),
            "embeddings_position_embedding" => return Some(Module::Positions),
            _ => {}
        }
        let (index, part) = rest.strip_prefix("encoder_layers_")?.split_once('_')?;
        let part = match part {
            "layer_norm1" => LayerPart::Norm1,
            "self_attn_q_proj" | "self_attn_to_q" => LayerPart::Query,
            "self_attn_k_proj" | "self_attn_to_k" => LayerPart::Key,
            "self_attn_v_proj" | "self_attn_to_v" => LayerPart::Value,
            "self_attn_out_proj" | "self_attn_to_out" => LayerPart::Out,
            "layer_norm2" => LayerPart::Norm2,
            "mlp_fc1" => LayerPart::Fc1,
            "mlp_fc2" => LayerPart::Fc2,
            _ => return None,
        };
        Some(Module::Layer(index.parse().ok()?, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same layer's key as every program writes it: whose it is, what it changes, which part it holds.
    #[test]
    fn every_layout_of_a_text_encoder_is_known() {
        let (first, second) = (Encoder::In(Slot::First), Encoder::In(Slot::Second));
        let alone = Encoder::Unnumbered;
        let fc1 = Module::Layer(7, LayerPart::Fc1);
        let query = Module::Layer(7, LayerPart::Query);
        for (key, encoder, module, part) in [
            ("lora_te_text_model_encoder_layers_7_mlp_fc1.lora_up.weight", alone, fc1, Part::Up),
            ("lora_te1_text_model_encoder_layers_7_mlp_fc1.lora_down.weight", first, fc1, Part::Down),
            ("lora_te2_text_model_encoder_layers_7_mlp_fc1.alpha", second, fc1, Part::Alpha),
            ("lora_te2_text_projection.lora_up.weight", second, Module::Projection, Part::Up),
            ("lora_te_text_model_final_layer_norm.w_norm", alone, Module::FinalNorm, Part::Weight),
            (
                "lora_te_text_model_encoder_layers_7_layer_norm2.b_norm",
                alone,
                Module::Layer(7, LayerPart::Norm2),
                Part::Bias,
            ),
            ("lora_te.text_model.encoder.layers.7.mlp.fc1.lora_A.weight", alone, fc1, Part::Down),
            ("lora_te1.text_model.encoder.layers.7.mlp.fc1.lora_up.weight", first, fc1, Part::Up),
            ("lora_te2.text_model.encoder.layers.7.mlp.fc1.alpha", second, fc1, Part::Alpha),
            ("clip_l.text_model.encoder.layers.7.mlp.fc1.lora_down.weight", first, fc1, Part::Down),
            ("clip_g.text_projection.lora_down.weight", second, Module::Projection, Part::Down),
            (
                "text_encoders.clip_l.transformer.text_model.encoder.layers.7.mlp.fc1.lora_up.weight",
                first,
                fc1,
                Part::Up,
            ),
            (
                "text_encoders.clip_h.transformer.text_model.encoder.layers.7.mlp.fc1.diff_b",
                first,
                fc1,
                Part::Bias,
            ),
            (
                "text_encoders.clip_g.transformer.text_model.embeddings.position_embedding.diff",
                second,
                Module::Positions,
                Part::Weight,
            ),
            (
                "text_encoder.text_model.encoder.layers.7.self_attn.to_q_lora.up.weight",
                alone,
                query,
                Part::Up,
            ),
            (
                "text_encoder.text_model.encoder.layers.7.mlp.fc1.lora_linear_layer.down.weight",
                alone,
                fc1,
                Part::Down,
            ),
            (
                "text_encoder_2.text_model.encoder.layers.7.self_attn.q_proj.lora_B.weight",
                second,
                query,
                Part::Up,
            ),
            ("text_encoder_2.encoder.layers.7.self_attn.q_proj.lora_B", second, query, Part::Up),
            (
                "text_encoder.text_model.encoder.layers.7.self_attn.q_proj.lora_A.style.weight",
                alone,
                query,
                Part::Down,
            ),
            ("base_model.model.text_model.encoder.layers.7.mlp.fc1.lora_A.weight", alone, fc1, Part::Down),
            ("base_model.model.encoder.layers.7.mlp.fc1.lora_B.default.bias", alone, fc1, Part::UpBias),
            (
                "base_model.model.text_model.embeddings.token_embedding.lora_embedding_A",
                alone,
                Module::Tokens,
                Part::EmbeddingA,
            ),
            (
                "base_model.model.embeddings.token_embedding.lora_embedding_B.default",
                alone,
                Module::Tokens,
                Part::EmbeddingB,
            ),
            ("text_model.encoder.layers.7.mlp.fc1.lora_A.weight", alone, fc1, Part::Down),
            ("lycoris_text_model_encoder_layers_7_mlp_fc1.diff", alone, fc1, Part::Weight),
        ] {
            let Key::Text(text) = Key::of(key) else { panic!("{key}: {:?}", Key::of(key)) };
            let (name, found) = text.split().unwrap_or_else(|| panic!("{key}"));
            assert_eq!((text.encoder, Module::of(name), found), (encoder, Some(module), part), "{key}");
            assert_eq!(text.other_method(), None, "{key}");
        }
    }

    #[test]
    fn other_networks_are_called_by_their_names() {
        for (key, network) in [
            ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight", Network::T5),
            ("lora_te2_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight", Network::T5),
            ("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", Network::T5),
            ("text_encoder_3.encoder.block.0.layer.1.DenseReluDense.wo.lora_A.weight", Network::T5),
            (
                "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.lora_up.weight",
                Network::T5,
            ),
            ("t5.encoder.block.0.layer.0.SelfAttention.q.lora_up.weight", Network::T5),
            ("base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", Network::T5),
            ("lora_te_layers_0_self_attn_q_proj.lora_up.weight", Network::LanguageModel),
            ("lora_te1_model_layers_0_self_attn_q_proj.lora_up.weight", Network::LanguageModel),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Network::LanguageModel),
            ("base_model.model.vision_model.encoder.layers.0.mlp.fc1.lora_A.weight", Network::ImageEncoder),
            ("lora_prior_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", Network::StableCascade),
            ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", Network::Denoiser),
            ("unet.down_blocks.0.attentions.0.to_q.lora_A.weight", Network::Denoiser),
            ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", Network::Denoiser),
            ("base_model.model.down_blocks.0.attentions.0.to_q.lora_A.weight", Network::Denoiser),
            ("diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight", Network::Denoiser),
            ("double_blocks.0.img_attn.qkv.lora_down.weight", Network::Denoiser),
        ] {
            assert_eq!(Key::of(key), Key::Other(network), "{key}");
        }
        for key in [
            "conditioner_embedders_1_model_transformer_resblocks_0_attn_out_proj.lora_up.weight",
            "my_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            "bundle_emb.word",
        ] {
            assert_eq!(Key::of(key), Key::Unknown, "{key}");
        }
        assert_eq!(Key::of("bundle_emb.art.string_to_param.*"), Key::Word("art", "string_to_param.*"));
        assert_eq!(Key::of("emb_params"), Key::NamelessWord);
    }
}
