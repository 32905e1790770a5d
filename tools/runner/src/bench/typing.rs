//! A prompt while it is typed: what rows that are kept save.

use std::fmt::Write as _;
use std::hint::black_box;

use cliptext::threads::Threads;
use cliptext::{Encoder, Plan};
use serde_json::{Value, json};

use super::times::{Times, ms};
use super::workload::TYPED;

/// Turns at the most.
const MOST_RUNS: usize = 15;

/// The prompt up to a word, behind the prompt up to the word before.
struct Typed {
    words: usize,
    /// Its own, start and end included.
    tokens: usize,
    /// Milliseconds in the whole context: with rows kept, and computed anew.
    padded: [Times; 2],
    /// The same without the padding.
    unpadded: [Times; 2],
}

/// Each word of the prompt.
pub(super) struct Typing(Vec<Typed>);

/// Encodes the prompt up to each word, the one before it first; beside it, in turns, without the rows that are kept.
pub(super) fn measure(encoder: &mut Encoder<'_, &Threads>, plan: &Plan<'_>, runs: usize) -> Typing {
    let ends = TYPED.match_indices(' ').map(|(end, _)| end).chain([TYPED.len()]);
    let texts: Vec<&str> = ends.map(|end| &TYPED[..end]).collect();
    let mut of = |before: &str, text: &str, is_padded: bool| {
        let mut encode = |text: &str, anew: bool| {
            if anew {
                encoder.forget();
            }
            let shown = if is_padded { encoder.encode(text) } else { encoder.encode_unpadded(text) };
            black_box(shown.hidden());
        };
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..runs.min(MOST_RUNS) {
            encode(before, false);
            all[0].push(ms(|| encode(text, false)));
            all[1].push(ms(|| encode(text, true)));
        }
        all.map(Times::of)
    };
    let typed = texts.iter().enumerate().map(|(index, text)| {
        let before = if index == 0 { "" } else { texts[index - 1] };
        Typed {
            words: index + 1,
            tokens: plan.tokenizer().encode(text).len(),
            padded: of(before, text, true),
            unpadded: of(before, text, false),
        }
    });
    Typing(typed.collect())
}

impl Typing {
    pub(super) fn json(&self) -> Value {
        let times = |[kept, anew]: &[Times; 2]| json!({ "kept_ms": kept.json(), "anew_ms": anew.json() });
        let word = |typed: &Typed| {
            json!({
                "words": typed.words,
                "tokens": typed.tokens,
                "padded": times(&typed.padded),
                "unpadded": times(&typed.unpadded),
            })
        };
        self.0.iter().map(word).collect()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::from(
            "  typing      ms word by word, rows kept and computed anew\n    words tokens  padded: kept   anew  unpadded: kept   anew\n",
        );
        let mut totals = [0.0; 4];
        for Typed { words, tokens, padded, unpadded } in &self.0 {
            let [a, b, c, d] = [&padded[0], &padded[1], &unpadded[0], &unpadded[1]].map(|times| times.median);
            for (total, ms) in totals.iter_mut().zip([a, b, c, d]) {
                *total += ms;
            }
            let _ = writeln!(out, "    {words:>5} {tokens:>6} {a:>13.2} {b:>6.2} {c:>15.2} {d:>6.2}");
        }
        let [a, b, c, d] = totals;
        let _ = writeln!(out, "    {:>12} {a:>13.2} {b:>6.2} {c:>15.2} {d:>6.2}", "all");
        out
    }
}
