//! What each part of quantization is worth: the table in `docs/quantization.md`, made again for any model.
//!
//! `cargo run --release -p cliptext-compiler --example ablation MODEL` compiles the model in memory once for each row and
//! compares the plan, run by this CPU's kernels, with the f32 model on the prompts that `cliptext verify` has.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use cliptext::AlignedBytes;
use cliptext::tokenizer::Padding;
use cliptext_compiler::backend::emit::{self, Precision};
use cliptext_compiler::backend::lower::Tower;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::compile::load::Spec;
use cliptext_compiler::edit::Edits;
use cliptext_compiler::preset::Choice;
use cliptext_compiler::progress::Progress;
use cliptext_compiler::prompts;
use cliptext_compiler::quantize::{Options, Quality, Recipe, calibrate};
use cliptext_compiler::verify::verify;
use cliptext_compiler::vocabulary::{self, VocabularySource};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("give a model's file or folder")?;
    let spec = Spec {
        name: path.clone(),
        path: Path::new(&path).into(),
        tower: None,
        choice: Choice::default(),
        edits: Edits::default(),
    };
    let progress = Progress::new(true);
    let mut tower = spec.load(&progress)?.towers.pop().context("the model has no text tower")?;
    let vocabulary = vocabulary::build(VocabularySource::Standard, &[])?;
    let prompts = prompts::evaluation();
    let ids = calibrate::tokens(&prompts, 0, &vocabulary, tower.model.context(), Padding::End)?;
    let references = [tower.reference(ids, true)?];
    let (model, outputs) = (tower.model, tower.outputs);

    let full = Recipe::of(Quality::Fast);
    let none = Recipe { budget: 0.0, ..Recipe::PLAIN };
    let rows: [(&str, Option<Recipe>); 12] = [
        ("each weight rounded to its nearest code", None),
        ("+ cached first row", Some(none)),
        ("+ SmoothQuant", Some(Recipe { smooth: true, ..none })),
        ("+ GPTQ error compensation", Some(Recipe { smooth: true, compensate: true, ..none })),
        ("+ all 96 prompts instead of 32", Some(Recipe { prompts: 100, clips: &[1.0], budget: 0.0, ..full })),
        ("`--quality fast`: 32 prompts, scale search, 1 % for f16 rows", Some(full)),
        ("fast without SmoothQuant", Some(Recipe { smooth: false, ..full })),
        ("fast without error compensation", Some(Recipe { compensate: false, ..full })),
        ("fast without scale search", Some(Recipe { clips: &[1.0], ..full })),
        ("fast with 2 % for f16 rows", Some(Recipe { budget: 0.02, ..full })),
        ("fast with all 96 prompts", Some(Recipe { prompts: 100, ..full })),
        ("`--quality best`", Some(Recipe::of(Quality::Best))),
    ];
    println!(
        "| | SQNR dB | cosine mean | cosine min | prompt-specific SQNR dB | MB | s |\n|---|---|---|---|---|---|---|"
    );
    for (name, recipe) in rows {
        let mut model = model.clone();
        let start = Instant::now();
        let quantized = match recipe {
            Some(recipe) => {
                let options = Options { recipe, ..Options::new(Quality::Fast) };
                Some(options.quantize(&mut model, &outputs, &vocabulary, Padding::End, |_, _| {})?)
            }
            None => None,
        };
        let seconds = start.elapsed().as_secs_f64();
        let towers = [Tower { model: &model, outputs, padding: Padding::End, quantized: quantized.as_ref() }];
        let options = emit::Options {
            prefix_cache: false,
            precision: Precision::Int8,
            target: Target::default(),
            logit_scale: None,
            source: spec.name.clone(),
        };
        let plan = emit::emit(&towers, &vocabulary.bytes, &options)?.bytes;
        let figures = verify(&AlignedBytes::copy_of(&plan), &references, &prompts, None, &progress)?.figures;
        println!(
            "| {name} | {:.2} | {:.5} | {:.5} | {:.2} | {:.2} | {seconds:.0} |",
            figures.hidden.sqnr_db,
            figures.hidden.cosine_mean,
            figures.hidden.cosine_min,
            figures.prompt_specific_db.map_or(f64::NAN, |db| db.0),
            plan.len() as f64 / 1e6
        );
    }
    Ok(())
}
