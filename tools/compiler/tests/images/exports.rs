//! Image encoders in ONNX (`tests/fixtures/make_image_exports.py`): compiled as the safetensors of the same weights are, and run as they
//! are by `embed-images`.

use std::path::{Path, PathBuf};

use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::compile::image::{ImageJob, compile};
use cliptext_compiler::embed::{EmbedJob, Embedded, embed};
use cliptext_compiler::import::onnx;
use cliptext_compiler::progress::Progress;
use cliptext_compiler::recognise::recognise;
use cliptext_test_support::{Array, Scratch, fixtures};
use safetensors::SafeTensors;

use crate::{images, job};

fn exports() -> PathBuf {
    fixtures().join("image-exports")
}

fn plan(model: &Path, precision: Precision, normalize: Option<bool>) -> Result<Vec<u8>, String> {
    let folder = Scratch::new();
    let job = ImageJob { normalize, ..job(model.to_owned(), &folder, precision) };
    match compile(&job, &Progress::new(true)) {
        Ok(_) => Ok(std::fs::read(&job.plan).unwrap()),
        Err(error) => {
            assert!(!job.plan.exists());
            Err(format!("{error:#}"))
        }
    }
}

/// A folder with the export at `path`, under that name, and the configuration of the model in `images/` that it was made of.
fn beside_configuration(path: &Path, name: &str) -> Scratch {
    let folder = Scratch::new();
    std::fs::copy(path, folder.path().join(name)).unwrap();
    let is_open_clip = path.file_name().unwrap().to_str().unwrap().starts_with("open-clip");
    let (model, file) = if is_open_clip {
        ("open-clip", "open_clip_config.json")
    } else {
        ("vision", "preprocessor_config.json")
    };
    std::fs::copy(images().join(model).join(file), folder.path().join(file)).unwrap();
    folder
}

/// A copy of a model's folder in `images/` with those of its tensors alone whose names `keeps` likes.
fn with_tensors(model: &str, keeps: impl Fn(&str) -> bool) -> Scratch {
    let folder = Scratch::new();
    for entry in std::fs::read_dir(images().join(model)).unwrap() {
        let path = entry.unwrap().path();
        let to = folder.path().join(path.file_name().unwrap());
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let kept = tensors.tensors().into_iter().filter(|(name, _)| keeps(name));
            std::fs::write(to, safetensors::serialize(kept, None).unwrap()).unwrap();
        } else {
            std::fs::copy(&path, to).unwrap();
        }
    }
    folder
}

/// Compiles the export at `path`, and the safetensors of the same weights: both plans must be the same.
fn gives_the_plan_of_its_safetensors(path: &Path, precision: Precision) {
    let name = path.file_name().unwrap().to_str().unwrap();
    // What a graph does not have: the scale of a whole CLIP, or the projection that its class leaves out.
    let tensors = if name.starts_with("open-clip") {
        with_tensors("open-clip", |name| name.starts_with("visual."))
    } else {
        let projects = !name.starts_with("vision.");
        with_tensors("vision", |name| projects || name != "visual_projection.weight")
    };
    let folder = beside_configuration(path, "vision_model.onnx");
    let normalized = Some(name.starts_with("whole") || name.starts_with("open-clip-unit"));
    let wanted =
        plan(tensors.path(), precision, normalized).unwrap_or_else(|error| panic!("{name}: {error}"));
    // Whether embeddings have length 1 shows in the graph.
    let found = plan(folder.path(), precision, None).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(found == wanted, "{name}: another plan than that of the same weights in safetensors");
}

fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect();
    files.sort();
    files
}

#[test]
fn exports_give_the_plans_of_the_same_weights_in_safetensors() {
    let files = onnx_files(&exports());
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        gives_the_plan_of_its_safetensors(&file, Precision::F32);
        gives_the_plan_of_its_safetensors(&file, Precision::Int8);
    }
}

/// Of all exporters' settings, where `make_image_exports.py FOLDER` made them and `CLIPTEXT_IMAGE_EXPORTS` names the folder.
#[test]
fn every_export_of_a_folder_gives_that_plan() {
    let Some(folder) = std::env::var_os("CLIPTEXT_IMAGE_EXPORTS") else {
        println!("CLIPTEXT_IMAGE_EXPORTS is not set: only the exports among the fixtures are tested");
        return;
    };
    onnx_files(Path::new(&folder))
        .iter()
        .for_each(|file| gives_the_plan_of_its_safetensors(file, Precision::F32));
}

#[test]
fn of_a_whole_clip_the_text_encoder_is_read_too() {
    for name in ["whole.dynamo.op20.dynamic", "whole.ts.op17.static.1"] {
        let imported = onnx::load(&exports().join(format!("{name}.onnx"))).unwrap();
        let found = recognise(&imported.model).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found.model.layers.len(), found.model.width(), found.outputs.normalized), (1, 16, true));
    }
}

#[test]
fn without_a_configuration_openai_s_mean_and_deviation_are_taken() {
    let [as_it_is, beside] = [Scratch::new(), beside_configuration(&an_export(), "model.onnx")];
    std::fs::copy(an_export(), as_it_is.path().join("model.onnx")).unwrap();
    let [assumed, said] = [as_it_is, beside].map(|folder| plan(folder.path(), Precision::F32, None).unwrap());
    assert!(assumed != said);
    let refused = beside_configuration(&an_export(), "model.onnx");
    let path = refused.path().join("preprocessor_config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"resample\": 3", "\"resample\": 2");
    std::fs::write(&path, text).unwrap();
    let error = plan(refused.path(), Precision::F32, None).unwrap_err();
    assert!(error.contains("resample"), "{error}");
}

fn an_export() -> PathBuf {
    exports().join("vision-projected.dynamo.op18.static.1.onnx")
}

#[test]
fn what_is_no_vision_transformer_of_clip_s_is_refused_with_what_to_do() {
    let resnet =
        plan(&exports().join("resnet/resnet.ts.op17.static.1.onnx"), Precision::F32, None).unwrap_err();
    assert!(resnet.contains("stride") && resnet.contains("cliptext embed-images"), "{resnet}");
    let text = fixtures().join("others/oc.ts.bf.onnx");
    let error = plan(&text, Precision::F32, None).unwrap_err();
    assert!(error.contains("compile this text encoder without --image"), "{error}");
    let error = format!("{:#}", onnx::load(&an_export()).unwrap_err());
    assert!(error.contains("compile this image encoder with --image"), "{error}");
    let folder = Scratch::new();
    let cut = std::fs::read(an_export()).unwrap();
    let path = folder.write("cut.onnx", &cut[..cut.len() / 2]);
    let error = plan(&path, Precision::F32, None).unwrap_err();
    assert!(error.contains("cut.onnx"), "{error}");
}

fn embed_job(model: &str, folder: &Scratch) -> EmbedJob {
    EmbedJob {
        model: exports().join("resnet").join(model),
        pictures: ["wide.png", "high.png"].map(|name| exports().join("resnet").join(name)).to_vec(),
        embeddings: folder.path().join("embeds.npy"),
        side: None,
        from: None,
        normalize: false,
    }
}

#[test]
fn a_resnet_s_embeddings_are_open_clip_s() {
    let golden = Array::read(&exports().join("resnet/embeddings.npy"));
    for (model, side) in [("resnet.ts.op17.static.1.onnx", None), ("resnet.ts.op17.sides.onnx", Some(64))] {
        for normalize in [false, true] {
            let folder = Scratch::new();
            let job = EmbedJob { side, normalize, ..embed_job(model, &folder) };
            let done = embed(&job, &Progress::new(true)).unwrap_or_else(|error| panic!("{error:#}"));
            assert_eq!(done, Embedded { columns: 12, side: 64 });
            let found = Array::read(&job.embeddings);
            assert_eq!(found.shape, [2, 12]);
            for (found, wanted) in found.f32().chunks(12).zip(golden.f32().chunks(12)) {
                let length = if normalize { wanted.iter().map(|x| x * x).sum::<f32>().sqrt() } else { 1.0 };
                for (found, wanted) in found.iter().zip(wanted) {
                    assert!((found - wanted / length).abs() <= 1e-4, "{found} {wanted} {length}");
                }
            }
        }
    }
}

#[test]
fn what_can_t_be_embedded_is_refused_and_nothing_written() {
    let folder = Scratch::new();
    let refused = |job: EmbedJob| {
        let error = format!("{:#}", embed(&job, &Progress::new(true)).unwrap_err());
        assert!(!job.embeddings.exists(), "{error}");
        error
    };
    let open = embed_job("resnet.ts.op17.sides.onnx", &folder);
    assert!(refused(open).contains("--size"));
    let other = EmbedJob { side: Some(32), ..embed_job("resnet.ts.op17.static.1.onnx", &folder) };
    assert!(refused(other).contains("exported for images of 64 pixels"));
    let unknown =
        EmbedJob { from: Some("rows".into()), ..embed_job("resnet.ts.op17.static.1.onnx", &folder) };
    assert!(refused(unknown).contains("its outputs are image_embeds [1, 12]"));
    let mut missing = embed_job("resnet.ts.op17.static.1.onnx", &folder);
    missing.pictures.push("missing.png".into());
    assert!(refused(missing).contains("missing.png"));
    let weights = EmbedJob { model: fixtures().join("images/vision"), ..embed_job("", &folder) };
    assert!(refused(weights).contains("weights without their graph"));
}
