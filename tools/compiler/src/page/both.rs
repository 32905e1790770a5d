//! The sections about images, and about images and texts together.

use std::fmt::Write;

use super::cards::of_cards;
use super::plot::escaped;
use crate::verify::cost::Times;
use crate::verify::image::ImageVerification;
use crate::verify::pairs::PairFigures;
use crate::verify::verified;

/// Retrieval and zero-shot classification.
pub fn pairs(body: &mut String, found: &PairFigures) {
    body.push_str(
        "<h2>What is found</h2><p>How often something right is among the first k, by the f32 model and by the plans; and how often both have \
         the same first.</p><div class=\"wide\"><table><thead><tr><th></th><th>f32</th><th>plan</th></tr></thead><tbody>",
    );
    for (what, at, ranked) in found.ranked() {
        let _ = write!(
            body,
            "<tr><th>{what}: {} among {}</th><th></th><th></th></tr>",
            ranked.queries, ranked.candidates
        );
        for hit in &ranked.at {
            let [model, plan] = [hit.model, hit.plan].map(|part| part * 100.0);
            let _ = write!(body, "<tr><td>{at}{}</td><td>{model:.2} %</td><td>{plan:.2} %</td></tr>", hit.k);
        }
        let same = ranked.same_first * 100.0;
        let _ = write!(body, "<tr><td>the same first</td><td></td><td>{same:.2} %</td></tr>");
    }
    body.push_str("</tbody></table></div>");
    let texts = &found.texts;
    let _ = write!(
        body,
        "<h2>Texts</h2><p class=\"soft\">Embeddings of {} texts of {:.1} tokens beside the f32 model's.</p>",
        texts.texts, texts.tokens
    );
    let mut cards = vec![
        (format!("{:.2} dB", texts.embedding.sqnr_db), "SQNR of a text's embedding"),
        (format!("{:.5}", texts.embedding.cosine_mean), "cosine, mean"),
        (format!("{:.5}", texts.embedding.cosine_min), "cosine, least"),
    ];
    cards.extend(times(&texts.times));
    of_cards(body, &cards);
}

/// An image encoder's plan.
pub fn images(body: &mut String, found: &ImageVerification) {
    let _ = write!(
        body,
        "<h2>Images</h2><p class=\"soft\">The image encoder beside the f32 model, run by tract, on {}; kernels: {}, {} threads.</p>",
        verified::pictures(found),
        escaped(found.kernels),
        found.cost.threads
    );
    let mut cards = vec![
        (format!("{:.2} dB", found.embedding.sqnr_db), "SQNR of the embeddings"),
        (format!("{:.5}", found.embedding.cosine_mean), "cosine of an embedding, mean"),
        (format!("{:.5}", found.embedding.cosine_min), "cosine of an embedding, least"),
        (format!("{:.2} dB", found.hidden.sqnr_db), "SQNR of the hidden states"),
        (format!("{:.2} MB", found.cost.plan_bytes as f64 / 1e6), "plan"),
        (format!("{:.2} MB", found.cost.arena_bytes as f64 / 1e6), "RAM for an image"),
    ];
    cards.extend(times(&found.cost.times));
    of_cards(body, &cards);
}

fn times(times: &Times) -> [(String, &'static str); 3] {
    let ms = |value: f64| format!("{value:.2} ms");
    [
        (ms(times.p50_ms), "one here, the median"),
        (ms(times.p90_ms), "the 90th percentile"),
        (ms(times.p99_ms), "the 99th percentile"),
    ]
}
