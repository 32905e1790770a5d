//! Every export, compiled and run: the whole way from an exporter's file to the runtime's embeddings.

use std::path::Path;

use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Encoder, Plan};
use cliptext_compiler::backend::emit::{Emitted, Options, Precision, emit};
use cliptext_compiler::backend::lower::Tower;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::import::onnx;
use cliptext_compiler::quantize::{self, Quality, Quantized};
use cliptext_compiler::recognise::{Recognised, recognise};
use cliptext_compiler::reference::relative_error;
use cliptext_compiler::verify::compare::Comparison;
use cliptext_compiler::vocabulary::{VocabularySource, build};
use cliptext_test_support::{Array, Goldens, Scratch, export_file, exports, fixtures, full_fixtures};

/// A plan's bytes where plans may be.
struct Loaded(AlignedBytes);

impl Loaded {
    fn new(bytes: &[u8]) -> Self {
        Self(AlignedBytes::copy_of(bytes))
    }

    fn plan(&self) -> Plan<'_> {
        Plan::load(&self.0).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn emitted(recognised: &Recognised, precision: Precision, vocabulary: &[u8]) -> Emitted {
    with_quantized(recognised, None, precision, vocabulary)
}

fn with_quantized(
    recognised: &Recognised,
    quantized: Option<&Quantized>,
    precision: Precision,
    vocabulary: &[u8],
) -> Emitted {
    let options = Options {
        precision,
        target: Target::default(),
        logit_scale: None,
        prefix_cache: false,
        source: "test".into(),
    };
    let tower =
        Tower { model: &recognised.model, outputs: recognised.outputs, padding: Padding::End, quantized };
    emit(&[tower], vocabulary, &options).unwrap()
}

fn compiled(model: &Path, precision: Precision, vocabulary: VocabularySource) -> Loaded {
    let imported = onnx::load(model).unwrap_or_else(|error| panic!("{error:#}"));
    let recognised =
        recognise(&imported.model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
    let vocabulary = build(vocabulary, &[]).unwrap();
    Loaded::new(&emitted(&recognised, precision, &vocabulary.bytes).bytes)
}

/// Runs every golden prompt; returns the largest errors, of the largest value.
fn errors(plan: &Plan<'_>, goldens: &Path) -> (f32, f32) {
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(plan, &mut arena).unwrap();
    let mut worst = (0f32, 0f32);
    for padding in ["eotpad", "zeropad", "short"] {
        if padding == "zeropad" && !goldens.join("zeropad.input_ids.npy").exists() {
            continue;
        }
        let goldens = Goldens::read(goldens, padding);
        assert!(!goldens.ids.is_empty());
        for (prompt, ids) in goldens.ids.iter().enumerate() {
            let ours = encoder.encode_ids(ids).unwrap();
            worst.0 = worst.0.max(relative_error(ours.hidden(), &goldens.last_hidden_state[prompt]));
            worst.1 =
                worst.1.max(relative_error(ours.pooled().expect("a pooled output"), &goldens.pooled[prompt]));
        }
    }
    worst
}

fn meets_goldens(model: &Path, goldens: &Path) {
    let tolerance = if model.to_string_lossy().contains("fp16") { 2e-3 } else { 1e-4 };
    let loaded = compiled(model, Precision::F32, VocabularySource::Standard);
    let (hidden, pooled) = errors(&loaded.plan(), goldens);
    assert!(hidden <= tolerance && pooled <= tolerance, "{}: {hidden:e} {pooled:e}", model.display());
    // And int8: such small models are ruled by two channels, so only that it works is shown here.
    let loaded = compiled(model, Precision::Int8, VocabularySource::Standard);
    let (hidden, pooled) = errors(&loaded.plan(), goldens);
    assert!(hidden <= 0.2 && pooled <= 0.2, "{}: int8 {hidden} {pooled}", model.display());
}

fn zoo(folder: &Path, name: &str) -> std::path::PathBuf {
    let (family, _) = name.split_once('.').expect("a name that begins with its family");
    folder.join(format!("zoo-{family}/goldens"))
}

#[test]
fn every_export_meets_its_goldens_in_f32() {
    let names = exports();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        let scratch = Scratch::new();
        meets_goldens(&export_file(&name, &scratch), &zoo(&fixtures(), &name));
    }
}

#[test]
fn the_full_fixtures_meet_their_goldens_in_f32() {
    let Some(full) = full_fixtures() else {
        println!("CLIPTEXT_FIXTURES is not set: tiny-sd is not tested; the exports are, in the test above");
        return;
    };
    for entry in std::fs::read_dir(full.join("exports")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        meets_goldens(&path, &zoo(&full, &name));
    }
    meets_goldens(&full.join("tiny-sd/model.onnx"), &full.join("tiny-sd/goldens"));
}

#[test]
fn other_text_encoders_meet_their_goldens_in_f32() {
    // Their vocabulary has 600 ids: the standard one's bytes and its first 86 merges.
    let scratch = Scratch::new();
    let standard = include_str!("../../../models/vocabulary/merges.txt");
    let merges: Vec<&str> = standard.lines().take(1 + 86).collect();
    let merges = scratch.write("merges.txt", merges.join("\n").as_bytes());
    let others = fixtures().join("others");
    for name in ["oc.ts.bf", "oc.ts.norm", "oc.dyn.penraw", "oc.ts.h1", "whole"] {
        let model = others.join(format!("{name}.onnx"));
        let loaded = compiled(&model, Precision::F32, VocabularySource::Path(merges.clone()));
        let plan = loaded.plan();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let golden = |part: &str| {
            let path = others.join(format!("{name}.{part}.npy"));
            path.exists().then(|| Array::read(&path))
        };
        let ours = encoder.encode_ids(&golden("input_ids").expect("ids").u32()).unwrap();
        let (hidden, pooled) = (golden("hidden"), golden("pooled"));
        assert!(hidden.is_some() || pooled.is_some());
        if let Some(hidden) = hidden {
            assert!(relative_error(ours.hidden(), hidden.f32()) <= 1e-4, "{name}");
        }
        assert_eq!(ours.pooled().is_some(), pooled.is_some(), "{name}");
        if let (Some(ours), Some(pooled)) = (ours.pooled(), pooled) {
            assert!(relative_error(ours, pooled.f32()) <= 1e-4, "{name}");
        }
    }
}

/// The full-size model, 12 × 768: what int8 quality is judged on.
#[test]
fn the_full_size_model_keeps_its_quality() {
    let scratch = Scratch::new();
    let model = scratch.path().join("vit-l.onnx");
    let tower = cliptext_synthetic::generate(&cliptext_synthetic::Options::default());
    cliptext_synthetic::onnx::write(tower, cliptext_synthetic::onnx::Axes::Dynamic, &model).unwrap();
    let golden = |part: &str| Array::read(&fixtures().join(format!("vit-l/public_{part}.npy")));
    let (ids, hidden, pooled) = (golden("input_ids"), golden("last_hidden_state"), golden("pooler_output"));
    let prompts: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../tests/fixtures/vit-l/public_prompts.json")).unwrap();
    assert_eq!((prompts.len(), hidden.shape[0]), (12, 12));

    let imported = onnx::load(&model).unwrap();
    let mut recognised = recognise(&imported.model).unwrap();
    drop(imported);
    let vocabulary = build(VocabularySource::Standard, &[]).unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let quantized = (precision == Precision::Int8).then(|| {
            let (model, outputs) = (&mut recognised.model, &recognised.outputs);
            let options = quantize::Options::new(Quality::Fast);
            options.quantize(model, outputs, &vocabulary, Padding::End, |_, _| {}).unwrap()
        });
        let emitted = with_quantized(&recognised, quantized.as_ref(), precision, &vocabulary.bytes);
        let loaded = Loaded::new(&emitted.bytes);
        let plan = loaded.plan();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let mut comparison = Comparison::default();
        // The f32 weights are slower to go through, and two prompts tell whether the graph was understood.
        let count = if precision == Precision::Int8 { 12 } else { 2 };
        for (index, prompt) in prompts.iter().enumerate().take(count) {
            let ours = encoder.encode(prompt["text"].as_str().unwrap());
            assert_eq!(ours.ids(), &ids.u32()[index * 77..][..77]);
            let reference = &hidden.f32()[index * 77 * 768..][..77 * 768];
            comparison.add(ours.hidden(), reference, 768);
            if precision == Precision::F32 {
                let error = relative_error(ours.hidden(), reference)
                    .max(relative_error(ours.pooled().unwrap(), &pooled.f32()[index * 768..][..768]));
                assert!(error <= 1e-4, "{error:e}");
            }
        }
        let quality = comparison.quality().unwrap();
        println!("{precision:?}: {quality:?}");
        if precision == Precision::Int8 {
            assert!(quality.sqnr_db >= 31.0 && quality.cosine_mean >= 0.9996, "{quality:?}");
            assert!(quality.cosine_min >= 0.999, "{quality:?}");
            assert!(emitted.bytes.len() <= 127_000_000, "{} bytes", emitted.bytes.len());
            assert!(plan.arena_bytes(1) <= 2_000_000, "{} bytes of arena", plan.arena_bytes(1));
            assert!(plan.arena_bytes(2) <= 4_000_000, "{} bytes for a pair", plan.arena_bytes(2));
        }
    }
}
