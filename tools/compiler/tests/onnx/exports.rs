//! Every export, of every exporter, computes what transformers computes: by tract, and by what was recognised.

use std::path::Path;

use cliptext_compiler::compile::check::recognised as check;
use cliptext_compiler::import::onnx;
use cliptext_compiler::ir::{Activation, Pooled, TextModel};
use cliptext_compiler::recognise::{Recognised, recognise};
use cliptext_compiler::reference::{encode, relative_error};
use cliptext_compiler::tract::run::F32Run;
use cliptext_test_support::{Array, Goldens, Scratch, export_file, exports, fixtures, full_fixtures};

/// Of the largest value.
const F32: f32 = 1e-4;
/// The same, for an export whose weights were rounded to f16.
const F16: f32 = 2e-3;

fn understand(path: &Path) -> (Recognised, F32Run) {
    let imported = onnx::load(path).unwrap_or_else(|e| panic!("{e:#}"));
    let recognised = recognise(&imported.model).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let run =
        F32Run::new(imported, &recognised.outlets).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
    check(&recognised.model, &recognised.outputs, &run)
        .unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
    (recognised, run)
}

/// Compares every token row and the pooled output of every golden prompt; says the largest errors.
fn meets_goldens(path: &Path, goldens: &Path, tolerance: f32) -> (f32, f32) {
    let (Recognised { model, outputs, .. }, run) = understand(path);
    let mut worst = (0f32, 0f32);
    for padding in ["eotpad", "zeropad", "short"] {
        if !goldens.join(format!("{padding}.input_ids.npy")).exists() {
            assert_eq!(padding, "zeropad", "{} has its goldens", goldens.display());
            continue;
        }
        let goldens = Goldens::read(goldens, padding);
        for (prompt, ids) in goldens.ids.iter().enumerate() {
            let named = format!("{}, {padding}, prompt {prompt}", path.display());
            let (hidden, pooled) = (&goldens.last_hidden_state[prompt], &goldens.pooled[prompt]);
            let ours = encode(&model, &outputs, ids);
            let ours_pooled = ours.pooled.expect("a pooled output");
            worst.0 = worst.0.max(relative_error(&ours.hidden.values, hidden));
            worst.1 = worst.1.max(relative_error(&ours_pooled, pooled));
            assert!(worst.0 <= tolerance && worst.1 <= tolerance, "{named}: {worst:?}");
            if ids.len() == model.context() {
                let tract = run.encode(ids).expect("a run");
                let error = relative_error(&tract.hidden.expect("hidden states").values, hidden);
                assert!(error <= tolerance, "{named}: tract is off by {error}");
                let error = relative_error(&tract.pooled.expect("a pooled output"), pooled);
                assert!(error <= tolerance, "{named}: tract's pooled output is off by {error}");
            }
        }
    }
    worst
}

fn meets_zoo(path: &Path, name: &str, zoo: &Path) {
    let (family, _) = name.split_once('.').expect("a name that begins with its family");
    let tolerance = if name.contains("fp16") { F16 } else { F32 };
    let (hidden, pooled) = meets_goldens(path, &zoo.join(format!("zoo-{family}/goldens")), tolerance);
    println!("{name}: hidden {hidden:.1e}, pooled {pooled:.1e}");
}

#[test]
fn every_export_meets_its_goldens() {
    let names = exports();
    assert!(names.len() >= 16, "the exports are there: {names:?}");
    for name in names {
        let scratch = Scratch::new();
        meets_zoo(&export_file(&name, &scratch), &name, &fixtures());
    }
}

#[test]
fn full_fixtures_meet_their_goldens_where_there_are_any() {
    let Some(full) = full_fixtures() else {
        println!(
            "CLIPTEXT_FIXTURES is not set: the full fixtures are not tested; the same exports are, stripped"
        );
        return;
    };
    let mut names: Vec<_> = std::fs::read_dir(full.join("exports")).expect("exports").collect();
    names.retain(|entry| entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|e| e == "onnx")));
    assert!(names.len() >= 11, "all exports are there");
    for entry in names {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_str().expect("a plain name").to_owned();
        meets_zoo(&path, &name, &full);
    }
    meets_goldens(&full.join("tiny-sd/model.onnx"), &full.join("tiny-sd/goldens"), F32);
}

#[test]
fn other_text_encoders_meet_their_goldens() {
    let others = fixtures().join("others");
    // Name, layers, heads, activation, pooled, normalized, norm on the hidden states.
    let cases = [
        ("oc.ts.bf", 2, 2, Activation::Gelu, Pooled::Projected, false, true),
        ("oc.ts.norm", 2, 2, Activation::QuickGelu, Pooled::Projected, true, true),
        ("oc.dyn.penraw", 2, 2, Activation::QuickGelu, Pooled::None, false, false),
        ("oc.ts.h1", 2, 1, Activation::QuickGelu, Pooled::Projected, false, true),
        ("whole", 2, 2, Activation::QuickGelu, Pooled::Projected, true, true),
    ];
    for (name, layers, heads, activation, pooled, normalized, norm) in cases {
        let (Recognised { model, outputs, .. }, _) = understand(&others.join(format!("{name}.onnx")));
        assert_eq!((model.layers.len(), model.heads), (layers, heads), "{name}");
        assert!(model.layers.iter().all(|layer| layer.activation == activation), "{name}");
        assert_eq!(
            (outputs.pooled, outputs.normalized, outputs.hidden_norm),
            (pooled, normalized, norm),
            "{name}"
        );
        assert_eq!(outputs.end_token, 599, "{name}");
        let golden = |part: &str| {
            let path = others.join(format!("{name}.{part}.npy"));
            path.exists().then(|| Array::read(&path))
        };
        let ours = encode(&model, &outputs, &golden("input_ids").expect("ids").u32());
        let (hidden, row) = (golden("hidden"), golden("pooled"));
        assert!(hidden.is_some() || row.is_some(), "{name} has goldens");
        if let Some(hidden) = hidden {
            assert!(relative_error(&ours.hidden.values, hidden.f32()) <= F32, "{name}");
        }
        assert_eq!(ours.pooled.is_some(), row.is_some(), "{name}");
        if let (Some(ours), Some(row)) = (ours.pooled, row) {
            assert!(relative_error(&ours, row.f32()) <= F32, "{name}");
        }
    }
}

#[test]
fn prompts_that_the_graph_cannot_take_are_errors() {
    let scratch = Scratch::new();
    let (_, run) = understand(&export_file("sd.tf523-torch215-ts.op14.static.i64", &scratch));
    assert!(run.encode(&[49406; 5]).expect_err("a short prompt").to_string().contains("5 tokens"));
    assert!(run.encode(&[1 << 20; 77]).is_err());
}

/// A change to the recognised model, by name.
type Change = (&'static str, fn(&mut TextModel));

#[test]
fn a_model_that_differs_at_late_positions_is_not_the_graph() {
    let scratch = Scratch::new();
    let (Recognised { model, outputs, .. }, run) =
        understand(&export_file("sd.tf523-torch215-ts.op14.static.i64", &scratch));
    let changes: [Change; 3] = [
        ("the last position", |model| *model.position_embedding.values.last_mut().unwrap() += 0.1),
        ("a position in the middle", |model| model.position_embedding.values[40 * 16] += 0.1),
        ("a value that is no number", |model| model.position_embedding.values[76 * 16] = f32::NAN),
    ];
    for (what, change) in changes {
        let mut other = model.clone();
        change(&mut other);
        let error = check(&other, &outputs, &run).expect_err(what).to_string();
        assert!(error.contains("hidden states"), "{what}: {error}");
    }
}
