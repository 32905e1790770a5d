//! The compiler's program from outside.

use std::path::Path;
use std::process::{Command, Output};

use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, Kernels, Plan, PlanFile};
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

const ONE_TOWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/one-tower.plan");
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
    let file = PlanFile::read(&plan).unwrap();
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
    let file = PlanFile::read(&plan).unwrap();
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
        let file = PlanFile::read(&plan).unwrap();
        let loaded = Plan::load(file.bytes()).unwrap();
        assert_eq!(loaded.manifest().packing, target.packing());
        let mut arena = AlignedBytes::zeroed(loaded.arena_bytes(1));
        let scalar = Kernels::named("scalar").unwrap();
        let mut encoder = Encoder::with(&loaded, &mut arena, scalar, Solo).unwrap();
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
    let page = compile(Path::new("https://huggingface.co/a/b/blob/main/model.onnx"));
    assert!(page.contains("named hf:a/b@main/model.onnx"), "{page}");
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
    let here = scratch.path().join("here.plan");
    for args in [
        &["compile", text(&model), "-o", text(&nowhere)][..],
        &["compile", text(&model), "-o", text(&here), "--report", text(&nowhere)],
        &["compile", text(&model), "-o", text(scratch.path())],
    ] {
        let said = fails(args, 1);
        assert!(said.contains("no/folder") || said.contains("it is a folder"), "{said}");
        assert!(!said.contains("import"), "before any work: {said}");
    }
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
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("Exit codes: 0 done, 1 the work failed, 2 the command line is wrong"));
    fails(&[], 2);
    fails(&["compile"], 2);
    fails(&["compile", "model.onnx"], 2);
    fails(&["compile", "model.onnx", "-o", "x.plan", "--precision", "int3"], 2);
    fails(&["compile", "model.onnx", "-o", "x.plan", "--pad", "nothing"], 2);
}

#[test]
fn options_without_effect_and_files_that_would_be_lost_are_refused() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let (model, plan) = (text(&model), scratch.path().join("x.plan"));
    let compile = ["compile", model, "-o", text(&plan), "--precision", "f32"];
    let prompts = scratch.write("prompts.txt", b"a cat");
    for option in [
        ["--quality", "best"],
        ["--calibrate", text(&prompts)],
        ["--budget", "2%"],
        ["--target", Target::default().name()],
    ] {
        let said = fails(&[&compile[..], &option].concat(), 2);
        assert!(said.contains(option[0]) && said.contains("no effect"), "{said}");
    }
    for command in [&["compile", model, "-o", text(&plan)][..], &["verify", ONE_TOWER, model]] {
        let said = fails(&[command, &["--pooled", "none", "--normalize", "on"]].concat(), 2);
        assert!(said.contains("--normalize") && said.contains("no effect"), "{said}");
    }
    fails(&["verify", ONE_TOWER, model, "--min-sqnr", "NaN"], 2);
    let before = std::fs::read(model).unwrap();
    for args in [
        &["compile", model, "-o", model][..],
        &["compile", model, "-o", text(&plan), "--report", text(&plan)],
        &["compile", model, "-o", text(&plan), "--report", model],
        &["compile", model, "-o", text(&prompts), "--calibrate", text(&prompts)],
        &["verify", ONE_TOWER, model, "--report", model],
    ] {
        assert!(fails(args, 2).contains("would be overwritten"));
    }
    assert!(std::fs::read(model).unwrap() == before && !plan.exists());
}

#[test]
fn an_image_encoder_becomes_a_plan_and_options_of_texts_are_refused() {
    let scratch = Scratch::new();
    let model = fixtures().join("images/clip");
    let (plan, report) = (scratch.path().join("image.plan"), scratch.path().join("report.json"));
    let compile = ["compile", text(&model), "--image", "-o", text(&plan)];
    let output = run(&[&compile[..], &["--report", text(&report)]].concat());
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    for part in
        ["16 x 16 pixels in patches of 4", "[20], projected, length 1", "cosine", "of RAM for an image"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&report["tokens"], &report["pooled"]), (&17.into(), &20.into()));
    assert!(cliptext::ImagePlan::load(&AlignedBytes::copy_of(&std::fs::read(&plan).unwrap())).is_ok());
    std::fs::remove_file(&plan).unwrap();
    for option in [
        &["--pad", "zero"][..],
        &["--hidden", "last"],
        &["--context", "8"],
        &["--budget", "2%"],
        &["--prefix-cache"],
        &["--vocab", "x"],
        &["--lora", "x"],
        &["--report", "x.html"],
        &["--precision", "f32", "--quality", "best"],
    ] {
        let error = fails(&[&compile[..], option].concat(), 2);
        assert!(error.contains(option[0]), "{option:?}: {error}");
    }
    let pictures = concat!(env!("CARGO_MANIFEST_DIR"), "/../pictures/tests/fixtures");
    let report_of = |calibrate: &[&str]| {
        let report = scratch.path().join("other.json");
        assert!(run(&[&compile[..], calibrate, &["--report", text(&report)]].concat()).status.success());
        std::fs::remove_file(&plan).unwrap();
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(&report).unwrap()).unwrap()
    };
    assert_eq!(report_of(&["--calibrate", pictures])["calibrated_on"], 11);
    let error = fails(&[&compile[..], &["--calibrate", text(scratch.path())]].concat(), 1);
    assert!(error.contains("no picture in this folder"), "{error}");
    assert!(!plan.exists());
}

#[test]
fn prompts_beyond_what_calibration_takes_are_told() {
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    let plan = scratch.path().join("x.plan");
    let said = |count: usize| {
        let prompts = scratch.write("prompts.txt", "a cat\n".repeat(count).as_bytes());
        let output = run(&["compile", text(&model), "-o", text(&plan), "--calibrate", text(&prompts)]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!said(3).contains("calibrates on"));
    let many = said(2000);
    assert!(many.contains("of its 2000 prompts"), "{many}");
}

#[cfg(unix)]
mod pipes {
    use super::*;

    fn pipe(scratch: &Scratch, name: &str) -> std::path::PathBuf {
        let path = scratch.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn models_come_through_pipes_and_plans_go_into_them() {
        let scratch = Scratch::new();
        let model = export_file(SMALL, &scratch);
        let file = scratch.path().join("file.plan");
        // The plan says what the model is called, so both are called alike.
        let named = scratch.write("model", &std::fs::read(&model).unwrap());
        assert!(run(&["compile", text(&named), "-o", text(&file)]).status.success());
        let folder = scratch.path().join("pipes");
        std::fs::create_dir(&folder).unwrap();
        let source = pipe(&scratch, "pipes/model");
        let feed = || {
            let (source, model) = (source.clone(), model.clone());
            std::thread::spawn(move || std::fs::write(source, std::fs::read(model).unwrap()).unwrap())
        };

        let fed = feed();
        let output = run(&["compile", text(&source), "-o", "/dev/stdout"]);
        let said = String::from_utf8(output.stderr).unwrap();
        fed.join().unwrap();
        assert!(output.status.success() && output.stdout == std::fs::read(&file).unwrap(), "{said}");
        assert!(said.contains("is no regular file") && said.contains("SQNR"), "{said}");
        let kept = said.split("are kept in ").nth(1).unwrap().lines().next().unwrap();
        assert!(!Path::new(kept).exists() && !Path::new(kept).parent().unwrap().exists());

        let sink = pipe(&scratch, "pipes/sink");
        let reader = std::thread::spawn({
            let sink = sink.clone();
            move || std::fs::read(sink).unwrap()
        });
        let output = run(&["compile", text(&model), "-o", text(&sink), "--report", "-"]);
        assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok(), "the report alone");
        assert!(Plan::load(&align(&reader.join().unwrap())).is_ok());

        let source = pipe(&scratch, "pipes/plan");
        let fed = std::thread::spawn({
            let (source, file) = (source.clone(), file.clone());
            move || std::fs::write(source, std::fs::read(file).unwrap()).unwrap()
        });
        let output = run(&["verify", text(&source), text(&model), "--min-sqnr", "20", "--quiet"]);
        fed.join().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fails(&["verify", text(&folder), text(&model)], 1).contains("pipes: cannot be read"));

        let source = scratch.path().join("pipes/model");
        let fed = feed();
        let told = run(&["inspect-model", text(&source), "--json"]);
        fed.join().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["towers"][0]["name"], "model");
        assert_eq!(names(&folder), ["model", "plan", "sink"]);
    }

    /// A plan in memory that is aligned as a mapped one.
    fn align(bytes: &[u8]) -> cliptext::AlignedBytes {
        cliptext::AlignedBytes::copy_of(bytes)
    }

    #[test]
    fn a_reader_that_stops_reading_ends_the_program_and_what_was_written_is_told() {
        let scratch = Scratch::new();
        let model = export_file(SMALL, &scratch);
        let plan = scratch.path().join("x.plan");
        for (args, said) in [
            (&["compile", text(&model), "-o", text(&plan)][..], "x.plan is written"),
            (&["inspect-model", text(&model)], ""),
            (&["verify", text(&plan), text(&model)], ""),
        ] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut program = Command::new(env!("CARGO_BIN_EXE_cliptext"));
            let output = program.args(args).stdout(writer).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(
                error.contains(said) && error.contains("closed before") != said.is_empty(),
                "{args:?}: {error}"
            );
        }
        assert!(plan.is_file());
    }

    #[test]
    fn a_closed_standard_error_stops_nothing() {
        let scratch = Scratch::new();
        let model = export_file(SMALL, &scratch);
        let plan = scratch.path().join("x.plan");
        for (model, code) in [(model.as_path(), 0), (Path::new("nowhere.onnx"), 1)] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut program = Command::new(env!("CARGO_BIN_EXE_cliptext"));
            program.args(["compile", text(model), "-o", text(&plan), "--precision", "f32"]);
            let output = program.stderr(writer).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{model:?}");
        }
        assert!(plan.is_file());
    }
}
