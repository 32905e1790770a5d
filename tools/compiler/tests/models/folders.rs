//! Folders as Hugging Face lays them out compute what transformers computes.

use std::path::{Path, PathBuf};

use cliptext_compiler::ir::Pooled;
use cliptext_compiler::preset::{Choice, Hidden};
use cliptext_compiler::reference::relative_error;
use cliptext_compiler::source::{Source, Weights};
use cliptext_synthetic::{Activation, Dtype, Names, Options, checkpoint, generate};
use cliptext_test_support::{Array, Goldens, Scratch, fixtures, full_fixtures};

use super::common::*;

/// Of the largest value.
const F32: f32 = 1e-4;
/// The same, for weights that were rounded to f16: transformers computes with the very same, so no more is lost.
const F16: f32 = 1e-4;

fn zoo_proj() -> Options {
    Options { seed: 14, activation: Activation::Gelu, projection: Some(8), ..zoo_sd() }
}

pub(super) fn tiny_proj() -> Options {
    let sizes = Options { width: 64, layers: 3, heads: 4, mlp: 256, ..Options::default() };
    Options { seed: 12, activation: Activation::Gelu, projection: Some(32), ..sizes }
}

/// Every padding's goldens that are in the folder, by the plan with f32 weights.
fn meets_goldens(model: &Path, goldens: &Path, tolerance: f32) {
    let scratch = Scratch::new();
    let plan = compiled(&cliptext_compiler::compile::Job { vocabulary: None, ..job(model, &scratch) });
    let mut seen = 0;
    for padding in ["eotpad", "zeropad", "short"] {
        if !goldens.join(format!("{padding}.input_ids.npy")).exists() {
            continue;
        }
        let goldens = Goldens::read(goldens, padding);
        for (prompt, ids) in goldens.ids.iter().enumerate() {
            let (hidden, pooled) = plan.encode_ids(ids);
            let error = relative_error(&hidden, &goldens.last_hidden_state[prompt]);
            let pooled_error = relative_error(&pooled.expect("a pooled row"), &goldens.pooled[prompt]);
            let worst = error.max(pooled_error);
            assert!(worst <= tolerance, "{}: {padding}, prompt {prompt}: {worst:e}", model.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "{}: no goldens", goldens.display());
}

/// Every layer's states, as `--hidden N --final-norm off` gives them out.
fn meets_hidden_states(model: &Path, goldens: &Path, paddings: &[&str], tolerance: f32) {
    let scratch = Scratch::new();
    for padding in paddings {
        let array = |part: &str| Array::read(&goldens.join(format!("{padding}.{part}.npy")));
        let (ids, states) = (array("input_ids"), array("hidden_states"));
        let (layers, prompts, tokens, width) =
            (states.shape[0], states.shape[1], states.shape[2], states.shape[3]);
        for layer in 1..layers {
            let choice = Choice {
                hidden: Some(Hidden::After(layer)),
                final_norm: Some(false),
                pooled: Some(Pooled::None),
                ..Choice::default()
            };
            let mut job = job(model, &scratch);
            (job.vocabulary, job.model.choice) = (None, choice);
            let plan = compiled(&job);
            assert_eq!(plan.report.towers[0].layers, layer, "layers behind it are not in the plan");
            for prompt in 0..prompts {
                let (hidden, pooled) = plan.encode_ids(&ids.u32()[prompt * tokens..][..tokens]);
                let expected = &states.f32()[(layer * prompts + prompt) * tokens * width..][..tokens * width];
                let error = relative_error(&hidden, expected);
                assert!(error <= tolerance, "{}: layer {layer}: {error:e}", model.display());
                assert!(pooled.is_none());
            }
        }
    }
}

pub(super) fn written(options: &Options, scratch: &Scratch) -> PathBuf {
    write_component(&scratch.path().join("model"), &generate(options))
}

#[test]
fn folders_meet_their_goldens() {
    for (name, options, tolerance) in [
        ("zoo-sd", zoo_sd(), F32),
        ("zoo-proj", zoo_proj(), F32),
        ("tiny-proj", tiny_proj(), F32),
        ("tiny-proj-fp16", Options { dtype: Dtype::F16, ..tiny_proj() }, F16),
        // As transformers 5 names them; and with a buffer of positions, which is no weight.
        ("zoo-sd", Options { names: Names::V5, ..zoo_sd() }, F32),
        ("zoo-sd", Options { position_ids: true, ..zoo_sd() }, F32),
    ] {
        let scratch = Scratch::new();
        meets_goldens(&written(&options, &scratch), &fixtures().join(name).join("goldens"), tolerance);
    }
}

#[test]
fn every_layer_meets_its_goldens() {
    let scratch = Scratch::new();
    let sd = written(&zoo_sd(), &scratch);
    meets_hidden_states(&sd, &fixtures().join("zoo-sd/goldens"), &["eotpad", "short"], F32);
    let scratch = Scratch::new();
    let proj = written(&tiny_proj(), &scratch);
    meets_hidden_states(&proj, &fixtures().join("tiny-proj/goldens"), &["short"], F32);
    let scratch = Scratch::new();
    let half = written(&Options { dtype: Dtype::F16, ..tiny_proj() }, &scratch);
    meets_hidden_states(&half, &fixtures().join("tiny-proj-fp16/goldens"), &["short"], F16);
}

#[test]
fn full_fixtures_meet_their_goldens() {
    let Some(full) = full_fixtures() else {
        println!("CLIPTEXT_FIXTURES is not set: the same folders are tested as this project makes them");
        return;
    };
    for name in ["zoo-sd", "zoo-proj", "tiny-proj", "tiny-proj-fp16"] {
        let (folder, tolerance) = (full.join(name), if name.contains("fp16") { F16 } else { F32 });
        meets_goldens(&folder, &folder.join("goldens"), tolerance);
        let paddings: &[&str] = if name == "zoo-sd" { &["eotpad", "short"] } else { &["zeropad", "short"] };
        meets_hidden_states(&folder, &folder.join("goldens"), paddings, tolerance);
    }
}

#[test]
fn sharded_weights_give_the_same_plan() {
    let scratch = Scratch::new();
    let tower = like_l();
    let whole = write_component(&scratch.path().join("whole"), &tower);
    let sharded = scratch.path().join("sharded");
    let tensors = hugging_face(&tower, "");
    let (first, second) = tensors.split_at(tensors.len() / 3);
    write(&sharded.join("model-00001-of-00002.safetensors"), first);
    write(&sharded.join("model-00002-of-00002.safetensors"), second);
    let place = |tensors: &[Named], file: &str| -> serde_json::Map<String, serde_json::Value> {
        tensors.iter().map(|tensor| (tensor.name.clone(), file.into())).collect()
    };
    let mut map = place(first, "model-00001-of-00002.safetensors");
    map.extend(place(second, "model-00002-of-00002.safetensors"));
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    let index = write_text(&sharded.join("model.safetensors.index.json"), &index);
    write_text(&sharded.join("config.json"), &checkpoint::config(&tower.options));
    let expected = compiled(&job(&whole, &scratch)).bytes().to_vec();
    assert!(compiled(&job(&sharded, &scratch)).bytes() == expected);
    // The index itself may be given as well.
    assert!(compiled(&job(&index, &scratch)).bytes() == expected);
}

#[test]
fn bf16_is_read_exactly() {
    let scratch = Scratch::new();
    let tower = like_l();
    // A bf16 is the upper half of an f32.
    let tensors = hugging_face(&tower, "");
    let rounded: Vec<Named> = tensors.iter().cloned().map(Named::bf16).collect();
    let cut = |tensor: Named| {
        let values: Vec<f32> =
            tensor.values().iter().map(|value| f32::from_bits(value.to_bits() & 0xFFFF_0000)).collect();
        Named::f32(tensor.name, &tensor.shape, &values)
    };
    let wide: Vec<Named> = tensors.into_iter().map(cut).collect();
    let [narrow, wide] = [("narrow", rounded), ("wide", wide)].map(|(name, tensors)| {
        write(&scratch.path().join(name).join("model.safetensors"), &tensors);
        write_text(&scratch.path().join(name).join("config.json"), &checkpoint::config(&tower.options));
        compiled(&job(&scratch.path().join(name), &scratch)).bytes().to_vec()
    });
    assert!(narrow == wide);
}

#[test]
fn only_headers_are_read_to_tell_what_is_there() {
    let scratch = Scratch::new();
    let folder = write_component(&scratch.path().join("model"), &like_h());
    let source = Source::open(&folder).unwrap();
    let Weights::Tensors(named) = &source.towers[0].weights else { panic!("tensors") };
    assert_eq!((named.shape.layers, named.shape.width, named.shape.heads), (3, 128, 2));
    assert_eq!((named.shape.projected, named.shape.projects), (Some(96), true));
    assert_eq!(source.preset, None);
}
