//! The largest files that are read, and what becomes of larger ones: time in proportion to the size, or a refusal. A run has a minute, in
//! which a quadratic would take hours. `cargo test --release --test models limits -- --ignored --nocapture` takes larger ones.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cliptext_test_support::{Scratch, fixtures};
use serde_json::json;

use crate::common::{like_l, write_component};

/// What a run may take.
const TIME: Duration = Duration::from_secs(60);

/// Runs the program with a limit of its addresses, in MiB; its code, and what it says.
fn within(mib: usize, args: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10);
    let scratch = Scratch::new();
    let said = scratch.path().join("said");
    let start = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_cliptext")])
        .args(args)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() < TIME => std::thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().unwrap();
                panic!("{args:?} takes more than {TIME:?}");
            }
        }
    };
    println!("{:.2?}  {args:?}", start.elapsed());
    (status.code(), std::fs::read_to_string(said).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file whose header is `header`, and so many zeros behind it.
fn safetensors(path: &Path, header: &str, zeros: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + zeros, 0);
    std::fs::write(path, bytes).unwrap();
}

/// The vocabulary of so many ids as the small model has rows, beside it.
fn own_vocabulary(model: &Path) {
    std::fs::copy(fixtures().join("tokenizer/merges-86.txt"), model.join("merges.txt")).unwrap();
}

/// A LoRA of so many tensors, for layers that a model does not have from some number on.
fn lora(path: &Path, tensors: usize) {
    let mut header = String::from("{");
    for index in 0..tensors {
        let (layer, part) = (index / 2, ["down", "up"][index % 2]);
        let shape = [[1, 64], [64, 1]][index % 2];
        let (from, to) = (index * 256, (index + 1) * 256);
        let name = format!("lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj.lora_{part}.weight");
        let comma = if index == 0 { "" } else { "," };
        write!(
            header,
            "{comma}\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}"
        )
        .unwrap();
    }
    header.push('}');
    safetensors(path, &header, tensors * 256);
}

fn long_loras(tensors: usize) {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    own_vocabulary(&model);
    let (file, plan) = (scratch.path().join("lora.safetensors"), scratch.path().join("x.plan"));
    lora(&file, tensors);
    let (code, said) = within(
        2048,
        &["compile", text(&model), "--vocab", text(&model), "--lora", text(&file), "-o", text(&plan)],
    );
    // It is for a model with more layers, which is told.
    assert!(code == Some(0) && said.contains("lora.safetensors"), "{code:?}: {said}");
    assert!(said.len() < 4000, "{} bytes of message", said.len());
}

#[test]
fn loras_of_many_tensors_take_linear_time() {
    long_loras(10_000);
}

#[test]
#[ignore = "larger"]
fn loras_of_very_many_tensors_take_linear_time() {
    long_loras(80_000);
}

/// Headers of so many tensors.
fn long_headers(tensors: usize) -> String {
    let entry =
        |at: usize| (format!("x{at:07}"), json!({"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]}));
    serde_json::Value::Object((0..tensors).map(entry).collect()).to_string()
}

#[test]
fn long_headers_are_read_in_linear_time_and_longer_ones_refused() {
    let scratch = Scratch::new();
    let file = scratch.path().join("model.safetensors");
    safetensors(&file, &long_headers(100_000), 100_000);
    let (code, said) = within(1024, &["inspect-model", text(&file)]);
    assert!(code == Some(1) && said.contains("Its 100000 tensors begin with"), "{said}");
    assert!(said.len() < 4000, "{said}");
    // 17 MB, and 100 MB that are not even there.
    safetensors(&file, &format!("{{{}}}", " ".repeat(17 << 20)), 0);
    let (code, said) = within(256, &["inspect-model", text(&file)]);
    assert!(code == Some(1) && said.contains("the header is said to have"), "{said}");
    safetensors(&file, &"{\"a\":".repeat(1 << 20), 0);
    let (code, said) = within(256, &["inspect-model", text(&file)]);
    assert!(code == Some(1) && said.contains("model.safetensors"), "{said}");
}

/// A tokenizer with so many tokens and merges more than there can be.
fn long_tokenizers(tokens: usize, mib: usize) {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    own_vocabulary(&model);
    let (file, plan) = (scratch.path().join("tokenizer.json"), scratch.path().join("x.plan"));
    let vocabulary: serde_json::Map<_, _> = (0..tokens).map(|id| (format!("zz{id}"), id.into())).collect();
    let merges: Vec<_> = (1..tokens).map(|id| format!("zz{} zz{id}", id - 1)).collect();
    let tokenizer =
        json!({"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}, "added_tokens": []});
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    let args = ["compile", text(&model), "--vocab", text(&file), "-o", text(&plan), "--quiet"];
    let (code, said) = within(mib, &args);
    assert!(code == Some(1) && said.contains("tokenizer.json"), "{said}");
    let list = scratch.path().join("merges.txt");
    std::fs::write(&list, merges.join("\n")).unwrap();
    let args = ["compile", text(&model), "--vocab", text(&list), "-o", text(&plan), "--quiet"];
    let (code, said) = within(mib, &args);
    assert!(code == Some(1) && said.contains("merges.txt"), "{said}");
    assert!(said.len() < 4000, "{} bytes of message", said.len());
}

#[test]
fn large_tokenizers_are_refused_in_linear_time() {
    long_tokenizers(200_000, 1024);
}

#[test]
#[ignore = "larger"]
fn very_large_tokenizers_are_refused_in_linear_time() {
    long_tokenizers(1_200_000, 2048);
}

#[test]
fn files_of_any_size_are_not_read_whole() {
    let scratch = Scratch::new();
    let (model, plan) = (scratch.path().join("model"), scratch.path().join("x.plan"));
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        write_component(&model, &like_l());
        own_vocabulary(&model);
        // Without a byte on the disk.
        let file = std::fs::File::create(model.join(name)).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
        let (code, said) =
            within(512, &["compile", text(&model), "--vocab", text(&model), "-o", text(&plan), "--quiet"]);
        assert!(
            code == Some(1) && said.contains(name) && said.contains("larger than 64 MB"),
            "{name}: {said}"
        );
        std::fs::remove_file(model.join(name)).unwrap();
        // As deep as it is long.
        std::fs::write(model.join(name), "{\"a\":".repeat(1 << 20)).unwrap();
        let (code, said) =
            within(512, &["compile", text(&model), "--vocab", text(&model), "-o", text(&plan), "--quiet"]);
        assert!(code == Some(1) && said.contains(name), "{name}: {said}");
        std::fs::remove_file(model.join(name)).unwrap();
    }
}

#[test]
fn lists_of_added_tokens_are_read_in_linear_time() {
    const TOKENS: usize = 200_000;
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    let plan = scratch.path().join("x.plan");
    let vocabulary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/vocabulary");
    std::fs::copy(vocabulary.join("merges.txt"), model.join("merges.txt")).unwrap();
    let texts: Vec<_> = (0..TOKENS).map(|token| format!("<zz{token}>")).collect();
    let refused = |name: &str, listed: serde_json::Value| {
        std::fs::write(model.join(name), listed.to_string()).unwrap();
        let (code, said) = within(1024, &["compile", text(&model), "-o", text(&plan), "--quiet"]);
        assert!(code == Some(1) && said.len() < 4000, "{name}: {code:?}, {} bytes of message", said.len());
        std::fs::remove_file(model.join(name)).unwrap();
    };
    // More than the model's table has rows for.
    refused("tokenizer_config.json", json!({"extra_special_tokens": texts}));
    let plain: serde_json::Map<_, _> =
        texts.iter().zip(600..).map(|(text, id)| (text.clone(), id.into())).collect();
    refused("added_tokens.json", plain.into());
}
