//! Label sets: many short texts.

use std::hint::black_box;

use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};
use serde_json::{Value, json};

use super::times::{Times, ms};
use super::workload::{LABELS, TEMPLATE};
use crate::failure::Outcome;
use crate::packed::{self, Packed};
use crate::setup::cannot_encode;

/// Turns at the most: each is many encodings.
const MOST_RUNS: usize = 10;

/// A label set.
pub(super) struct Labels {
    texts: usize,
    /// Of all texts together.
    tokens: usize,
    /// RAM for the packed passes.
    arena_bytes: usize,
    /// All texts, several to a pass.
    packed: Times,
    /// All texts, one by one.
    single: Times,
}

impl Labels {
    /// Texts per second, packed and one by one.
    fn rates(&self) -> [f64; 2] {
        [&self.packed, &self.single].map(|times| self.texts as f64 / times.median * 1e3)
    }

    pub(super) fn json(&self) -> Value {
        let [packed, single] = self.rates();
        json!({
            "texts": self.texts,
            "tokens": self.tokens,
            "arena_bytes": self.arena_bytes,
            "packed_ms": self.packed.json(),
            "single_ms": self.single.json(),
            "packed_per_s": packed,
            "single_per_s": single,
        })
    }

    /// In a line, for people.
    pub(super) fn line(&self) -> String {
        let [packed, single] = self.rates();
        let tokens = self.tokens as f64 / self.texts as f64;
        format!(
            "{packed:.0} a second packed, {single:.0} one by one: {} texts of {tokens:.1} tokens; arena {} bytes",
            self.texts, self.arena_bytes
        )
    }
}

/// A label set, many texts to a pass and one by one, in turns.
pub(super) fn measure(plan: &Plan<'_>, kernels: Kernels, team: &Threads, runs: usize) -> Outcome<Labels> {
    let texts = LABELS.map(|label| format!("{TEMPLATE}{label}"));
    let tokens = texts.iter().map(|text| plan.tokenizer().encode(text).len()).sum();
    let (mut many, mut one) =
        (AlignedBytes::zeroed(packed::arena_bytes(plan)), AlignedBytes::zeroed(plan.arena_bytes(1)));
    let mut packed = Packed::new(plan, &mut many, kernels, team)?;
    let mut encoder = Encoder::with(plan, &mut one, kernels, team).map_err(cannot_encode)?;
    let (mut packed_ms, mut single_ms, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
    for _ in 0..runs.min(MOST_RUNS) {
        packed_ms.push(ms(|| {
            outcome = packed.each(texts.iter().cloned(), |pooled| {
                black_box(pooled.row);
                Ok(())
            });
        }));
        std::mem::replace(&mut outcome, Ok(()))?;
        single_ms.push(ms(|| {
            for text in &texts {
                encoder.forget();
                black_box(encoder.encode_unpadded(text).pooled());
            }
        }));
    }
    Ok(Labels {
        texts: texts.len(),
        tokens,
        arena_bytes: packed::arena_bytes(plan),
        packed: Times::of(packed_ms),
        single: Times::of(single_ms),
    })
}
