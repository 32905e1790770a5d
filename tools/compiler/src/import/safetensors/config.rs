//! Configurations beside weights: `config.json` as Hugging Face writes it for a CLIP text tower, `open_clip_config.json` as
//! OpenCLIP does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ir::Activation;

/// What a configuration says of a text tower. Sizes that it leaves out have the values that transformers gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// `architectures[0]`: `CLIPTextModel`, `CLIPTextModelWithProjection`, `CLIPModel`.
    pub architecture: Option<String>,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Width between a layer's MLP matrices.
    pub mlp: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each.
    pub heads: usize,
    /// Rows of the position embedding.
    pub context: usize,
    /// Rows of the projection, of a model that has one.
    pub projected: usize,
    /// The MLP's activation.
    pub activation: Activation,
    /// Added to the variance in each layer norm.
    pub epsilon: f32,
    /// The token to pool at; `None` asks for the highest id, as old configurations do, which say 2.
    pub end_token: Option<u32>,
    /// Whether it is OpenCLIP's.
    pub is_open_clip: bool,
}

/// The fields that count, with the defaults of `CLIPTextConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    projection_dim: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    eos_token_id: Value,
}

impl Default for Fields {
    fn default() -> Self {
        Fields {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            projection_dim: 512,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: Value::Null,
        }
    }
}

/// Configurations from before transformers 4.31 say this where the end token is meant; pooling is at the highest id then.
const OLD_END: u64 = 2;

impl Config {
    /// Reads the configuration at `path`: a text tower's own, or that of a whole CLIP.
    ///
    /// # Errors
    /// When it can't be read, is another model's, or asks for an activation that CLIP has not.
    pub fn read(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let text =
            cliptext_files::read_whole_text(path).with_context(|| format!("{}: cannot be read", named()))?;
        let whole: Map<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{}: expected a JSON object", named()))?;
        let architecture = whole.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        // As in transformers, what is null has its default.
        let mut own = text_fields(&whole, architecture).with_context(named)?;
        own.retain(|_, value| !value.is_null());
        let mut fields: Fields = serde_json::from_value(Value::Object(own)).with_context(named)?;
        // A whole CLIP has it beside its towers' fields.
        let projected = whole.get("projection_dim").and_then(Value::as_u64);
        if let Some(projected) = projected.filter(|_| !is_text_model(architecture)) {
            fields.projection_dim = projected as usize;
        }
        let activation = activation(&fields.hidden_act).with_context(named)?;
        ensure!(
            fields.layer_norm_eps > 0.0 && fields.layer_norm_eps.is_finite(),
            "{}: layer_norm_eps is {}, which is no small positive number",
            named(),
            fields.layer_norm_eps
        );
        let end_token = match (&fields.eos_token_id, fields.eos_token_id.as_u64()) {
            (Value::Null, _) | (_, Some(OLD_END)) => None,
            (_, Some(id)) => Some(u32::try_from(id).with_context(|| format!("{}: eos_token_id", named()))?),
            (other, None) => bail!("{}: eos_token_id is {other}; expected one token's id", named()),
        };
        Ok(Config {
            path: path.to_owned(),
            architecture: architecture.map(str::to_owned),
            vocabulary: fields.vocab_size,
            width: fields.hidden_size,
            mlp: fields.intermediate_size,
            layers: fields.num_hidden_layers,
            heads: fields.num_attention_heads,
            context: fields.max_position_embeddings,
            projected: fields.projection_dim,
            activation,
            epsilon: fields.layer_norm_eps,
            end_token,
            is_open_clip: false,
        })
    }

    /// Reads the `open_clip_config.json` at `path`.
    ///
    /// # Errors
    /// When it can't be read, or its text tower is another model's or not the one that CLIP's paper has.
    pub fn read_open_clip(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let text =
            cliptext_files::read_whole_text(path).with_context(|| format!("{}: cannot be read", named()))?;
        let OpenClip { model_cfg: OpenClipModel { embed_dim, quick_gelu, text_cfg: text } } =
            serde_json::from_str(&text).with_context(|| {
                format!("{}: expected an object with \"model_cfg\" and its \"text_cfg\"", named())
            })?;
        for (key, value) in &text.others {
            let says_nothing = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Object(settings) => settings.is_empty(),
                other => USUAL.iter().any(|(known, usual)| known == key && other == usual),
            };
            ensure!(
                says_nothing || UNUSED.contains(&key.as_str()),
                "{}: text_cfg.{key} is {value}, which makes it another text tower than CLIP's",
                named()
            );
        }
        let end_token = match text.pool_type.as_str() {
            "argmax" => None,
            "eos" => Some(text.eos_id),
            other => bail!(
                "{}: text_cfg.pool_type is {other:?}, which makes it another text tower than CLIP's",
                named()
            ),
        };
        Ok(Config {
            path: path.to_owned(),
            architecture: None,
            vocabulary: text.vocab_size,
            width: text.width,
            mlp: (text.width as f64 * text.mlp_ratio) as usize,
            layers: text.layers,
            heads: text.heads,
            context: text.context_length,
            projected: embed_dim,
            activation: if quick_gelu { Activation::QuickGelu } else { Activation::Gelu },
            epsilon: 1e-5,
            end_token,
            is_open_clip: true,
        })
    }
}

/// The activation that transformers calls so.
pub(super) fn activation(hidden_act: &str) -> Result<Activation> {
    Ok(match hidden_act {
        "quick_gelu" => Activation::QuickGelu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
            Activation::GeluTanh
        }
        other => bail!("hidden_act is {other:?}; CLIP's encoders have quick_gelu or gelu"),
    })
}

/// The fields of the text tower in a configuration of transformers, whose first architecture is `architecture`.
fn text_fields(whole: &Map<String, Value>, architecture: Option<&str>) -> Result<Map<String, Value>> {
    let is_clip = match (whole.get("model_type").and_then(Value::as_str), whole.get("_class_name")) {
        (Some("clip"), _) => true,
        (Some("clip_text_model"), _) => false,
        (Some(other), _) => bail!(
            "the model is a {other:?}, not a CLIP text encoder; in a Stable Diffusion pipeline take the folder text_encoder"
        ),
        (None, Some(Value::String(class))) => bail!(
            "this is the configuration of a {class}, not of a CLIP text encoder; take the folder text_encoder of the same \
             pipeline"
        ),
        (None, _) => {
            // Older files, and those that other programs wrote, leave the type out.
            let fields = ["hidden_size", "num_hidden_layers", "text_config", "text_config_dict"];
            let known = architecture.is_none_or(|architecture| architecture.starts_with("CLIP"));
            ensure!(
                known && fields.iter().any(|field| whole.contains_key(*field)),
                "no \"model_type\" in it: not a text encoder's configuration; put the text encoder's own in its place, or remove it"
            );
            ["text_config", "text_config_dict"].iter().any(|field| whole.contains_key(*field))
        }
    };
    if !is_clip {
        return Ok(whole.clone());
    }
    let object = |field: &str| whole.get(field).and_then(Value::as_object);
    let (own, older) = (object("text_config"), object("text_config_dict"));
    // `CLIPConfig` lets the older field override the other in all, with the defaults of what it leaves out. A text
    // encoder's class reads the newer alone.
    let found = if is_text_model(architecture) { own.or(older) } else { older.or(own) };
    // Where there is neither, a text encoder was saved as a CLIP, with its fields beside the type, or all are the defaults.
    Ok(found.unwrap_or(whole).clone())
}

/// Whether a class is a text encoder's alone.
fn is_text_model(architecture: Option<&str>) -> bool {
    architecture.is_some_and(|architecture| architecture.starts_with("CLIPTextModel"))
}

#[derive(Deserialize)]
struct OpenClip {
    model_cfg: OpenClipModel,
}

#[derive(Deserialize)]
struct OpenClipModel {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    text_cfg: OpenClipText,
}

/// The fields that count, with the defaults of OpenCLIP's `CLIPTextCfg`.
#[derive(Deserialize)]
#[serde(default)]
struct OpenClipText {
    context_length: usize,
    vocab_size: usize,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    pool_type: String,
    eos_id: u32,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Default for OpenClipText {
    fn default() -> Self {
        OpenClipText {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            pool_type: "argmax".into(),
            eos_id: 2,
            others: Map::new(),
        }
    }
}

/// Further fields of OpenCLIP's with the values that say what CLIP does anyway.
const USUAL: [(&str, &str); 2] = [("proj_type", "linear"), ("block_type", "default")];

/// Fields of OpenCLIP's that nothing reads in such a tower: a class token's padding, and those of towers from transformers.
const UNUSED: [&str; 4] = ["pad_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"];
