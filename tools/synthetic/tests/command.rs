//! The program's promises: exit status, messages, whole files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SMALL: &[&str] = &["--width", "16", "--layers", "2", "--heads", "2", "--mlp", "64", "--vocab", "100"];

fn run(form: &str, target: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cliptext-synthetic"))
        .arg(form)
        .arg(target)
        .args(options)
        .output()
        .unwrap()
}

#[track_caller]
fn expect_failure(output: &Output, code: i32, said: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(message.contains(said), "{message}");
}

#[test]
fn a_folder_is_made_with_both_files_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("new").join("model");
    let output = run("safetensors", &folder, SMALL);
    assert!(output.status.success(), "{output:?}");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors"]);
    assert!(fs::read_to_string(folder.join("config.json")).unwrap().contains("\"hidden_size\": 16,"));
}

#[test]
fn a_file_in_the_folders_place_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let taken = scratch.path().join("taken");
    fs::write(&taken, "mine").unwrap();
    expect_failure(&run("safetensors", &taken, SMALL), 1, taken.to_str().unwrap());
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
}

#[test]
fn a_wrong_command_line_is_told_before_any_work() {
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("out");
    expect_failure(
        &run("safetensors", &target, &["--heads", "7"]),
        2,
        "width 768 must be a multiple of heads 7",
    );
    expect_failure(&run("safetensors", &target, &["--act", "relu"]), 2, "quick_gelu");
    expect_failure(&run("onnx", &target, SMALL), 2, "the full-size model only");
    assert!(!target.exists());
}
