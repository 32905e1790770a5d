//! research
use cliptext::tokenizer::Padding;
use cliptext_compiler::calibrate;
use cliptext_compiler::import::onnx;
use cliptext_compiler::quantize::{Recipe, quantize, simulate};
use cliptext_compiler::recognise::recognise;
use cliptext_compiler::vocabulary::{self, VocabularySource};
use std::time::Instant;

fn metrics(ours: &[f32], exact: &[f32], width: usize, tokens: usize) -> String {
    let (mut sig, mut noise, mut cs, mut cm, mut n) = (0f64, 0f64, 0f64, 1f64, 0);
    for (a, b) in ours.chunks_exact(width).zip(exact.chunks_exact(width)) {
        let (mut ab, mut aa, mut bb) = (0f64, 0f64, 0f64);
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (a as f64, b as f64);
            ab += a * b;
            aa += a * a;
            bb += b * b;
            noise += (a - b) * (a - b);
        }
        sig += bb;
        let c = ab / (aa * bb).sqrt();
        cs += c;
        cm = cm.min(c);
        n += 1;
    }
    let prompts = n / tokens;
    let stride = width * tokens;
    let mut var = 0f64;
    for i in 0..stride {
        let m: f64 = (0..prompts).map(|p| exact[p * stride + i] as f64).sum::<f64>() / prompts as f64;
        var += (0..prompts).map(|p| (exact[p * stride + i] as f64 - m).powi(2)).sum::<f64>();
    }
    format!(
        "SQNR {:.2} cos {:.5} min {:.5} ps {:.2}",
        10.0 * (sig / noise).log10(),
        cs / n as f64,
        cm,
        10.0 * (var / noise).log10()
    )
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let imported = onnx::load(std::path::Path::new(&args[1])).unwrap();
    let recognised = recognise(&imported.model).unwrap();
    drop(imported);
    let original = recognised.model;
    let vocabulary = vocabulary::build(VocabularySource::Standard).unwrap();
    let prompts: Vec<&str> = calibrate::PROMPTS.lines().collect();
    let eval: Vec<Vec<u32>> = std::fs::read_to_string(&args[2])
        .unwrap()
        .lines()
        .map(|l| l.split_whitespace().map(|x| x.parse().unwrap()).collect())
        .collect();
    for spec in &args[3..] {
        let mut recipe =
            Recipe { smooth: false, compensate: false, damping: 0.01, fit: false, correct_bias: false };
        let (mut first, mut more) = (prompts.len(), 0);
        for part in spec.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "smooth" => recipe.smooth = true,
                "gptq" => recipe.compensate = true,
                "fit" => recipe.fit = true,
                "bias" => recipe.correct_bias = true,
                "damp" => recipe.damping = value.parse().unwrap(),
                "n" => first = value.parse().unwrap(),
                "more" => more = value.parse().unwrap(),
                "plain" => {}
                other => panic!("{other}"),
            }
        }
        let t = Instant::now();
        let calibration = calibrate::tokens(&prompts[..first], more, &vocabulary, 77, Padding::End).unwrap();
        let mut model = original.clone();
        let start = quantize(&mut model, original.layers.len(), &calibration, &recipe, |_| {}).unwrap();
        let seconds = t.elapsed().as_secs_f64();
        let exact = simulate(&original, &cliptext_compiler::quantize::start(&original, 49406), &eval, false);
        let ours = simulate(&model, &start, &eval, true);
        println!("{spec:40} {} {seconds:.1} s", metrics(&ours.values, &exact.values, 768, 76));
    }
}
