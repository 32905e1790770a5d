//! What is too far from the f32 model, or no number at all, does not become a plan.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::compile::Job;
use cliptext_test_support::{Scratch, export};
use prost::Message;

use super::common::*;

/// A small tower whose tensors `change` changes, given the name of each.
fn changed(scratch: &Scratch, change: impl Fn(&str, &mut [f32])) -> PathBuf {
    let mut tower = (*like_l()).clone();
    tower.tensors.iter_mut().for_each(|tensor| change(&tensor.name, &mut tensor.values));
    write_component(&scratch.path().join("changed"), &tower)
}

fn int8(model: &Path, scratch: &Scratch) -> Job {
    Job { precision: Precision::Int8, ..job(model, scratch) }
}

/// A tower whose tokens have two channels of ±`loud`, which every norm leaves out of what it gives on: a token's int8
/// codes have no room for the others. The two leave the mean as it is, and no bias covers what is left.
fn loud(scratch: &Scratch, loud: f32) -> PathBuf {
    const WIDTH: usize = 64;
    changed(scratch, |name, values| {
        if name.ends_with("token_embedding.weight") {
            values.chunks_exact_mut(WIDTH).for_each(|row| row[3..5].copy_from_slice(&[loud, -loud]));
        } else if name.contains("norm") {
            let offsets = if name.ends_with("bias") { 0..WIDTH } else { 3..5 };
            values[offsets].fill(0.0);
        } else if name.contains("out_proj") || name.contains("fc2") {
            // The layers add nothing, so that the embeddings are all there is.
            values.fill(0.0);
        }
    })
}

fn cliptext(model: &Path, plan: &Path, more: &[&str]) -> Output {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = ["compile".into(), text(model), "-o".into(), text(plan), "--vocab".into(), text(&merges())];
    // Without rows in f16, which would be exact enough.
    let more = [&["--budget", "0%"], more].concat();
    Command::new(env!("CARGO_BIN_EXE_cliptext")).args(args).args(more).output().unwrap()
}

#[test]
fn a_bad_plan_is_warned_of_and_a_worse_one_not_written() {
    let scratch = Scratch::new();
    let plan = scratch.path().join("x.plan");
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let doubtful = cliptext(&loud(&scratch, 2.0), &plan, &[]);
    let error = said(&doubtful);
    assert!(doubtful.status.success() && plan.exists(), "{error}");
    let warned =
        error.contains("note: text_model, hidden states: SQNR of only") && error.contains("--quality best");
    assert!(warned && !error.contains("--force"), "{error}");
    std::fs::remove_file(&plan).unwrap();

    let model = loud(&scratch, 30.0);
    let unusable = cliptext(&model, &plan, &[]);
    let error = said(&unusable);
    assert_eq!(unusable.status.code(), Some(1), "{error}");
    for part in ["hidden states", "10 dB", "--force", "--precision f32", "--budget"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!plan.exists());
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 1, "only the model is there");

    let forced = cliptext(&model, &plan, &["--force"]);
    assert!(forced.status.success() && plan.exists(), "{}", said(&forced));
    assert!(said(&forced).contains("SQNR of only"));
    // What f32 keeps is no worse for it.
    let exact = compiled(&job(&model, &scratch)).report;
    assert!(exact.towers[0].hidden_quality.unwrap().sqnr_db > 60.0);
}

#[test]
fn positions_beyond_f16_are_refused_where_plans_keep_them_in_f16() {
    let scratch = Scratch::new();
    let with = |value: f32| {
        changed(&scratch, |name, values| {
            if name.ends_with("position_embedding.weight") {
                values[70 * 64 + 5] = value;
            }
        })
    };
    let error = refused(&int8(&with(70_000.0), &scratch));
    for part in ["position embedding", "position 70", "channel 5", "70000", "65504", "--precision f32"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    compiled(&job(&with(70_000.0), &scratch));
    // What rounds to the largest f16 is kept.
    compiled(&Job { force: true, ..int8(&with(65_519.0), &scratch) });
}

#[test]
fn a_plan_that_computes_no_numbers_is_not_written_even_by_force() {
    let scratch = Scratch::new();
    let model = changed(&scratch, |name, values| {
        if name.contains("layers.1.mlp.fc1.weight") {
            values.iter_mut().for_each(|value| *value = 3e38);
        }
    });
    for precision in [Precision::F32, Precision::Int8] {
        let error = refused(&Job { precision, force: true, ..job(&model, &scratch) });
        assert!(error.contains("no numbers") || error.contains("not finite numbers"), "{error}");
    }
}

#[test]
fn a_value_that_is_no_number_is_named_by_its_tensor_even_if_no_prompt_meets_it() {
    let scratch = Scratch::new();
    let mut model = export("sd.tf523-torch215-ts.op14.static.i64");
    let graph = model.graph.as_mut().unwrap();
    let table = graph.initializer.iter_mut().find(|tensor| tensor.raw_data.len() == 49408 * 16 * 4).unwrap();
    // The row of a token that stands in none of the prompts that a compile measures on.
    table.raw_data[40_000 * 16 * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let file = scratch.write("nan.onnx", &model.encode_to_vec());
    let error = refused(&Job { vocabulary: None, ..job(&file, &scratch) });
    for part in ["nan.onnx", "the token embedding", "value 640000", "NaN"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}
