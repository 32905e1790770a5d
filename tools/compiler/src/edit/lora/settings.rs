//! PEFT's settings of an adapter: `adapter_config.json`, or the same keys in a header's notes, where diffusers keeps them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::tensors::Tensors;

/// The file beside an adapter's weights.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// How much low-rank products count, where no tensor says it.
#[derive(Debug, Default)]
pub struct Settings {
    /// `lora_alpha`; the rank where it is not said.
    alpha: Option<f32>,
    /// `alpha_pattern`: another alpha of some modules.
    alphas: Pattern,
    /// `r`.
    rank: Option<f32>,
    /// `rank_pattern`: another rank of some modules.
    ranks: Pattern,
    /// Whether alpha is divided by the rank's root instead of the rank (`use_rslora`, arXiv:2312.03732).
    by_root: bool,
    /// What the user should know about the settings.
    pub notes: Vec<String>,
}

/// Settings that say what was trained, how, and by what: the tensors are what they are. PEFT itself turns `fan_in_fan_out` off for
/// linear layers, and CLIP has no others.
const WITHOUT_EFFECT: [&str; 22] = [
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];

/// Ways to initialize that leave the model's own weights as they are; with the others (PiSSA, OLoRA, LoftQ …) an adapter belongs
/// to weights that were changed when training began.
const PLAIN_INITIALIZATION: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl Settings {
    /// Reads the `adapter_config.json` in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// When it can't be read, is no JSON object, or describes something else than a LoRA of a text encoder.
    pub fn beside(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(ADAPTER_CONFIG);
        if !path.is_file() {
            return Ok(None);
        }
        let named = || path.display().to_string();
        let text = cliptext_files::read_whole_text(&path).with_context(named)?;
        let said: Map<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{}: expected a JSON object", named()))?;
        let settings =
            Self::parse(said.iter().map(|(key, value)| (key.as_str(), value))).with_context(named)?;
        ensure!(
            settings.alpha.is_some() && settings.rank.is_some(),
            "{}: expected the numbers lora_alpha and r: is it another kind of adapter, or damaged?",
            named()
        );
        Ok(Some(settings))
    }

    /// Reads the settings of a component, such as `text_encoder`, in the header's notes; `None` if there are none.
    ///
    /// # Errors
    /// When the notes are no JSON object, or describe something else than a LoRA.
    pub fn in_header(tensors: &Tensors, component: &str) -> Result<Option<Self>> {
        const KEY: &str = "lora_adapter_metadata";
        let Some(text) = tensors.note(KEY) else { return Ok(None) };
        let said: Map<String, Value> = serde_json::from_str(text)
            .with_context(|| format!("{KEY} in the header: expected a JSON object"))?;
        let own = said
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(component)?.strip_prefix('.')?, value)));
        Self::parse(own).with_context(|| format!("{KEY} in the header: {component}")).map(Some)
    }

    fn parse<'v>(said: impl Iterator<Item = (&'v str, &'v Value)>) -> Result<Self> {
        let said: BTreeMap<&str, &Value> = said.collect();
        let mut settings = Settings::default();
        for (key, value) in said.into_iter().filter(|(_, value)| is_set(value)) {
            match key {
                "lora_alpha" => settings.alpha = Some(number(key, value)?),
                "r" => settings.rank = Some(number(key, value)?),
                "alpha_pattern" => settings.alphas = Pattern::parse(key, value)?,
                "rank_pattern" => settings.ranks = Pattern::parse(key, value)?,
                "use_rslora" => settings.by_root = value.as_bool().unwrap_or(false),
                "peft_type" if *value != "LORA" => {
                    bail!("it is of the kind {value}, not a LoRA, and is not merged")
                }
                "bias" if *value != "none" => bail!(
                    "bias is {value}: whole biases in place of the model's are in the file, which cliptext does not read; \
                     merge the adapter with PEFT (merge_and_unload) and give the model that it saves"
                ),
                "init_lora_weights" => {
                    let plain = value.is_boolean()
                        || value.as_str().is_some_and(|how| PLAIN_INITIALIZATION.contains(&how));
                    ensure!(
                        plain,
                        "init_lora_weights is {value}: the adapter belongs to other weights than the model's; convert it \
                         with PEFT to a plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)"
                    );
                }
                "auto_mapping" => {
                    let class = value.get("base_model_class").and_then(Value::as_str).unwrap_or_default();
                    ensure!(
                        !class.contains("Vision"),
                        "it adapts a {class}, an image encoder, not a text encoder"
                    );
                    if !class.contains("CLIP") {
                        settings.notes.push(format!("the adapter was trained for a {class:?}, not for CLIP"));
                    }
                }
                "peft_type" | "bias" => {}
                _ if WITHOUT_EFFECT.contains(&key) => {}
                // What is new and does something is switched on, or given settings of its own.
                _ if *value == Value::Bool(true) || value.is_array() || value.is_object() => bail!(
                    "{key} is set, which makes it more than a plain LoRA; merge the adapter with PEFT (merge_and_unload) and \
                     give the model that it saves"
                ),
                _ => settings.notes.push(format!("the setting {key} = {value} is unknown and left out")),
            }
        }
        Ok(settings)
    }

    /// `weight · alpha / rank` of a product of the rank `rank` in the module of that name, or `weight · alpha / √rank`.
    ///
    /// # Errors
    /// When the settings are of another rank, or give the module two different numbers.
    pub fn factor(&self, weight: f32, module: &str, rank: usize) -> Result<f32> {
        let rank = rank as f32;
        if let Some(said) = self.ranks.of(module)?.or(self.rank) {
            ensure!(
                said == rank,
                "{module}: its settings say the rank {said}, the tensors have {rank}: they are of two adapters"
            );
        }
        let alpha = self.alphas.of(module)?.or(self.alpha).unwrap_or(rank);
        Ok(weight * alpha / if self.by_root { rank.sqrt() } else { rank })
    }
}

/// Whether a setting says anything: PEFT writes out all of them, and those that are off as one of these.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        _ => true,
    }
}

fn number(key: &str, value: &Value) -> Result<f32> {
    let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    number.with_context(|| format!("{key}: expected a number, found {value}"))
}

/// Numbers of modules whose names end in a key, as PEFT's `get_pattern_key` matches them: `q_proj`, `layers.0.mlp.fc1`, or, behind
/// `^`, a whole name.
#[derive(Debug, Default)]
struct Pattern {
    setting: String,
    numbers: BTreeMap<String, f32>,
}

impl Pattern {
    fn parse(setting: &str, value: &Value) -> Result<Self> {
        let said = value.as_object().with_context(|| format!("{setting}: expected an object"))?;
        let mut numbers = BTreeMap::new();
        for (key, value) in said {
            let name = key.strip_prefix('^').unwrap_or(key);
            ensure!(
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'),
                "{setting}: {key:?} is a regular expression, which cliptext does not evaluate; write the modules' names instead"
            );
            // transformers 4's modules have one part more in front than transformers 5's.
            let bare = name.strip_prefix("text_model.").unwrap_or(name);
            let anchor = &key[..key.len() - name.len()];
            numbers.insert(format!("{anchor}{bare}"), number(key, value)?);
        }
        Ok(Pattern { setting: setting.to_owned(), numbers })
    }

    /// The number of a module, if a key fits it. PEFT takes the first key in the file's order, which is lost here: where two keys
    /// fit they must agree.
    fn of(&self, module: &str) -> Result<Option<f32>> {
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let bare = module.strip_prefix("text_model.").unwrap_or(module);
        let tails = std::iter::successors(Some(bare), |tail| Some(tail.split_once('.')?.1));
        let whole = self.numbers.get(&format!("^{bare}"));
        let mut fitting = tails.filter_map(|tail| self.numbers.get(tail)).chain(whole);
        let Some(&first) = fitting.next() else { return Ok(None) };
        ensure!(
            fitting.all(|other| *other == first),
            "{}: two keys fit {module} and give it different numbers; keep one of them",
            self.setting
        );
        Ok(Some(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        let said: Map<String, Value> = serde_json::from_str(text)?;
        Settings::parse(said.iter().map(|(key, value)| (key.as_str(), value)))
    }

    #[test]
    fn alpha_and_rank_are_those_of_the_module() {
        let settings = parse(
            r#"{"lora_alpha": 8, "r": 4, "alpha_pattern": {"q_proj": 2, "^text_model.encoder.layers.1.mlp.fc1": 3.0,
                "encoder.layers.0.mlp.fc2": 16}, "rank_pattern": {"layers.0.mlp.fc2": 2}}"#,
        )
        .unwrap();
        for (module, rank, factor) in [
            ("encoder.layers.0.self_attn.k_proj", 4, 2.0),
            ("text_model.encoder.layers.0.self_attn.q_proj", 4, 0.5),
            ("encoder.layers.11.self_attn.q_proj", 4, 0.5),
            ("encoder.layers.1.mlp.fc1", 4, 0.75),
            ("encoder.layers.0.mlp.fc1", 4, 2.0),
            ("encoder.layers.0.mlp.fc2", 2, 8.0),
        ] {
            assert_eq!(settings.factor(0.5, module, rank).unwrap(), 0.5 * factor, "{module}");
        }
        assert!(
            settings.factor(1.0, "encoder.layers.0.mlp.fc2", 4).unwrap_err().to_string().contains("rank 2")
        );
        let root = parse(r#"{"lora_alpha": 3, "r": 4, "use_rslora": true}"#).unwrap();
        assert_eq!(root.factor(1.0, "encoder.layers.0.mlp.fc1", 4).unwrap(), 1.5);
        let two =
            parse(r#"{"lora_alpha": 3, "alpha_pattern": {"q_proj": 2, "self_attn.q_proj": 4}}"#).unwrap();
        assert!(
            two.factor(1.0, "encoder.layers.0.self_attn.q_proj", 4)
                .unwrap_err()
                .to_string()
                .contains("two keys")
        );
        assert_eq!(two.factor(1.0, "encoder.layers.0.self_attn.k_proj", 4).unwrap(), 0.75);
    }

    #[test]
    fn what_is_no_plain_lora_is_refused_by_its_setting() {
        for (setting, said) in [
            (r#""peft_type": "LOHA""#, "LOHA"),
            (r#""bias": "all""#, "bias"),
            (r#""bias": "lora_only""#, "bias"),
            (r#""modules_to_save": ["text_projection"]"#, "modules_to_save"),
            (r#""use_dora": true"#, "use_dora"),
            (r#""use_qalora": true"#, "use_qalora"),
            (r#""use_of_tomorrow": true"#, "use_of_tomorrow"),
            (r#""layer_replication": [[0, 4], [2, 5]]"#, "layer_replication"),
            (r#""trainable_token_indices": [1]"#, "trainable_token_indices"),
            (r#""target_parameters": ["weight"]"#, "target_parameters"),
            (r#""alora_invocation_tokens": [1]"#, "alora_invocation_tokens"),
            (r#""init_lora_weights": "pissa_niter_4""#, "pissa"),
            (r#""auto_mapping": {"base_model_class": "CLIPVisionModel"}"#, "image encoder"),
            (r#""alpha_pattern": {".*q_proj": 2}"#, "regular expression"),
            (r#""alpha_pattern": {"q_proj": "two"}"#, "expected a number"),
            (r#""r": "four""#, "expected a number"),
        ] {
            let error = parse(&format!("{{{setting}}}")).unwrap_err().to_string();
            assert!(error.contains(said), "{setting}: {error}");
        }
        // All that PEFT 0.21 writes of a plain one is known.
        let config = include_str!("../../../../../tests/fixtures/lora/peft-adapter/adapter_config.json");
        assert_eq!(parse(config).unwrap().notes, Vec::<String>::new());
        let noted = parse(r#"{"fan_in_fan_out": true, "size_of_tomorrow": 3}"#).unwrap().notes;
        assert!(noted.len() == 1 && noted[0].contains("size_of_tomorrow"), "{noted:?}");
    }
}
