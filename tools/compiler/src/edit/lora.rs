//! LoRA: low-rank changes of linear layers, merged into the weights before they are quantized.
//!
//! `W += weight · alpha / rank · up · down`, with `down` of `[rank, inputs]` and `up` of `[outputs, rank]` (Hu et al.,
//! arXiv:2106.09685). Files come from kohya (`lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight`) and
//! diffusers, in its own names (`….to_q_lora.up.weight`, later `….q_proj.lora_linear_layer.up.weight`) and in PEFT's
//! (`….q_proj.lora_B.weight`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::ir::{Layer, Matrix, TextModel};
use crate::preset::BIG_G;
use crate::tensors::Tensors;

/// Which of a pipeline's text encoders a change is for.
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

/// A linear layer of a text tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Module {
    Query,
    Key,
    Value,
    Out,
    Fc1,
    Fc2,
}

/// A module's place: its layer, or the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Layer(usize, Module),
    Projection,
}

/// One low-rank change.
#[derive(Clone, Debug)]
struct Change {
    /// What the file calls it.
    name: String,
    place: Place,
    up: Matrix,
    down: Matrix,
    /// `weight · alpha / rank`.
    factor: f32,
}

/// A LoRA's changes to one tower.
#[derive(Clone, Debug, Default)]
pub struct Lora {
    file: String,
    changes: Vec<Change>,
}

/// A LoRA's file, read.
#[derive(Debug)]
pub struct LoraFile {
    /// Its path.
    pub file: String,
    changes: BTreeMap<Slot, Vec<Change>>,
    /// Keys that speak of a text encoder but match none of its linear layers.
    pub unmatched: Vec<String>,
    /// How many keys are the UNet's, which merges them itself.
    pub others: usize,
}

/// The three tensors of a module.
#[derive(Default)]
struct Parts {
    up: Option<String>,
    down: Option<String>,
    alpha: Option<String>,
}

const UP: [&str; 5] = [
    ".lora_up.weight",
    ".lora_linear_layer.up.weight",
    ".lora_B.weight",
    ".lora_B.default.weight",
    "_lora.up.weight",
];
const DOWN: [&str; 5] = [
    ".lora_down.weight",
    ".lora_linear_layer.down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    "_lora.down.weight",
];
const ALPHA: &str = ".alpha";

/// Parts of other ways to adapt a layer: merged as a LoRA they would give another model.
const OTHER_METHODS: [(&str, &str); 5] = [
    ("hada_w", "LoHa"),
    ("lokr_w", "LoKr"),
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("oft_", "OFT"),
];

impl LoraFile {
    /// Reads the LoRA at `path`, which is to count `weight` times.
    ///
    /// # Errors
    /// When it can't be read, adapts text encoders in another way, is incomplete, or changes no text encoder.
    pub fn read(path: &Path, weight: f32) -> Result<Self> {
        let file = path.display().to_string();
        let tensors = Tensors::open(path)?;
        let mut found: BTreeMap<(Slot, Place), Parts> = BTreeMap::new();
        let (mut unmatched, mut others) = (Vec::new(), 0);
        for name in tensors.names() {
            let Some((slot, rest)) = text_encoder(name) else {
                others += 1;
                continue;
            };
            if let Some((_, method)) = OTHER_METHODS.iter().find(|(part, _)| rest.contains(part)) {
                bail!(
                    "{file}: {name}: this is a {method}, which cliptext does not merge; convert it to a LoRA"
                );
            }
            let ending = |endings: &[&str]| endings.iter().find_map(|ending| rest.strip_suffix(ending));
            let (module, pick): (_, fn(&mut Parts) -> &mut Option<String>) = if let Some(module) = ending(&UP)
            {
                (module, |parts| &mut parts.up)
            } else if let Some(module) = ending(&DOWN) {
                (module, |parts| &mut parts.down)
            } else if let Some(module) = ending(&[ALPHA]) {
                (module, |parts| &mut parts.alpha)
            } else {
                unmatched.push(name.to_owned());
                continue;
            };
            match place(module) {
                Some(place) => {
                    let part = pick(found.entry((slot, place)).or_default());
                    if let Some(other) = part.replace(name.to_owned()) {
                        bail!(
                            "{file}: {other} and {name} are of the same layer: the file is two LoRAs in one"
                        );
                    }
                }
                None => unmatched.push(name.to_owned()),
            }
        }
        let settings = settings(&tensors).with_context(|| file.clone())?;
        let mut changes: BTreeMap<Slot, Vec<Change>> = BTreeMap::new();
        for ((slot, place), parts) in found {
            let scale = settings.get(&slot).copied().unwrap_or_default();
            let change = change(&tensors, place, &parts, scale, weight).with_context(|| file.clone())?;
            changes.entry(slot).or_default().push(change);
        }
        ensure!(
            !changes.is_empty(),
            "{file}: no LoRA of a text encoder is in it ({others} tensors are the UNet's or unknown{}): nothing to merge here",
            if unmatched.is_empty() {
                String::new()
            } else {
                format!(", unmatched: {}", unmatched.join(", "))
            }
        );
        Ok(LoraFile { file, changes, unmatched, others })
    }

    /// The changes to the tower in `slot`; `None` if there are none.
    pub fn of(&self, slot: Slot) -> Option<Lora> {
        let changes = self.changes.get(&slot)?.clone();
        Some(Lora { file: self.file.clone(), changes })
    }

    /// The slots that it changes.
    pub fn slots(&self) -> Vec<Slot> {
        self.changes.keys().copied().collect()
    }
}

/// How the product of two matrices counts, where no tensor says it: PEFT's settings.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    /// `lora_alpha`; the rank where it is not said.
    alpha: Option<f32>,
    /// Whether alpha is divided by the rank's root instead of the rank (`use_rslora`, arXiv:2312.03732).
    by_root: bool,
}

/// PEFT's settings, which diffusers keeps in a header's notes: an object whose keys begin with the text encoder's name.
fn settings(tensors: &Tensors) -> Result<BTreeMap<Slot, Scale>> {
    const KEY: &str = "lora_adapter_metadata";
    let Some(text) = tensors.note(KEY) else { return Ok(BTreeMap::new()) };
    let said: Map<String, Value> =
        serde_json::from_str(text).with_context(|| format!("{KEY}: expected a JSON object"))?;
    let mut scales = BTreeMap::new();
    for (name, slot) in [("text_encoder", Slot::First), ("text_encoder_2", Slot::Second)] {
        let get = |key: &str| said.get(&format!("{name}.{key}"));
        let patterns = get("alpha_pattern").and_then(Value::as_object);
        ensure!(
            patterns.is_none_or(Map::is_empty),
            "{KEY}: {name}.alpha_pattern gives layers an alpha of their own, which cliptext does not read; save the LoRA in \
             kohya's layout, with alphas as tensors"
        );
        let alpha = get("lora_alpha").and_then(Value::as_f64).map(|alpha| alpha as f32);
        let by_root = get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        scales.insert(slot, Scale { alpha, by_root });
    }
    Ok(scales)
}

fn change(tensors: &Tensors, place: Place, parts: &Parts, scale: Scale, weight: f32) -> Result<Change> {
    let (Some(up), Some(down)) = (&parts.up, &parts.down) else {
        let there = parts.up.as_ref().or(parts.down.as_ref()).or(parts.alpha.as_ref());
        bail!("{} stands alone: up and down must both be there", there.map_or("a tensor", String::as_str));
    };
    let name = up.clone();
    let (up, down) = (tensors.matrix(up)?, tensors.matrix(down)?);
    let rank = down.rows;
    ensure!(rank > 0 && up.cols == rank, "{name}: {} columns, its down has {rank} rows", up.cols);
    let alpha = match &parts.alpha {
        Some(alpha) => match tensors.floats(alpha)?.as_slice() {
            [alpha] => *alpha,
            other => bail!("{alpha}: expected one number, found {}", other.len()),
        },
        None => scale.alpha.unwrap_or(rank as f32),
    };
    let divisor = if scale.by_root { (rank as f32).sqrt() } else { rank as f32 };
    Ok(Change { name, place, up, down, factor: weight * alpha / divisor })
}

/// The slot that a tensor's name speaks of, and the name without the part that says so; `None` for other networks'.
fn text_encoder(name: &str) -> Option<(Slot, &str)> {
    let prefixes = [
        ("lora_te1_", Slot::First),
        ("lora_te2_", Slot::Second),
        ("lora_te_", Slot::First),
        ("text_encoder_2.", Slot::Second),
        ("text_encoder.", Slot::First),
        ("text_encoders.clip_l.transformer.", Slot::First),
        ("text_encoders.clip_g.transformer.", Slot::Second),
        ("base_model.model.text_model.", Slot::First),
    ];
    let (prefix, slot) = prefixes.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    Some((*slot, name.get(prefix.len()..)?))
}

/// The linear layer that a module's name means, in any of the spellings: kohya writes `_` for every dot.
fn place(module: &str) -> Option<Place> {
    let flat = module.replace('.', "_");
    let rest = flat.strip_prefix("text_model_").unwrap_or(&flat);
    if rest == "text_projection" {
        return Some(Place::Projection);
    }
    let (index, part) = rest.strip_prefix("encoder_layers_")?.split_once('_')?;
    let module = match part {
        "self_attn_q_proj" | "self_attn_to_q" => Module::Query,
        "self_attn_k_proj" | "self_attn_to_k" => Module::Key,
        "self_attn_v_proj" | "self_attn_to_v" => Module::Value,
        "self_attn_out_proj" | "self_attn_to_out" => Module::Out,
        "mlp_fc1" => Module::Fc1,
        "mlp_fc2" => Module::Fc2,
        _ => return None,
    };
    Some(Place::Layer(index.parse().ok()?, module))
}

impl Module {
    fn of(self, layer: &mut Layer) -> &mut Matrix {
        let linear = match self {
            Module::Query => &mut layer.query,
            Module::Key => &mut layer.key,
            Module::Value => &mut layer.value,
            Module::Out => &mut layer.out,
            Module::Fc1 => &mut layer.fc1,
            Module::Fc2 => &mut layer.fc2,
        };
        &mut linear.weight
    }
}

impl Lora {
    /// Adds every change to `model`; returns the names of those that it has no layer for.
    ///
    /// # Errors
    /// When a change has other sizes than its layer.
    pub fn merge(&self, model: &mut TextModel) -> Result<Vec<&str>> {
        let mut left_out = Vec::new();
        for change in &self.changes {
            let weight = match change.place {
                Place::Layer(index, module) => model.layers.get_mut(index).map(|layer| module.of(layer)),
                Place::Projection => model.projection.as_mut(),
            };
            let Some(weight) = weight else {
                left_out.push(change.name.as_str());
                continue;
            };
            let (up, down) = (&change.up, &change.down);
            ensure!(
                (up.rows, down.cols) == (weight.rows, weight.cols),
                "{}: {}: it changes a matrix of {} × {}, the model's has {} × {}: it was trained for another model",
                self.file,
                change.name,
                up.rows,
                down.cols,
                weight.rows,
                weight.cols
            );
            add_product(weight, up, down, change.factor);
        }
        Ok(left_out)
    }
}

/// `weight += factor · up · down`, each sum in f64 in the order of the ranks.
fn add_product(weight: &mut Matrix, up: &Matrix, down: &Matrix, factor: f32) {
    let mut sums = vec![0f64; weight.cols];
    for row in 0..weight.rows {
        sums.fill(0.0);
        for (rank, &u) in up.row(row).iter().enumerate() {
            for (sum, &d) in sums.iter_mut().zip(down.row(rank)) {
                *sum += f64::from(u) * f64::from(d);
            }
        }
        let values = &mut weight.values[row * weight.cols..][..weight.cols];
        for (value, sum) in values.iter_mut().zip(&sums) {
            *value = (f64::from(*value) + f64::from(factor) * sum) as f32;
        }
    }
}
