//! LoRAs: merged weights are `W + weight · alpha / rank · up · down`, whoever wrote the file.

use std::path::{Path, PathBuf};

use cliptext_compiler::compile::Job;
use cliptext_compiler::edit::Edits;
use cliptext_compiler::edit::lora::LoraFile;
use cliptext_compiler::reference::relative_error;
use cliptext_synthetic::Tower;
use cliptext_test_support::Scratch;

use super::common::*;

mod bundles;
mod differences;
mod goldens;
mod layouts;
mod peft;
mod refusals;

const PROMPT: &str = "the cat and a dog";

/// A module as transformers 4 calls it behind `text_model.`, and its outputs and inputs.
type Change = (&'static str, [usize; 2]);

/// Changes to every kind of linear layer of a tower of width 64 with an MLP of 128.
const CHANGES: [Change; 6] = [
    ("encoder.layers.0.self_attn.q_proj", [64, 64]),
    ("encoder.layers.0.self_attn.k_proj", [64, 64]),
    ("encoder.layers.1.self_attn.v_proj", [64, 64]),
    ("encoder.layers.1.self_attn.out_proj", [64, 64]),
    ("encoder.layers.2.mlp.fc1", [128, 64]),
    ("encoder.layers.2.mlp.fc2", [64, 128]),
];

const RANK: usize = 4;

/// `[up, down]` of a change of that rank.
fn matrices(change: &Change, rank: usize) -> [Named; 2] {
    let (module, [outputs, inputs]) = *change;
    [
        Named::arbitrary(format!("{module} up"), &[outputs, rank]),
        Named::arbitrary(format!("{module} down"), &[rank, inputs]),
    ]
}

/// The file of `changes` with every module's key made by `key(module, part)`; part is `up`, `down` or `alpha`.
fn lora(changes: &[Change], alpha: Option<f32>, key: impl Fn(&str, &str) -> String) -> Vec<Named> {
    let mut all = Vec::new();
    for change in changes {
        let [up, down] = matrices(change, RANK);
        all.push(up.called(key(change.0, "up")));
        all.push(down.called(key(change.0, "down")));
        all.extend(alpha.map(|alpha| Named::f32(key(change.0, "alpha"), &[], &[alpha])));
    }
    all
}

/// kohya's keys behind `prefix`.
fn kohya(prefix: &'static str) -> impl Fn(&str, &str) -> String {
    move |module, part| {
        let module = format!("text_model.{module}").replace('.', "_");
        match part {
            "alpha" => format!("{prefix}{module}.alpha"),
            part => format!("{prefix}{module}.lora_{part}.weight"),
        }
    }
}

/// `up · down` in f64, row after row.
fn product(change: &Change, rank: usize) -> Vec<f64> {
    let [up, down] = matrices(change, rank).map(|named| named.values());
    let [outputs, inputs] = change.1;
    let at = |row: usize, column: usize| {
        (0..rank).map(|r| f64::from(up[row * rank + r]) * f64::from(down[r * inputs + column])).sum()
    };
    (0..outputs * inputs).map(|index| at(index / inputs, index % inputs)).collect()
}

/// Adds `factor · values` to a tensor of the tower.
fn add(tower: &mut Tower, name: &str, factor: f64, values: &[f64]) {
    let tensor = tower.tensors.iter_mut().find(|tensor| tensor.name == name);
    let tensor = tensor.unwrap_or_else(|| panic!("{name}"));
    assert_eq!(tensor.values.len(), values.len(), "{name}");
    for (own, value) in tensor.values.iter_mut().zip(values) {
        *own = (f64::from(*own) + factor * value) as f32;
    }
}

/// The tower with `factor · up · down` added, in `folder`.
fn merged(tower: &Tower, changes: &[Change], factor: f64, folder: &Path) -> PathBuf {
    let mut tower = tower.clone();
    for change in changes {
        add(&mut tower, &format!("text_model.{}.weight", change.0), factor, &product(change, RANK));
    }
    write_component(folder, &tower)
}

#[track_caller]
fn read(file: &Path, weight: f32) -> LoraFile {
    LoraFile::read(file, weight).unwrap_or_else(|e| panic!("{e:#}"))
}

fn with(model: &Path, loras: &[(&Path, f32)], scratch: &Scratch) -> Job {
    let loras = loras.iter().map(|(file, weight)| read(file, *weight)).collect();
    with_edits(job(model, scratch), Edits { inversions: vec![], loras })
}

/// Hidden states and pooled row of the prompt by a model.
type Rows = (Vec<f32>, Option<Vec<f32>>);

/// What the model in a folder gives.
#[track_caller]
fn encoded(model: &Path, scratch: &Scratch) -> Rows {
    compiled(&job(model, scratch)).encode(PROMPT)
}

/// By how much the model with the LoRA differs from `expected`, of the largest value.
#[track_caller]
fn error_against(expected: &Rows, model: &Path, lora: (&Path, f32), scratch: &Scratch) -> f32 {
    let ours = compiled(&with(model, &[lora], scratch)).encode(PROMPT);
    let pooled = relative_error(&ours.1.unwrap(), expected.1.as_ref().unwrap());
    relative_error(&ours.0, &expected.0).max(pooled)
}

/// Why a file of these tensors is refused.
#[track_caller]
fn refusal(tensors: &[Named], scratch: &Scratch) -> String {
    let file = write(&scratch.path().join("bad.safetensors"), tensors);
    let error = format!("{:#}", LoraFile::read(&file, 1.0).expect_err("a refusal"));
    assert!(error.contains("bad.safetensors"), "{error}");
    error
}

#[test]
fn weights_count_and_add_up() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let plain = compiled(&job(&model, &scratch)).bytes().to_vec();
    let whole = write(&scratch.path().join("whole.safetensors"), &lora(&CHANGES, None, kohya("lora_te_")));
    let halves = [&CHANGES[..3], &CHANGES[3..]].map(|changes| {
        write(
            &scratch.path().join(format!("{}.safetensors", changes[0].0)),
            &lora(changes, None, kohya("lora_te_")),
        )
    });
    let plan = |loras: &[(&Path, f32)]| compiled(&with(&model, loras, &scratch));
    assert!(plan(&[(&whole, 0.0)]).bytes() == plain, "a weight of 0 changes nothing");
    let once = plan(&[(&whole, 1.0)]).bytes().to_vec();
    assert!(once != plain);
    assert!(plan(&[(&halves[0], 1.0), (&halves[1], 1.0)]).bytes() == once);
    // Without alpha the rank stands for it: the factor is the weight.
    let expected = encoded(&merged(&tower, &CHANGES, 1.0, &scratch.path().join("merged")), &scratch);
    assert!(error_against(&expected, &model, (&whole, 1.0), &scratch) < 1e-6);
    let back = plan(&[(&whole, 1.0), (&whole, -1.0)]).encode(PROMPT).0;
    let never = plan(&[]).encode(PROMPT).0;
    assert!(relative_error(&back, &never) < 1e-5);
}

/// ComfyUI extracts LoRAs of every tensor, and a file may have a hundred thousand keys: each is looked at a few times only. Work
/// that grew with the square of their number would take minutes here.
#[test]
fn many_keys_are_read_in_linear_time() {
    let scratch = Scratch::new();
    let modules = (0..20_000).map(|layer| format!("lora_te_text_model_encoder_layers_{layer}_mlp_fc1"));
    let tensors: Vec<Named> = modules
        .flat_map(|module| {
            [
                ("alpha", vec![]),
                ("lora_up.weight", vec![1, 1]),
                ("lora_down.weight", vec![1, 1]),
                ("diff_b", vec![1]),
            ]
            .map(|(part, shape)| Named::f32(format!("{module}.{part}"), &shape, &[1.0]))
        })
        .collect();
    let file = write(&scratch.path().join("many.safetensors"), &tensors);
    let started = std::time::Instant::now();
    read(&file, 1.0);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    // A message about many keys stays short.
    let unknown: Vec<Named> = tensors
        .into_iter()
        .map(|tensor| tensor.called_with(|name| name.replace("mlp_fc1", "mlp_fc9")))
        .collect();
    let error = refusal(&unknown, &scratch);
    assert!(
        error.len() < 1000 && error.contains("80000 of its keys") && error.contains("79995 more"),
        "{error}"
    );
}
