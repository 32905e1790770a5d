//! Prompts to pictures: each part beside what other programs make of the same, and the program as a whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cliptext_draw::noise::normals;
use cliptext_draw::recipe::Recipe;
use cliptext_draw::sampler::{Sampling, Solver, sample};
use cliptext_draw::unet::Unet;
use serde_json::Value;
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::prelude::Framework as _;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("drawing").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn solver(name: &str) -> Solver {
    match name {
        "ddim" => Solver::Ddim,
        "dpmpp-2m" => Solver::DpmPp2m,
        other => panic!("no solver {other}"),
    }
}

fn furthest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn samplers_step_as_diffusers_does() {
    let golden = json("samplers.json");
    let start = floats(&golden["start"]);
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let (clips, shift) = (case["clip_sample"].to_string(), case["shift"].to_string());
        let entries = [
            ("prediction_type", text("prediction_type")),
            ("beta_schedule", "squaredcos_cap_v2"),
            ("num_train_timesteps", "1000"),
            ("shift", &shift),
            ("clip_sample", &clips),
            ("guidance_scale", "1"),
        ];
        let recipe = Recipe::read(entries.into_iter()).unwrap();
        let steps = case["steps"].as_u64().unwrap() as u16;
        let points = recipe.schedule.points(steps).unwrap();
        let sampling =
            Sampling { recipe: &recipe, points: &points, solver: solver(text("solver")), guidance: 1.0 };
        let formula = |x: &[f32], t: f32| Ok(x.iter().map(|x| 0.4 * x + 0.0005 * t - 0.3).collect());
        let mut told = Vec::new();
        let found = sample(&sampling, start.clone(), formula, |done| told.push(done)).unwrap();
        let expected = floats(&case["end"]);
        // Without clipping, from noise alone the expected picture of `epsilon` is thousands of times as large.
        let largest = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
        let off = furthest(&found, &expected) / largest;
        assert!(off < 2e-4, "{off}: {found:?} for {case}");
        assert_eq!(told, (1..=usize::from(steps)).collect::<Vec<_>>());
    }
}

#[test]
fn the_whole_loop_is_that_of_onnx_runtime_and_diffusers() {
    let golden = json("loop.json");
    let unet = Unet::read(&fixture("drawing/unet.onnx")).unwrap();
    assert_eq!(unet.size(), (16, 16));
    let recipe = Recipe { clips: false, ..*unet.recipe() };
    let points = recipe.schedule.points(golden["steps"].as_u64().unwrap() as u16).unwrap();
    let guidance = golden["guidance"].as_f64().unwrap() as f32;
    let mut ready = unet.ready(2, &floats(&golden["states"])).unwrap();
    for (name, picture) in golden["pictures"].as_object().unwrap() {
        let sampling = Sampling { recipe: &recipe, points: &points, solver: solver(name), guidance };
        let found = sample(&sampling, floats(&golden["noise"]), |x, t| ready.run(x, t), |_| ()).unwrap();
        let expected = floats(picture);
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        let off = furthest(&found, &expected);
        println!("{name}: {off} of {largest}");
        assert!(off < 1e-3 * largest, "{name}: {off} of {largest}");
    }
}

#[test]
fn the_noise_of_a_seed_stays_as_it_is() {
    assert_eq!(normals(7, 5), normals(7, 6)[..5]);
    let bits: Vec<u32> = normals(7, 4).iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [3_224_064_567, 3_205_982_240, 3_179_827_928, 1_050_542_612]);
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cliptext-draw")).args(args).output().unwrap()
}

/// The picture of a run that succeeds, and what is said on standard error.
fn drawn(args: &[&str]) -> (Vec<u8>, String) {
    let unet = fixture("drawing/unet.onnx");
    let options = ["-o", "-", "--steps", "4", "--unet", unet.to_str().unwrap()];
    let output = run(&[args, &options].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {error}");
    (output.stdout, error)
}

/// The pixels of a picture, and what it says it was made of.
fn decoded(png: &[u8]) -> (Vec<u8>, String) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (16, 16, png::ColorType::Rgb));
    let told = reader.info().utf8_text.iter().find(|text| text.keyword == "parameters").unwrap();
    (pixels, told.get_text().unwrap())
}

#[test]
fn a_picture_follows_from_prompt_negative_seed_and_guidance_alone() {
    let base = ["a running dog", "--seed", "5"];
    let with = |more: &[&str]| drawn(&[&base, more].concat());
    let (picture, said) = with(&[]);
    assert_eq!(said, "");
    assert_eq!(with(&[]).0, picture, "the same seed");
    let (pixels, told) = decoded(&picture);
    assert!(
        told.starts_with("a running dog\nSteps: 4, Sampler: DPM++ 2M, CFG scale: 3, Seed: 5, Plan: "),
        "{told}"
    );
    let differs = |other: Vec<u8>| {
        let other = decoded(&other).0;
        let differences = pixels.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert!(differences > pixels.len() / 10, "{differences} of {} bytes", pixels.len());
    };
    differs(drawn(&["a running dog", "--seed", "6"]).0);
    differs(drawn(&["a sleeping cat", "--seed", "5"]).0);
    differs(with(&["--negative", "blurry"]).0);
    differs(with(&["--sampler", "ddim"]).0);
    differs(with(&["--guidance", "1"]).0);
    assert_eq!(
        decoded(&with(&["--negative", ""]).0).0,
        pixels,
        "the empty prompt is what guidance leads from"
    );
    // Without guidance there is nothing to lead away from, which is told.
    let (plain, _) = with(&["--guidance", "1"]);
    let (other, said) = with(&["--guidance", "1", "--negative", "blurry"]);
    assert!(said.contains("--negative has no effect"), "{said}");
    assert_eq!(decoded(&plain).0, decoded(&other).0);
    let (_, said) = drawn(&[&"word ".repeat(100)]);
    assert!(said.contains("only the first 77 tokens"), "{said}");
}

/// Of the program built for another CPU; `.ci/draw` runs this for a board's.
#[test]
#[ignore = "CLIPTEXT_DRAW_ELSEWHERE must be a command that runs cliptext-draw built for another CPU"]
fn another_cpu_draws_the_same_picture() {
    let command = std::env::var("CLIPTEXT_DRAW_ELSEWHERE").unwrap();
    let words: Vec<_> = command.split_whitespace().collect();
    let unet = fixture("drawing/unet.onnx");
    for sampler in ["dpmpp-2m", "ddim"] {
        let args = ["a running dog", "--negative", "blurry", "--seed", "5", "--sampler", sampler];
        let options = ["-o", "-", "--steps", "4", "--unet", unet.to_str().unwrap()];
        let elsewhere = Command::new(words[0]).args(&words[1..]).args(args).args(options).output().unwrap();
        assert!(elsewhere.status.success(), "{}", String::from_utf8_lossy(&elsewhere.stderr));
        let (there, told_there) = decoded(&elsewhere.stdout);
        let (here, told) = decoded(&drawn(&args).0);
        // The plan's hash and the settings are among it.
        assert_eq!(told_there, told);
        // Embeddings and noise are the same bits; the UNet's floats are rounded by other instructions.
        let furthest = there.iter().zip(&here).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        println!("{sampler}: {furthest} of 255 levels apart at the most");
        assert!(furthest <= 1, "{sampler}: {furthest} levels");
    }
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("old.png"), b"old").unwrap();
    let unet = fixture("drawing/unet.onnx").to_str().unwrap().to_owned();
    let failed = run(&["x", "-o", &at("old.png"), "--unet", &unet, "--plan", &unet]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(std::fs::read(at("old.png")).unwrap(), b"old");
    assert!(run(&["x", "-o", &at("old.png"), "--unet", &unet, "--steps", "1"]).status.success());
    decoded(&std::fs::read(at("old.png")).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What a run that fails with `code` says.
fn refused(code: i32, args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert!(output.stdout.is_empty());
    error
}

#[test]
fn what_does_not_fit_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let good = fixture("drawing/unet.onnx").to_str().unwrap().to_owned();
    let says = |said: String, parts: &[&str]| {
        for part in parts {
            assert!(said.contains(part), "{part:?} in {said}");
        }
    };
    says(refused(2, &["x", "-o", "-"]), &["--unet"]);
    says(refused(2, &["x", "--unet", &good]), &["--output"]);
    for wrong in
        [["--steps", "0"], ["--guidance", "-1"], ["--guidance", "nan"], ["--seed", "x"], ["--sampler", "x"]]
    {
        says(refused(2, &["x", "-o", "-", "--unet", &good, wrong[0], wrong[1]]), &wrong[..1]);
    }
    std::fs::write(at("same.onnx"), b"x").unwrap();
    says(
        refused(2, &["x", "-o", &at("same.onnx"), "--unet", &at("same.onnx")]),
        &["both --unet and --output"],
    );

    let with = |unet: &str, plan: &str| {
        let built_in = ["x", "-o", "-", "--unet", unet];
        if plan.is_empty() {
            refused(1, &built_in)
        } else {
            refused(1, &[&built_in[..], &["--plan", plan]].concat())
        }
    };
    let narrow = fixture("two-towers.plan").to_str().unwrap().to_owned();
    says(with(&good, &narrow), &["unet.onnx", "embeddings of 77 x ", "two-towers.plan gives 77 x 40"]);
    says(with(&good, &at("none.plan")), &["none.plan"]);
    says(with(&good, &good), &["unet.onnx"]);
    says(with(&at("none.onnx"), ""), &["none.onnx"]);
    says(with(&narrow, ""), &["two-towers.plan", "no ONNX model"]);
    says(
        refused(1, &["x", "-o", &at("no/such.png"), "--unet", &good]),
        &["no/such.png", "there is no folder"],
    );
    // Stable Diffusion's, whose sample has four channels.
    let latent = fixture("unet.onnx").to_str().unwrap().to_owned();
    says(with(&latent, ""), &["[1, 4, 16, 16]", "expected [n, 3, height, width]"]);

    let changed = |change: &dyn Fn(&mut tract_onnx::pb::ModelProto)| {
        let mut model = tract_onnx::onnx().proto_model_for_path(&good).unwrap();
        change(&mut model);
        std::fs::write(at("changed.onnx"), prost::Message::encode_to_vec(&model)).unwrap();
        with(&at("changed.onnx"), "")
    };
    says(
        changed(&|model| model.metadata_props.clear()),
        &["changed.onnx", "no prediction_type", "tools/train/unet.py"],
    );
    says(
        changed(&|model| {
            model.metadata_props.retain(|entry| entry.key != "prediction_type");
            let (key, value) = ("prediction_type".into(), "sample".into());
            model.metadata_props.push(StringStringEntryProto { key, value });
        }),
        &["prediction_type \"sample\""],
    );
    says(
        changed(&|model| {
            let graph = model.graph.as_mut().unwrap();
            graph.input[1].name = "t".into();
            for node in &mut graph.node {
                node.input.iter_mut().filter(|name| *name == "timestep").for_each(|name| *name = "t".into());
            }
        }),
        &["inputs are sample, t, encoder_hidden_states", "expected sample, timestep"],
    );
    says(
        changed(&|model| {
            model.graph.as_mut().unwrap().node.iter_mut().for_each(|node| node.op_type = "Strange".into())
        }),
        &["changed.onnx"],
    );
}
