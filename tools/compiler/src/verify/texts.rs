//! Texts' embeddings by a plan beside the f32 model's.

use anyhow::{Context, Result};
use cliptext::threads::{Threads, default_threads};
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};
use serde::Serialize;

use crate::ir::{Outputs, TextModel};
use crate::progress::Progress;
use crate::tract::tower;
use crate::verify::compare::{Comparison, Quality};
use crate::verify::cost::{RUNS, Times, timed};
use crate::verify::measure;

/// What a text's embedding costs and how close it is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TextFigures {
    /// Texts, those of templates included.
    pub texts: usize,
    /// Texts that were cut to the context.
    pub cut: usize,
    /// Tokens of a text, start and end included: the mean.
    pub tokens: f64,
    /// Embeddings.
    pub embedding: Quality,
    /// How long a text takes, its own tokens alone.
    pub times: Times,
}

/// Bytes of f32 hidden states that are in memory at once.
const PART: usize = 256 << 20;

/// Encodes `texts` by the plan in `bytes` and by the only tower of the model. Beside the figures: each text's embeddings, the plan's and the
/// f32 model's.
///
/// # Errors
/// When the plan does not load or has no pooled output, or tract fails.
pub fn verify(
    bytes: &[u8],
    model: &TextModel,
    outputs: &Outputs,
    texts: &[String],
    progress: &Progress,
) -> Result<(TextFigures, Vec<[Vec<f32>; 2]>)> {
    let plan = Plan::load(bytes).context("the plan does not load")?;
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let team = Threads::start(default_threads())?;
    let mut encoder = Encoder::with(&plan, &mut arena, kernels, &team)?;
    let mut ours = |text: &String| {
        encoder.forget();
        let (ms, found) = timed(|| encoder.encode_unpadded(text).pooled().map(<[f32]>::to_vec));
        Ok((ms, found.context("the plan has no pooled output")?)) as Result<(f64, Vec<f32>)>
    };
    // The pages of plan and arena are there when the clock starts.
    texts.iter().take(1).try_for_each(|text| ours(text).map(drop))?;
    let part = (PART / (model.context() * model.width() * size_of::<f32>())).max(1);
    let (mut comparison, mut both, mut ms) = (Comparison::default(), vec![], vec![]);
    progress.counted(&format!("compare on {} texts", texts.len()), |told| {
        for texts_of_part in texts.chunks(part) {
            let ids = measure::ids(&plan, texts_of_part)?.pop().context("the plan has no tower")?;
            let theirs = tower::compute(model, outputs, &ids, false)?;
            for (text, theirs) in texts_of_part.iter().zip(theirs) {
                let theirs = theirs.pooled.context("the model has no pooled output")?;
                let (time, ours) = ours(text)?;
                comparison.add(&ours, &theirs, theirs.len());
                ms.push(time);
                both.push([ours, theirs]);
            }
            told(both.len(), texts.len());
        }
        anyhow::Ok(())
    })?;
    for text in texts.iter().cycle().take(RUNS.saturating_sub(texts.len())) {
        ms.push(ours(text)?.0);
    }
    let tokenizer = plan.tokenizer();
    let tokens: usize = texts.iter().map(|text| tokenizer.encode(text).len()).sum();
    let found = TextFigures {
        texts: texts.len(),
        cut: texts.iter().filter(|text| tokenizer.encode(text).is_truncated()).count(),
        tokens: tokens as f64 / texts.len() as f64,
        embedding: comparison.quality().context("no texts to compare on")?,
        times: Times::of(ms),
    };
    Ok((found, both))
}
