//! Image towers, compiled and run, beside what transformers and OpenCLIP compute (`tests/fixtures/make_images.py`).

mod exports;

use std::path::{Path, PathBuf};

use cliptext::threads::Solo;
use cliptext::{AlignedBytes, ImageEncoder, ImagePlan, Kernels};
use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::compile::image::{ImageJob, ImageReport, compile};
use cliptext_compiler::progress::Progress;
use cliptext_compiler::quantize::{Quality, Recipe};
use cliptext_compiler::verify::compare::Comparison;
use cliptext_test_support::{Array, Scratch, fixtures};
use serde_json::Value;

fn images() -> PathBuf {
    fixtures().join("images")
}

fn pixels() -> Vec<Vec<u8>> {
    std::fs::read(images().join("pixels.rgb"))
        .unwrap()
        .chunks_exact(16 * 16 * 3)
        .map(<[u8]>::to_vec)
        .collect()
}

fn job(model: PathBuf, folder: &Scratch, precision: Precision) -> ImageJob {
    ImageJob {
        model,
        name: "a test".into(),
        activation: None,
        normalize: None,
        plan: folder.path().join("image.plan"),
        precision,
        recipe: Recipe::of(Quality::Fast),
        calibrate: None,
        target: Target::default(),
        force: false,
    }
}

/// An image's hidden states and its embedding.
type Encoded = (Vec<f32>, Vec<f32>);

/// What a compiled plan makes of the images.
fn run(plan: &Path) -> Vec<Encoded> {
    let bytes = AlignedBytes::copy_of(&std::fs::read(plan).unwrap());
    let plan = ImagePlan::load(&bytes).unwrap();
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar")).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
    let one = |image: Vec<u8>| {
        let found = encoder.encode(&image).unwrap();
        (found.hidden().to_vec(), found.pooled().unwrap().to_vec())
    };
    pixels().into_iter().map(one).collect()
}

fn compiled(job: &ImageJob) -> (ImageReport, Vec<Encoded>) {
    let report = compile(job, &Progress::new(true)).unwrap_or_else(|error| panic!("{error:#}"));
    (report, run(&job.plan))
}

/// The distance of what came out from a golden array, and the largest difference of a value.
fn beside(found: &[f32], golden: &str) -> (Comparison, f32) {
    let array = Array::read(&images().join(golden));
    let wanted = array.f32();
    assert_eq!(found.len(), wanted.len(), "{golden}");
    let mut comparison = Comparison::default();
    comparison.add(found, wanted, *array.shape.last().unwrap());
    let most = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (comparison, most)
}

#[test]
fn every_layout_gives_what_its_program_computes() {
    for (model, hidden) in [("clip", Some("clip.hidden.npy")), ("vision", None), ("open-clip", None)] {
        for (precision, tolerance, cosine) in
            [(Precision::F32, 2e-6, 0.999_999), (Precision::Int8, 0.1, 0.9995)]
        {
            let folder = Scratch::new();
            let (report, found) = compiled(&job(images().join(model), &folder, precision));
            assert_eq!((report.side, report.patch, report.layers, report.tokens), (16, 4, 2, 17));
            assert_eq!((report.projected, report.normalized), (true, model != "vision"));
            let pooled: Vec<f32> = found.iter().flat_map(|(_, pooled)| pooled.clone()).collect();
            let all_hidden: Vec<f32> = found.iter().flat_map(|(hidden, _)| hidden.clone()).collect();
            let goldens = hidden.map(|golden| (all_hidden, golden.to_owned()));
            let goldens = goldens.into_iter().chain([(pooled, format!("{model}.pooled.npy"))]);
            for (found, golden) in goldens {
                let (comparison, most) = beside(&found, &golden);
                let quality = comparison.quality().unwrap();
                let scale = if golden.contains("hidden") { 10.0 } else { 1.0 };
                assert!(most <= scale * tolerance, "{golden}, {precision:?}: {most}");
                assert!(quality.cosine_min >= cosine, "{golden}, {precision:?}: {quality:?}");
            }
        }
    }
}

#[test]
fn the_runtime_s_fixtures_are_what_is_compiled_here() {
    for target in Target::ALL {
        let folder = Scratch::new();
        let job =
            ImageJob { target, name: "clip".into(), ..job(images().join("clip"), &folder, Precision::Int8) };
        compile(&job, &Progress::new(true)).unwrap();
        let fixture = fixtures().join(format!("image-{target}.plan"));
        assert!(
            std::fs::read(&job.plan).unwrap() == std::fs::read(&fixture).unwrap(),
            "{}",
            fixture.display()
        );
    }
}

#[test]
fn what_the_user_says_goes_before_what_the_files_say() {
    let folder = Scratch::new();
    let as_it_is = compiled(&job(images().join("clip"), &folder, Precision::F32)).1;
    let job = ImageJob { normalize: Some(false), ..job(images().join("clip"), &folder, Precision::F32) };
    let (report, found) = compiled(&job);
    assert!(!report.normalized);
    for ((_, unit), (_, row)) in as_it_is.iter().zip(&found) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() > 1e-3);
        assert!(unit.iter().zip(row).all(|(a, b)| (a - b / length).abs() < 1e-6));
    }
}

/// A copy of a model's folder, with a file changed.
fn changed(model: &str, file: &str, change: impl FnOnce(Value) -> Option<Value>) -> Scratch {
    let folder = Scratch::new();
    for entry in std::fs::read_dir(images().join(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    match change(value) {
        Some(value) => std::fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap(),
        None => std::fs::remove_file(&path).unwrap(),
    }
    folder
}

fn refused(folder: &Scratch) -> String {
    let out = Scratch::new();
    let job = job(folder.path().to_owned(), &out, Precision::F32);
    let error = format!("{:#}", compile(&job, &Progress::new(true)).unwrap_err());
    assert!(!job.plan.exists(), "{error}");
    error
}

fn set(mut value: Value, pointer: &str, to: Value) -> Option<Value> {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = to;
    Some(value)
}

#[test]
fn models_and_preprocessings_that_are_not_clip_s_are_refused_by_what_is_wrong() {
    for (model, file, pointer, to, said) in [
        ("clip", "config.json", "/vision_config/image_size", 32.into(), "shortest edge has 32 pixels"),
        ("clip", "config.json", "/vision_config/num_hidden_layers", 3.into(), "num_hidden_layers is 3"),
        ("clip", "config.json", "/vision_config/hidden_act", "relu".into(), "hidden_act is \"relu\""),
        ("clip", "config.json", "/vision_config/num_attention_heads", 5.into(), "can't be shared by 5 heads"),
        ("clip", "config.json", "/vision_config/num_channels", 1.into(), "num_channels is 1"),
        ("clip", "config.json", "/model_type", "siglip".into(), "\"siglip\""),
        ("clip", "preprocessor_config.json", "/resample", 2.into(), "resample"),
        ("clip", "preprocessor_config.json", "/crop_size/height", 15.into(), "crop_size"),
        ("clip", "preprocessor_config.json", "/do_center_crop", false.into(), "do_center_crop"),
        ("clip", "preprocessor_config.json", "/rescale_factor", 1.into(), "rescale_factor"),
        ("clip", "preprocessor_config.json", "/image_std", serde_json::json!([1, 0, 1]), "image_std"),
        ("vision", "config.json", "/patch_size", 8.into(), "patch_size is 8"),
        (
            "open-clip",
            "open_clip_config.json",
            "/model_cfg/vision_cfg/attentional_pool",
            true.into(),
            "attentional_pool",
        ),
        (
            "open-clip",
            "open_clip_config.json",
            "/model_cfg/vision_cfg/layers",
            serde_json::json!([3, 4]),
            "ResNet",
        ),
        ("open-clip", "open_clip_config.json", "/preprocess_cfg/resize_mode", "squash".into(), "resize_mode"),
        ("open-clip", "open_clip_config.json", "/model_cfg/vision_cfg/width", 64.into(), "hidden_size is 64"),
    ] {
        let error = refused(&changed(model, file, |value| set(value, pointer, to)));
        assert!(error.contains(said), "{pointer}: {error}");
    }
    // A text encoder, and nothing.
    let text = Scratch::new();
    text.write("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    assert!(refused(&text).contains("no image encoder"), "{}", refused(&text));
    assert!(refused(&Scratch::new()).contains("no image encoder here"));
    let onnx = Scratch::new();
    onnx.write("model.onnx", b"");
    assert!(refused(&onnx).contains("model.onnx"), "{}", refused(&onnx));
}

#[test]
fn what_is_assumed_without_configurations_is_right_for_openai_s_models() {
    // The fixture's mean and heads are others, so only that it is compiled is looked at.
    let folder = changed("clip", "preprocessor_config.json", |_| None);
    let out = Scratch::new();
    let (report, _) = compiled(&job(folder.path().to_owned(), &out, Precision::Int8));
    assert_eq!(report.heads, 2);
}
