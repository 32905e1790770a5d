//! A report as a page: one file, nothing fetched, light and dark as the reader's system is.

use std::collections::BTreeMap;
use std::fmt::Write;

mod both;
mod cards;
mod plot;

use crate::quantize::Smoothed;
use crate::verify::decibels::Decibels;
use crate::verify::steps::StepFigures;
use crate::verify::verification::Verification;
use crate::verify::verified::Verified;
use cards::of_cards;
use plot::{Bar, Series, bars, escaped, lines};

const STYLE: &str = include_str!("style.css");

/// The page for a verification of `plan` against `model`, both as the user named them; `smoothed` is what smoothing did in each
/// tower, where the plan was just made.
pub fn page(plan: &str, model: &str, found: &Verified, smoothed: &[Vec<Smoothed>]) -> String {
    let mut body = String::new();
    let _ = write!(body, "<h1>{} against {}</h1>", escaped(plan), escaped(model));
    if let Some(pairs) = &found.pairs {
        both::pairs(&mut body, pairs);
    }
    if let Some(images) = &found.images {
        both::images(&mut body, images);
    }
    if let Some(texts) = &found.texts {
        if found.images.is_some() {
            body.push_str("<h2>Prompts</h2>");
        }
        prompts_and_states(&mut body, texts, smoothed);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}: quantization report</title><style>{STYLE}</style></head><body>{body}</body></html>\n",
        escaped(plan)
    )
}

/// Everything about a text encoder's plan.
fn prompts_and_states(body: &mut String, found: &Verification, smoothed: &[Vec<Smoothed>]) {
    let _ = write!(
        body,
        "<p class=\"soft\">The plan's embeddings beside the f32 model's, run by tract, on {} prompts of {} \
         tokens; kernels: {}.</p>",
        found.figures.prompts.len(),
        found.figures.positions.len(),
        escaped(found.kernels)
    );
    cards(body, found);
    layers(body, found);
    smoothing(body, smoothed);
    positions(body, found);
    prompts(body, found);
    channels(body, found);
    steps(body, found);
}

fn section(body: &mut String, title: &str, text: &str) {
    let _ = write!(body, "<h2>{}</h2><p>{}</p>", escaped(title), escaped(text));
}

fn cards(body: &mut String, found: &Verification) {
    let figures = &found.figures;
    let mut cards = vec![
        (format!("{:.2} dB", figures.hidden.sqnr_db), "SQNR of the hidden states"),
        (format!("{:.5}", figures.hidden.cosine_mean), "cosine of a token's row, mean"),
        (format!("{:.5}", figures.hidden.cosine_min), "cosine of a token's row, least"),
        (format!("{:.2} dB", figures.hidden_psnr.mean_db), "PSNR of a prompt's hidden states, mean"),
    ];
    if let Some(specific) = figures.prompt_specific_db {
        cards.push((format!("{specific:.2} dB"), "SQNR of what differs between prompts"));
    }
    if let Some(pooled) = figures.pooled {
        cards.push((format!("{:.2} dB", pooled.sqnr_db), "SQNR of the pooled output"));
    }
    if let Some(unet) = found.unet {
        cards.push((format!("{:.2} dB", unet.sqnr_db), "SQNR of the UNet's output"));
        cards.push((format!("{:.2} dB", unet.guidance_sqnr_db), "of what the prompt changes in it"));
    }
    cards.push((format!("{:.2} MB", found.cost.plan_bytes as f64 / 1e6), "plan"));
    let total: f64 = found.steps.iter().map(|step| step.ms).sum();
    cards.push((format!("{total:.1} ms"), "an encode here, one thread"));
    of_cards(body, &cards);
}

fn layers(body: &mut String, found: &Verification) {
    section(
        body,
        "Where the error arises",
        "SQNR of the residual stream after each layer; layer 0 is the embedded prompt. The lower line counts only what differs \
         between prompts: what all prompts share flatters the upper one.",
    );
    let towers: Vec<usize> = {
        let mut towers: Vec<usize> = found.figures.layers.iter().map(|layer| layer.tower).collect();
        towers.dedup();
        towers
    };
    for tower in &towers {
        let of = |pick: fn(&crate::verify::figures::LayerFigures) -> Option<Decibels>| {
            let layers = found.figures.layers.iter().filter(|layer| layer.tower == *tower);
            layers.filter_map(|layer| Some((layer.layer as f64, pick(layer)?.0))).collect()
        };
        let series = [
            Series { name: "all", points: of(|layer| Some(layer.sqnr_db)) },
            Series { name: "prompt-specific", points: of(|layer| layer.prompt_specific_db) },
        ];
        if towers.len() > 1 {
            let _ = write!(body, "<p class=\"soft\">Text encoder {}</p>", tower + 1);
        }
        let _ = write!(body, "<figure>{}</figure>", lines(&series, "layer", "dB"));
    }
}

/// How unlike the channels of the linears' inputs are, before and after: over the layers, and at the worst layer.
fn smoothing(body: &mut String, towers: &[Vec<Smoothed>]) {
    if towers.iter().all(Vec::is_empty) {
        return;
    }
    section(
        body,
        "Before and after smoothing",
        "A token's int8 codes share one scale, so a loud channel costs the others their precision. Smoothing moves what is loud into the \
         weights. Above: the largest channel over the median one, in powers of two, by layer. Below: how many channels are how loud, in the \
         layer where that ratio was largest.",
    );
    for (number, tower) in towers.iter().enumerate() {
        let mut kinds: Vec<&str> = tower.iter().map(|found| found.linears).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let of_kind: Vec<&Smoothed> = tower.iter().filter(|found| found.linears == kind).collect();
            let encoder = if towers.len() > 1 { format!("Encoder {}, i", number + 1) } else { "I".into() };
            let _ = write!(body, "<h3>{encoder}nputs of: {}</h3>", escaped(kind));
            let over = |pick: fn(&Smoothed) -> &[f32]| {
                of_kind.iter().map(|found| (found.layer as f64, unlike(pick(found)))).collect()
            };
            let by_layer = [
                Series { name: "before", points: over(|found| &found.before) },
                Series { name: "after", points: over(|found| &found.after) },
            ];
            let _ =
                write!(body, "<figure>{}</figure>", lines(&by_layer, "layer", "log2 of largest over median"));
            let worst = of_kind.iter().max_by(|a, b| unlike(&a.before).total_cmp(&unlike(&b.before)));
            if let Some(worst) = worst {
                let _ = write!(body, "<p class=\"soft\">Layer {}</p>", worst.layer);
                let histograms = [
                    Series { name: "before", points: histogram(&worst.before) },
                    Series { name: "after", points: histogram(&worst.after) },
                ];
                let _ = write!(
                    body,
                    "<figure>{}</figure>",
                    lines(&histograms, "log2 of the largest value", "channels")
                );
            }
        }
    }
}

/// `log2` of the largest over the median.
fn unlike(channels: &[f32]) -> f64 {
    let mut sorted: Vec<f32> = channels.to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = f64::from(sorted[sorted.len() / 2]).max(1e-12);
    (f64::from(sorted[sorted.len() - 1]).max(1e-12) / median).log2()
}

/// `(log2, channels)` in steps of half an octave.
fn histogram(channels: &[f32]) -> Vec<(f64, f64)> {
    let bin = |value: &f32| (f64::from(value.max(1e-6)).log2() * 2.0).round() as i64;
    let bins: Vec<i64> = channels.iter().map(bin).collect();
    let (Some(&first), Some(&last)) = (bins.iter().min(), bins.iter().max()) else { return vec![] };
    // An empty bin on either side: the line begins and ends at the ground.
    let count = |at: i64| bins.iter().filter(|bin| **bin == at).count() as f64;
    (first - 1..=last + 1).map(|at| (at as f64 / 2.0, count(at))).collect()
}

fn positions(body: &mut String, found: &Verification) {
    let positions = &found.figures.positions;
    let first = positions.first().map_or(String::new(), |db| format!(" ({db:.1} dB)"));
    section(
        body,
        "By token position",
        &format!(
            "SQNR of the hidden states at each position but the first{first}, which holds the start token and is the same for every \
             prompt."
        ),
    );
    let points = positions.iter().enumerate().skip(1).map(|(at, db)| (at as f64, db.0)).collect();
    let series = [Series { name: "hidden states", points }];
    let _ = write!(body, "<figure>{}</figure>", lines(&series, "position", "dB"));
}

fn prompts(body: &mut String, found: &Verification) {
    section(body, "Prompts, the worst first", "SQNR of each prompt's hidden states.");
    let bar = |prompt: &crate::verify::figures::PromptFigures| Bar {
        name: if prompt.prompt.is_empty() { "(the empty prompt)".into() } else { prompt.prompt.clone() },
        value: prompt.sqnr_db.0,
        label: format!("{:.2} dB", prompt.sqnr_db),
    };
    let all: Vec<Bar> = found.figures.prompts.iter().take(32).map(bar).collect();
    let _ = write!(body, "<figure>{}</figure>", bars(&all, "SQNR by prompt"));
}

fn channels(body: &mut String, found: &Verification) {
    section(
        body,
        "The worst channels",
        "Channels of the hidden states by their part of the whole squared error. A channel with a small root mean square and a large \
         error is where quantization hurts most.",
    );
    body.push_str(
        "<div class=\"wide\"><table><thead><tr><th>channel</th><th>part of the error</th><th>root mean square</th>\
         <th>SQNR in it</th></tr></thead><tbody>",
    );
    for channel in &found.figures.channels {
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{:.2} %</td><td>{:.3}</td><td>{:.1} dB</td></tr>",
            channel.channel,
            channel.part_of_error * 100.0,
            channel.rms,
            channel.sqnr_db
        );
    }
    body.push_str("</tbody></table></div>");
}

fn steps(body: &mut String, found: &Verification) {
    section(
        body,
        "Size and time",
        "Bytes in the plan and median milliseconds of an encode on this machine at one thread, by kind of step and by layer.",
    );
    let grouped = |key: &dyn Fn(&StepFigures) -> String| {
        let mut order = Vec::new();
        let mut sums: BTreeMap<String, (usize, f64)> = BTreeMap::new();
        for step in &found.steps {
            let name = key(step);
            if !sums.contains_key(&name) {
                order.push(name.clone());
            }
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + step.bytes, sum.1 + step.ms);
        }
        order.into_iter().map(|name| (sums[&name], name)).collect::<Vec<_>>()
    };
    let bar = |((bytes, ms), name): ((usize, f64), String)| Bar {
        name,
        value: ms,
        label: format!("{ms:.2} ms, {:.2} MB", bytes as f64 / 1e6),
    };
    let kinds: Vec<Bar> = grouped(&|step| step.name.to_owned()).into_iter().map(bar).collect();
    let _ = write!(body, "<figure>{}</figure>", bars(&kinds, "time by kind of step"));
    let towers = found.steps.iter().map(|step| step.tower).max().unwrap_or(0);
    let place = |step: &StepFigures| {
        let tower = if towers > 0 { format!("encoder {}, ", step.tower + 1) } else { String::new() };
        if step.layer == 0 { format!("{tower}embedding") } else { format!("{tower}layer {}", step.layer) }
    };
    let layers: Vec<Bar> = grouped(&place).into_iter().map(bar).collect();
    let _ = write!(body, "<figure>{}</figure>", bars(&layers, "time by layer"));
}
