//! `encode --labels` from outside: the rows of a zero-shot classifier.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use cliptext::{AlignedBytes, Kernels, Plan};
use common::{Folder, ONE_TOWER, fails, fixture, npy, ok, run};

const LABELS: [&str; 24] = [
    "cat",
    "dog",
    "traffic light",
    "a b c d e f",
    "x",
    "zebra",
    "fire hydrant",
    "ab",
    "ba",
    "abc",
    "cba",
    "12",
    "34 56",
    "q",
    "tennis racket",
    "hair drier",
    "y",
    "z z",
    "bus",
    "train",
    "truck",
    "boat",
    "bird",
    "a very long label that takes more tokens than the others do, so that the pass is full sooner",
];
const TEMPLATES: [&str; 3] = ["a photo of a {}.", "{c}", "the {c}, a {}"];

/// Plans with a projection, of 20 and 16 columns.
fn plans() -> [String; 2] {
    ["two-towers.plan", "long.plan"].map(fixture)
}

/// The rows for the labels and templates in two files.
fn rows(folder: &Folder, plan: &str, labels: &[&str], templates: &[&str], more: &[&str]) -> Vec<f32> {
    let files = [("labels.txt", labels), ("templates.txt", templates)];
    let [labels_file, templates_file] =
        files.map(|(name, texts)| folder.write(name, (texts.join("\n") + "\n").as_bytes()));
    let out = folder.path("rows.npy");
    let mut args = vec!["encode", plan, "--labels", &labels_file, "-o", &out];
    if !templates.is_empty() {
        args.extend(["--templates", &templates_file]);
    }
    ok(&[&args[..], more].concat());
    let (shape, values) = npy(&out);
    assert_eq!(shape, [labels.len(), values.len() / labels.len()]);
    values
}

/// The pooled output of a text by itself.
fn pooled(folder: &Folder, plan: &str, text: &str) -> Vec<f32> {
    let (hidden, pooled) = (folder.path("h.npy"), folder.path("p.npy"));
    ok(&["encode", plan, "--prompt", text, "--no-pad", "-o", &hidden, "--pooled", &pooled]);
    npy(&pooled).1
}

fn unit(values: &[f64]) -> Vec<f64> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.iter().map(|value| value / length).collect()
}

/// The rule of OpenCLIP's `zero_shot_classifier.py` (`build_zero_shot_classifier_legacy`, at commit 67bfcaa): each text's
/// embedding is normalised, their mean over the templates too.
#[test]
fn rows_are_the_normalised_means_of_normalised_embeddings() {
    let folder = Folder::new("label-means");
    for plan in plans() {
        let labels = &LABELS[..3];
        let got = rows(&folder, &plan, labels, &TEMPLATES, &[]);
        let columns = got.len() / labels.len();
        for (label, row) in labels.iter().zip(got.chunks(columns)) {
            let texts =
                [format!("a photo of a {label}."), label.to_string(), format!("the {label}, a {label}")];
            let mut mean = vec![0.0; columns];
            for text in &texts {
                let values: Vec<f64> = pooled(&folder, &plan, text).into_iter().map(f64::from).collect();
                mean.iter_mut().zip(unit(&values)).for_each(|(mean, value)| *mean += value / 3.0);
            }
            for (got, want) in row.iter().zip(unit(&mean)) {
                assert!((f64::from(*got) - want).abs() < 1e-7, "{label}: {got} {want}");
            }
        }
    }
}

#[test]
fn packed_labels_have_the_bits_that_each_has_alone() {
    let folder = Folder::new("label-bits");
    for plan in plans() {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let alone: Vec<u32> =
            LABELS.iter().flat_map(|label| bits(rows(&folder, &plan, &[label], &[], &[]))).collect();
        let bytes = AlignedBytes::copy_of(&std::fs::read(&plan).unwrap());
        let packing = Plan::load(&bytes).unwrap().manifest().packing;
        for kernels in Kernels::available().filter(|kernels| kernels.reads(packing)) {
            for threads in ["1", "2"] {
                let run = ["--kernel", kernels.name(), "--threads", threads];
                assert!(bits(rows(&folder, &plan, &LABELS, &[], &run)) == alone, "{run:?}");
            }
        }
    }
}

#[test]
fn labels_come_from_standard_input_and_arrays_too() {
    let folder = Folder::new("label-stdin");
    let plan = fixture("two-towers.plan");
    let want = rows(&folder, &plan, &["a cat", "a dog"], &[], &[]);
    let out = folder.path("piped.npy");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
        .args(["encode", &plan, "--labels", "-", "-o", &out])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"a cat\na dog\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(npy(&out).1, want);
    let array = folder.write("labels.json", br#"["a cat", "a dog"]"#);
    ok(&["encode", &plan, "--labels", &array, "-o", &out]);
    assert_eq!(npy(&out).1, want);
    let raw = folder.path("rows.f32");
    ok(&["encode", &plan, "--labels", &array, "-o", &raw]);
    let bytes: Vec<u8> = want.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(std::fs::read(&raw).unwrap() == bytes);
}

#[test]
fn what_is_odd_in_a_label_set_is_told() {
    let folder = Folder::new("label-odd");
    let plan = fixture("two-towers.plan");
    let long = "word ".repeat(100);
    let labels = folder.write("labels.txt", format!("cat\n\n dog\n{long}\ncat\n").as_bytes());
    let out = folder.path("rows.npy");
    let output = run(&["encode", &plan, "--labels", &labels, "-o", &out]);
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    for part in
        ["label 2 is empty: left out", "label 5 is label 1 again: \"cat\"", "cut to 77 tokens: \"word"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let (shape, values) = npy(&out);
    assert_eq!(shape, [4, 20]);
    assert_eq!(values[..20], values[60..]);
}

#[test]
fn label_sets_that_do_not_do_are_refused() {
    let folder = Folder::new("label-refused");
    let plan = fixture("two-towers.plan");
    let labels = folder.write("labels.txt", b"cat\ndog\n");
    let out = folder.path("rows.npy");
    let base = ["encode", &plan, "--labels", &labels];
    let refused = |more: &[&str], code: i32, parts: &[&str]| {
        let error = fails(&[&base[..], more].concat(), code);
        assert!(parts.iter().all(|part| error.contains(part)), "{more:?}: {error}");
    };
    refused(&[], 2, &["--labels: give -o"]);
    refused(&["-o", &folder.path("x.json")], 2, &["x.json", ".npy"]);
    refused(&["-o", &out, "a prompt"], 2, &["a prompt", "--labels"]);
    for (option, value) in [("--prompt", "x"), ("--prompts", "x"), ("--negative", "x"), ("--pooled", "x")] {
        refused(&["-o", &out, option, value], 2, &[option, "--labels"]);
    }
    refused(&["-o", &out, "--no-pad"], 2, &["--no-pad", "--labels"]);
    refused(&["-o", &labels], 2, &["labels.txt"]);
    let templates = |text: &str| folder.write("templates.txt", text.as_bytes());
    let lacking = templates("a {}\na photo of {label}\n");
    refused(&["-o", &out, "--templates", &lacking], 1, &["templates.txt", "template 2", "{}", "{label}"]);
    refused(&["-o", &out, "--templates", &templates("\n\n")], 1, &["templates.txt", "empty"]);
    refused(&["-o", &out, "--templates", &folder.path("none.txt")], 1, &["none.txt"]);
    let unprojected = fails(&["encode", ONE_TOWER, "--labels", &labels, "-o", &out], 2);
    assert!(unprojected.contains("no projection"), "{unprojected}");
    assert!(fails(&["encode", &plan, "--templates", &labels, "-o", &out, "x"], 2).contains("--labels"));
    let missing = fails(&["encode", &plan, "--labels", &folder.path("none"), "-o", &out], 1);
    assert!(missing.contains("none"), "{missing}");
    assert!(!folder.names().contains(&"rows.npy".to_owned()));
}
