//! What the configurations beside weights say of an image tower: `config.json` and `preprocessor_config.json` as Hugging Face
//! writes them, `open_clip_config.json` as OpenCLIP does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::activation;
use crate::colours::Colours;
use crate::ir::Activation;

/// What a configuration says of an image tower. Sizes that it leaves out have the values that transformers, or OpenCLIP, gives
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageConfig {
    /// The file.
    pub path: PathBuf,
    /// Pixels of a side of the image.
    pub side: usize,
    /// Pixels of a side of a patch.
    pub patch: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each.
    pub heads: usize,
    /// The MLP's activation.
    pub activation: Activation,
    /// Added to the variance in each layer norm.
    pub epsilon: f32,
    /// How pixels are normalised, where the files say it.
    pub colours: Option<Colours>,
}

/// The fields that count, with the defaults of `CLIPVisionConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    image_size: usize,
    patch_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for Fields {
    fn default() -> Self {
        Fields {
            image_size: 224,
            patch_size: 32,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let named = path.display();
    let text = cliptext_files::read_whole_text(path).with_context(|| format!("{named}: cannot be read"))?;
    serde_json::from_str(&text).with_context(|| format!("{named}: expected a JSON object"))
}

/// How pixels are normalised by the `preprocessor_config.json` or `open_clip_config.json` in `folder`, of images of that `side`;
/// `None` where neither says it.
///
/// # Errors
/// When one can't be read, or asks for a preprocessing that images are not given in.
pub fn colours(folder: &Path, side: usize) -> Result<Option<Colours>> {
    let path = folder.join("preprocessor_config.json");
    if path.is_file() {
        return preprocessed(&path, side).map(Some);
    }
    let path = folder.join("open_clip_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let found: OpenClipPreprocessOnly =
        serde_json::from_value(Value::Object(object(&path)?)).with_context(|| path.display().to_string())?;
    found.preprocess_cfg.colours(&path, side)
}

impl ImageConfig {
    /// Reads `config.json` in `folder`, of a whole CLIP or of an image encoder alone, and the `preprocessor_config.json` beside it;
    /// `None` where there is no configuration.
    ///
    /// # Errors
    /// When one can't be read, is another model's, or asks for a preprocessing that images are not given in.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("config.json");
        if !path.is_file() {
            return Ok(None);
        }
        let named = || path.display().to_string();
        let whole = object(&path)?;
        let own = match whole.get("model_type").and_then(Value::as_str) {
            Some("clip_vision_model") => whole.clone(),
            Some("clip") | None => {
                let field = |name: &str| whole.get(name).and_then(Value::as_object);
                field("vision_config").or_else(|| field("vision_config_dict")).cloned().unwrap_or_default()
            }
            Some(other) => bail!("{}: the model is a {other:?}, not a CLIP with an image encoder", named()),
        };
        // As in transformers, what is null has its default.
        let own = own.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let fields: Fields = serde_json::from_value(Value::Object(own)).with_context(named)?;
        ensure!(fields.num_channels == 3, "{}: num_channels is {}, not 3", named(), fields.num_channels);
        ensure!(
            fields.layer_norm_eps > 0.0 && fields.layer_norm_eps.is_finite(),
            "{}: layer_norm_eps is {}, which is no small positive number",
            named(),
            fields.layer_norm_eps
        );
        let preprocessing = folder.join("preprocessor_config.json");
        let colours = match preprocessing.is_file() {
            true => Some(preprocessed(&preprocessing, fields.image_size)?),
            false => None,
        };
        Ok(Some(ImageConfig {
            side: fields.image_size,
            patch: fields.patch_size,
            width: fields.hidden_size,
            layers: fields.num_hidden_layers,
            heads: fields.num_attention_heads,
            activation: activation(&fields.hidden_act).with_context(named)?,
            epsilon: fields.layer_norm_eps,
            colours,
            path,
        }))
    }

    /// Reads the `open_clip_config.json` in `folder`; `None` where there is none.
    ///
    /// # Errors
    /// When it can't be read, or its image tower is another than the one that CLIP's paper has.
    pub fn read_open_clip(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("open_clip_config.json");
        if !path.is_file() {
            return Ok(None);
        }
        let named = || path.display().to_string();
        let OpenClip { model_cfg: model, preprocess_cfg: preprocess } =
            serde_json::from_value(Value::Object(object(&path)?)).with_context(|| {
                format!("{}: expected an object with \"model_cfg\" and its \"vision_cfg\"", named())
            })?;
        let vision = model.vision_cfg;
        for (key, value) in &vision.others {
            let says_nothing = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_f64() == Some(0.0),
                other => USUAL.iter().any(|(known, usual)| known == key && other == usual),
            };
            ensure!(
                says_nothing,
                "{}: vision_cfg.{key} is {value}, which makes it another image encoder than CLIP's",
                named()
            );
        }
        let layers = vision.layers.as_u64().with_context(|| {
            format!(
                "{}: vision_cfg.layers is a list: a ResNet; cliptext compiles vision transformers",
                named()
            )
        })?;
        ensure!(vision.head_width > 0, "{}: vision_cfg.head_width is 0", named());
        Ok(Some(ImageConfig {
            side: vision.image_size,
            patch: vision.patch_size,
            width: vision.width,
            layers: layers as usize,
            heads: vision.width / vision.head_width,
            activation: if model.quick_gelu { Activation::QuickGelu } else { Activation::Gelu },
            epsilon: 1e-5,
            colours: preprocess.colours(&path, vision.image_size)?,
            path,
        }))
    }
}

/// The fields of `CLIPImageProcessor`.
#[derive(Deserialize)]
struct Preprocessing {
    image_mean: [f32; 3],
    image_std: [f32; 3],
    #[serde(default)]
    resample: Option<u32>,
    #[serde(default)]
    rescale_factor: Option<f64>,
    #[serde(default)]
    size: Value,
    #[serde(default)]
    crop_size: Value,
    #[serde(default)]
    do_resize: Option<bool>,
    #[serde(default)]
    do_center_crop: Option<bool>,
    #[serde(default)]
    do_rescale: Option<bool>,
    #[serde(default)]
    do_normalize: Option<bool>,
}

/// PIL's number of bicubic interpolation.
const BICUBIC: u32 = 3;

/// Mean and deviation by the `preprocessor_config.json` at `path`, of images of that `side`.
fn preprocessed(path: &Path, side: usize) -> Result<Colours> {
    let named = path.display();
    let found: Preprocessing =
        serde_json::from_value(Value::Object(object(path)?)).with_context(|| named.to_string())?;
    let is_side = |value: &Value, keys: &[&str]| {
        value.is_null()
            || *value == side
            || value.as_object().is_some_and(|object| {
                !object.is_empty()
                    && object.iter().all(|(key, size)| keys.contains(&key.as_str()) && *size == side)
            })
    };
    let usual = [
        ("resample", found.resample.is_none_or(|resample| resample == BICUBIC)),
        ("rescale_factor", found.rescale_factor.is_none_or(|factor| (factor * 255.0 - 1.0).abs() < 1e-6)),
        ("size", is_side(&found.size, &["shortest_edge"])),
        ("crop_size", is_side(&found.crop_size, &["height", "width"])),
        ("do_resize", found.do_resize.unwrap_or(true)),
        ("do_center_crop", found.do_center_crop.unwrap_or(true)),
        ("do_rescale", found.do_rescale.unwrap_or(true)),
        ("do_normalize", found.do_normalize.unwrap_or(true)),
    ];
    if let Some((field, _)) = usual.iter().find(|(_, usual)| !usual) {
        bail!(
            "{named}: {field} is not what CLIP's preprocessing has: images are scaled bicubically until the shortest edge has {side} \
             pixels, cropped at the centre, divided by 255 and normalised"
        );
    }
    ensure!(
        found.image_std.iter().all(|&deviation| deviation > 0.0 && deviation.is_finite()),
        "{named}: image_std has a value that is no positive number"
    );
    Ok((found.image_mean, found.image_std))
}

#[derive(Deserialize)]
struct OpenClip {
    model_cfg: OpenClipModel,
    #[serde(default)]
    preprocess_cfg: OpenClipPreprocess,
}

#[derive(Deserialize)]
struct OpenClipModel {
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: OpenClipVision,
}

/// The fields that count, with the defaults of OpenCLIP's `CLIPVisionCfg`.
#[derive(Deserialize)]
#[serde(default)]
struct OpenClipVision {
    layers: Value,
    width: usize,
    head_width: usize,
    patch_size: usize,
    image_size: usize,
    /// Seen in the tensors.
    #[serde(rename = "mlp_ratio")]
    _mlp_ratio: f64,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Default for OpenClipVision {
    fn default() -> Self {
        OpenClipVision {
            layers: 12.into(),
            width: 768,
            head_width: 64,
            patch_size: 16,
            image_size: 224,
            _mlp_ratio: 4.0,
            others: Map::new(),
        }
    }
}

#[derive(Default, Deserialize)]
struct OpenClipPreprocess {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl OpenClipPreprocess {
    /// Mean and deviation, of images of that `side`; the file at `path` says no other preprocessing than CLIP's.
    fn colours(&self, path: &Path, side: usize) -> Result<Option<Colours>> {
        for (key, value) in &self.others {
            let usual = match (key.as_str(), value) {
                ("size", size) => *size == side || *size == Value::from([side; 2].as_slice()),
                ("mode", mode) => mode == "RGB",
                ("interpolation", how) => how == "bicubic",
                ("resize_mode", how) => how == "shortest",
                ("fill_color", _) => true,
                _ => false,
            };
            ensure!(
                usual || value.is_null(),
                "{}: preprocess_cfg.{key} is {value}; images are scaled bicubically to the shortest edge and cropped",
                path.display()
            );
        }
        let colours = self.mean.zip(self.std);
        ensure!(
            colours.is_none_or(|(_, deviation)| deviation.iter().all(|&d| d > 0.0 && d.is_finite())),
            "{}: preprocess_cfg.std has a value that is no positive number",
            path.display()
        );
        Ok(colours)
    }
}

/// What counts of the file where the model itself is known.
#[derive(Deserialize)]
struct OpenClipPreprocessOnly {
    #[serde(default)]
    preprocess_cfg: OpenClipPreprocess,
}

/// Further fields of OpenCLIP's with the values that say what CLIP does anyway.
const USUAL: [(&str, &str); 3] =
    [("pool_type", "tok"), ("pos_embed_type", "learnable"), ("block_type", "default")];
