//! What quantization does to a plan, run by the kernels: on a small tower, whose figures say that each part works; how well
//! they do is measured on a full-size one (`docs/quantization.md`).

use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Encoder, Plan};
use cliptext_compiler::backend::emit::{self, Precision};
use cliptext_compiler::backend::lower::Tower;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::ir::{Outputs, Pooled, TextModel};
use cliptext_compiler::prompts;
use cliptext_compiler::quantize::calibrate;
use cliptext_compiler::quantize::{Options, Quality, Quantized, Recipe};
use cliptext_compiler::reference::{encode, relative_error};
use cliptext_compiler::verify::compare::Comparison;
use cliptext_compiler::vocabulary::{VocabularySource, VocabularyTable, build};
use cliptext_demo::{model, small_vocabulary};
use cliptext_synthetic::{Options as Size, generate};

const PROMPTS: [&str; 4] =
    ["a running dog", "", "sunflowers in a blue vase", "penguins on an ice floe, 35mm, soft light"];

fn vocabulary() -> VocabularyTable {
    build(VocabularySource::Standard, &[]).unwrap()
}

/// Wide enough that each row has something to average over.
fn tower(vocabulary: &VocabularyTable) -> TextModel {
    let size = Size {
        width: 128,
        layers: 4,
        heads: 4,
        mlp: 512,
        vocab: vocabulary.size,
        seed: 3,
        ..Size::default()
    };
    model(generate(&size)).unwrap()
}

fn outputs(model: &TextModel, vocabulary: &VocabularyTable) -> Outputs {
    Outputs {
        hidden_layer: model.layers.len(),
        hidden_norm: true,
        pooled: Pooled::EndToken,
        normalized: false,
        end_token: vocabulary.end_id,
    }
}

fn plan(model: &TextModel, quantized: Option<&Quantized>, vocabulary: &VocabularyTable) -> Vec<u8> {
    let tower = Tower { model, outputs: outputs(model, vocabulary), padding: Padding::End, quantized };
    let options = emit::Options {
        prefix_cache: false,
        precision: Precision::Int8,
        target: Target::default(),
        logit_scale: None,
        source: "synthetic".into(),
    };
    emit::emit(&[tower], &vocabulary.bytes, &options).unwrap().bytes
}

/// The plan of `model` as `recipe` makes it.
fn made(model: &TextModel, recipe: Recipe, vocabulary: &VocabularyTable) -> Vec<u8> {
    let mut model = model.clone();
    let options = Options { recipe, ..Options::new(Quality::Fast) };
    let outputs = outputs(&model, vocabulary);
    let quantized = options.quantize(&mut model, &outputs, vocabulary, Padding::End, |_, _| {}).unwrap();
    plan(&model, Some(&quantized), vocabulary)
}

fn with_encoder<R>(bytes: &[u8], work: impl FnOnce(&mut Encoder<'_>) -> R) -> R {
    let in_place = AlignedBytes::copy_of(bytes);
    let plan = Plan::load(&in_place).unwrap_or_else(|error| panic!("{error}"));
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    work(&mut Encoder::new(&plan, &mut arena).unwrap())
}

/// SQNR of the hidden states in dB against the f32 model, the first rows left out.
fn sqnr(bytes: &[u8], model: &TextModel, vocabulary: &VocabularyTable) -> f64 {
    let outputs = outputs(model, vocabulary);
    with_encoder(bytes, |encoder| {
        let mut sum = Comparison::default();
        for prompt in PROMPTS {
            let ours = encoder.encode(prompt);
            let exact = encode(model, &outputs, ours.ids());
            let width = model.width();
            sum.add(&ours.hidden()[width..], &exact.hidden.values[width..], width);
        }
        sum.quality().unwrap().sqnr_db.0
    })
}

#[test]
fn each_part_brings_the_plan_closer() {
    let vocabulary = vocabulary();
    let model = tower(&vocabulary);
    let plain = sqnr(&plan(&model, None, &vocabulary), &model, &vocabulary);
    let rounded = Recipe { compensate: true, ..Recipe::PLAIN };
    let rounded = sqnr(&made(&model, rounded, &vocabulary), &model, &vocabulary);
    let fast = Recipe::of(Quality::Fast);
    let fast = sqnr(&made(&model, fast, &vocabulary), &model, &vocabulary);
    assert!(rounded > plain + 3.0 && fast > rounded + 0.5, "{plain} {rounded} {fast}");
}

#[test]
fn the_same_inputs_give_the_same_plan() {
    let vocabulary = small_vocabulary().unwrap();
    let model = model(generate(&Size {
        width: 48,
        layers: 2,
        heads: 3,
        mlp: 100,
        vocab: vocabulary.size,
        ..Size::default()
    }))
    .unwrap();
    for recipe in [Recipe::PLAIN, Recipe::of(Quality::Fast)] {
        assert!(made(&model, recipe, &vocabulary) == made(&model, recipe, &vocabulary));
    }
}

#[test]
fn the_first_row_is_the_f32_models_where_the_start_token_stands() {
    let vocabulary = vocabulary();
    let model = tower(&vocabulary);
    let bytes = made(&model, Recipe::of(Quality::Fast), &vocabulary);
    let mut without = model.clone();
    let options = Options::new(Quality::Fast);
    let outputs = outputs(&model, &vocabulary);
    let mut quantized =
        options.quantize(&mut without, &outputs, &vocabulary, Padding::End, |_, _| {}).unwrap();
    let width = model.width();
    with_encoder(&bytes, |encoder| {
        let ours = encoder.encode("a running dog");
        let exact = encode(&model, &outputs, ours.ids());
        let error = relative_error(&ours.hidden()[..width], exact.hidden.row(0));
        assert!(error < 1e-5, "{error}");
    });
    // Another token there has its own row: as in a plan that knows the row of some third token.
    quantized.start.id = 1000;
    let other = plan(&without, Some(&quantized), &vocabulary);
    let ids = [320, 2761, 1929, vocabulary.end_id];
    let row =
        |bytes: &[u8]| with_encoder(bytes, |encoder| encoder.encode_ids(&ids).unwrap().hidden().to_vec());
    assert_eq!(row(&bytes), row(&other));
    let exact = encode(&model, &outputs, &ids);
    let error = relative_error(&row(&bytes), &exact.hidden.values);
    assert!(error < 0.1, "{error}");
}

/// As Stable Diffusion XL has it: states before the last layer from both, the pooled row from the second's end.
#[test]
fn the_first_row_is_known_wherever_two_towers_need_it() {
    let vocabulary = small_vocabulary().unwrap();
    let size = |width, seed| Size {
        width,
        layers: 3,
        heads: 2,
        mlp: 4 * width,
        vocab: vocabulary.size,
        seed,
        ..Size::default()
    };
    let models = [size(48, 5), size(32, 6)].map(|size| model(generate(&size)).unwrap());
    let pooled = [Pooled::None, Pooled::EndToken];
    let outputs: Vec<Outputs> = models
        .iter()
        .zip(pooled)
        .map(|(model, pooled)| Outputs {
            hidden_layer: 2,
            hidden_norm: false,
            pooled,
            ..self::outputs(model, &vocabulary)
        })
        .collect();
    let mut smoothed = models.clone();
    let options = Options { recipe: Recipe::PLAIN, ..Options::new(Quality::Fast) };
    let quantized: Vec<Quantized> = smoothed
        .iter_mut()
        .zip(&outputs)
        .map(|(model, outputs)| {
            options.quantize(model, outputs, &vocabulary, Padding::End, |_, _| {}).unwrap()
        })
        .collect();
    let towers: Vec<Tower<'_>> = smoothed
        .iter()
        .zip(&outputs)
        .zip(&quantized)
        .map(|((model, &outputs), quantized)| Tower {
            model,
            outputs,
            padding: Padding::End,
            quantized: Some(quantized),
        })
        .collect();
    let options = emit::Options {
        prefix_cache: false,
        precision: Precision::Int8,
        target: Target::default(),
        logit_scale: None,
        source: "synthetic".into(),
    };
    let plan = AlignedBytes::copy_of(&emit::emit(&towers, &vocabulary.bytes, &options).unwrap().bytes);
    let plan = Plan::load(&plan).unwrap();
    assert_eq!(plan.cached_token(), Some(vocabulary.start_id));
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    // The row itself, and the pooled row of the start token alone, which is the same.
    let ids = [vocabulary.start_id];
    let ours = encoder.encode_ids(&ids).unwrap();
    let exact: Vec<_> =
        models.iter().zip(&outputs).map(|(model, outputs)| encode(model, outputs, &ids)).collect();
    let hidden = [exact[0].hidden.row(0), exact[1].hidden.row(0)].concat();
    assert!(relative_error(ours.hidden(), &hidden) < 1e-5);
    let pooled = exact[1].pooled.as_ref().unwrap();
    assert!(relative_error(ours.pooled().unwrap(), pooled) < 1e-5);
}

#[test]
fn a_plan_grows_by_no_more_than_its_budget() {
    let vocabulary = vocabulary();
    let model = tower(&vocabulary);
    let size = |budget| made(&model, Recipe { budget, ..Recipe::PLAIN }, &vocabulary).len() as f64;
    let none = size(0.0);
    for budget in [0.01, 0.05] {
        let grown = size(budget) / none - 1.0;
        assert!(grown <= budget && grown > 0.7 * budget, "{budget}: {grown}");
    }
}

#[test]
fn the_calibration_is_not_what_is_measured_on() {
    let built_in: Vec<&str> = calibrate::PROMPTS.lines().collect();
    assert!(built_in.len() >= 64 && built_in.iter().all(|prompt| !prompt.trim().is_empty()));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/vit-l/public_prompts.json");
    let golden = std::fs::read_to_string(golden).unwrap();
    for prompt in &built_in {
        assert!(!prompts::evaluation().iter().any(|measured| measured == prompt), "{prompt}");
        assert!(!golden.contains(&format!("{prompt:?}")), "{prompt}");
        assert!(built_in.iter().filter(|other| *other == prompt).count() == 1, "{prompt}");
    }
}
