//! The compiler's program from outside.

use std::path::Path;
use std::process::{Command, Output};

use cliptext::threads::Solo;
use cliptext::{Encoder, Kernels, Plan, PlanFile, align_arena};
use cliptext_compiler::backend::target::Target;
use cliptext_test_support::{Scratch, export_file, fixtures};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cliptext")).args(args).output().unwrap()
}

fn fails(args: &[&str], code: i32) -> String {
    let output = run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const SMALL: &str = "sd.tf523-torch215-ts.op14.static.i64";

#[test]
fn a_model_becomes_a_plan_and_a_report() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let (plan, report) = (scratch.path().join("sd.plan"), scratch.path().join("report.json"));
    let output = run(&["compile", text(&model), "-o", text(&plan), "--report", text(&report)]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in ["sd.plan", "width 16", "weights", "vocabulary", "arena", "cosine", "SQNR"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("import") && progress.contains("quantize"));
    let file = PlanFile::open(&plan).unwrap();
    let loaded = Plan::load(file.bytes()).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["bytes"]["plan"], file.bytes().len());
    assert_eq!(report["bytes"]["arena"], loaded.arena_bytes(1));
    assert_eq!(report["towers"][0]["width"], 16);
    assert!(report["towers"][0]["hidden_quality"]["sqnr_db"].as_f64().unwrap() > 10.0);
    assert_eq!(names(scratch.path()).len(), 3, "nothing temporary is left");
}

#[test]
fn quiet_is_quiet_and_the_same_model_gives_the_same_plan() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let plans = ["a.plan", "b.plan"].map(|name| scratch.path().join(name));
    for plan in &plans {
        let output = run(&["compile", text(&model), "-o", text(plan), "--quiet"]);
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    }
    assert!(std::fs::read(&plans[0]).unwrap() == std::fs::read(&plans[1]).unwrap());
}

#[test]
fn precision_and_padding_are_as_asked() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let plan = scratch.path().join("x.plan");
    let args = ["compile", text(&model), "-o", text(&plan), "--quiet", "--precision", "f32", "--pad", "zero"];
    assert!(run(&args).status.success());
    let file = PlanFile::open(&plan).unwrap();
    let loaded = Plan::load(file.bytes()).unwrap();
    assert_eq!(loaded.manifest().packing, cliptext::kernels::layout::Packing::F32);
    let tokens = loaded.tokenizer().encode("a running dog");
    assert_eq!(tokens.ids()[..7], [49406, 320, 2761, 1929, 49407, 0, 0]);
}

#[test]
fn every_target_gives_the_same_embeddings() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let mut all = Vec::new();
    for target in Target::ALL {
        let plan = scratch.path().join(format!("{target}.plan"));
        let args = ["compile", text(&model), "-o", text(&plan), "--quiet", "--target", target.name()];
        let output = run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let file = PlanFile::open(&plan).unwrap();
        let loaded = Plan::load(file.bytes()).unwrap();
        assert_eq!(loaded.manifest().packing, target.packing());
        let mut arena = vec![0; loaded.arena_bytes(1) + 63];
        let scalar = Kernels::named("scalar").unwrap();
        let mut encoder = Encoder::with(&loaded, align_arena(&mut arena), scalar, Solo).unwrap();
        all.push(encoder.encode("a running dog").hidden().to_vec());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    fails(&["compile", text(&model), "-o", "x.plan", "--target", "pi"], 2);
}

#[test]
fn what_can_t_be_compiled_ends_with_1_and_leaves_nothing() {
    let scratch = Scratch::new();
    let plan = scratch.path().join("x.plan");
    let compile = |model: &Path| fails(&["compile", text(model), "-o", text(&plan)], 1);
    assert!(compile(Path::new("/no/such/model.onnx")).contains("/no/such/model.onnx"));
    let garbage = scratch.write("garbage.onnx", b"this is not a model");
    assert!(compile(&garbage).contains("garbage.onnx"));
    let whole = std::fs::read(export_file(SMALL, &scratch)).unwrap();
    let cut = scratch.write("cut.onnx", &whole[..whole.len() / 3]);
    assert!(compile(&cut).contains("cut.onnx"));
    for name in ["bert", "mlp", "vision"] {
        let model = fixtures().join(format!("refused/{name}.onnx"));
        let error = compile(&model);
        assert!(error.contains(name) && error.contains("expected") && error.contains("found"), "{error}");
    }
    assert!(!plan.exists());
    assert!(!names(scratch.path()).iter().any(|name| name.contains("tmp")));
}

#[test]
fn places_and_vocabularies_that_do_not_do_are_named() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let nowhere = scratch.path().join("no/folder/x.plan");
    assert!(fails(&["compile", text(&model), "-o", text(&nowhere)], 1).contains("no/folder"));
    let plan = scratch.path().join("x.plan");
    let missing = fails(&["compile", text(&model), "-o", text(&plan), "--vocab", "/no/such/merges.txt"], 1);
    assert!(missing.contains("/no/such/merges.txt"), "{missing}");
    // A vocabulary of 600 ids ends at 599; this model pools at 49407.
    let standard = include_str!("../../../models/vocabulary/merges.txt");
    let merges =
        scratch.write("few.txt", standard.lines().take(87).collect::<Vec<_>>().join("\n").as_bytes());
    let other = fails(&["compile", text(&model), "-o", text(&plan), "--vocab", text(&merges)], 1);
    assert!(other.contains("49407") && other.contains("--vocab"), "{other}");
    assert!(!plan.exists());
}

#[test]
fn bad_command_lines_end_with_2() {
    fails(&[], 2);
    fails(&["compile"], 2);
    fails(&["compile", "model.onnx"], 2);
    fails(&["compile", "model.onnx", "-o", "x.plan", "--precision", "int3"], 2);
    fails(&["compile", "model.onnx", "-o", "x.plan", "--pad", "nothing"], 2);
}
