//! A plan that was just made, run here: against the f32 reference, and against the plan for another target.

use anyhow::{Context, Result, ensure};
use cliptext::threads::Solo;
use cliptext::tokenizer::{Padding, Tokenizer};
use cliptext::{AlignedBytes, Embedding, Encoder, Kernels, Plan};

use crate::backend::emit::Emitted;
use crate::prompts::evaluation;
use crate::tract::run::{Computed, F32Run};
use crate::verify::compare::{Comparison, Quality};

/// How many of the [evaluation's prompts](crate::prompts::evaluation) a compile measures its plan on.
pub const PROMPTS: usize = 8;

/// A tower's f32 reference, and how the tower pads.
pub struct Reference {
    /// tract's run.
    pub run: F32Run,
    /// What fills the context.
    pub padding: Padding,
}

/// A plan's hidden states and pooled output against the f32 reference's.
#[derive(Clone, Copy, Debug)]
pub struct Closeness {
    /// Hidden states, all token rows.
    pub hidden: Option<Quality>,
    /// Pooled output.
    pub pooled: Option<Quality>,
}

/// Loads a plan and does `work` with an encoder for it: by the fastest kernels, or the scalar ones where none fits.
///
/// # Errors
/// Those of `work`, and when the plan does not load.
pub fn with_encoder<R>(
    emitted: &Emitted,
    work: impl FnOnce(&Plan<'_>, &mut Encoder<'_>) -> Result<R>,
) -> Result<R> {
    let bytes = AlignedBytes::copy_of(&emitted.bytes);
    let plan = Plan::load(&bytes).context("the plan that was made does not load")?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    work(&plan, &mut Encoder::with(&plan, &mut arena, kernels, Solo)?)
}

/// Finds two plans of the same model to say the same.
///
/// # Errors
/// When they don't.
pub fn agree(one: &Emitted, other: &Emitted) -> Result<()> {
    let short = |emitted: &Emitted| -> Result<Vec<f32>> {
        with_encoder(emitted, |_, encoder| Ok(encoder.encode_unpadded("a running dog").hidden().to_vec()))
    };
    ensure!(short(one)? == short(other)?, "the plans for two targets differ: a bug in the packing");
    Ok(())
}

/// Compares each tower's columns of the plan's outputs with its reference, on the first [`PROMPTS`].
///
/// # Errors
/// When tract fails, or the plan has other outputs than the references.
pub fn measure(emitted: &Emitted, references: &[Reference]) -> Result<Vec<Closeness>> {
    with_encoder(emitted, |plan, encoder| {
        let tokenizer = |reference: &Reference| {
            Tokenizer::new(*plan.tokenizer().vocabulary(), plan.context(), reference.padding)
        };
        let tokenizers = references.iter().map(tokenizer).collect::<Result<Vec<_>, _>>()?;
        let mut sums = vec![(Comparison::default(), Comparison::default()); references.len()];
        for prompt in &evaluation()[..PROMPTS] {
            let ours = encoder.encode(prompt);
            let (mut hidden_at, mut pooled_at) = (0, 0);
            let towers = references.iter().zip(&tokenizers).zip(&mut sums);
            for ((reference, tokenizer), (hidden, pooled)) in towers {
                let theirs = reference.run.encode(tokenizer.encode(prompt).ids())?;
                hidden_at = compare_hidden(&ours, &theirs, hidden_at, hidden)?;
                pooled_at = compare_pooled(&ours, &theirs, pooled_at, pooled)?;
            }
        }
        Ok(sums.iter().map(|(h, p)| Closeness { hidden: h.quality(), pooled: p.quality() }).collect())
    })
}

/// Adds the columns from `at` on; returns where the next tower's begin. A graph that nowhere has the states for every
/// token says nothing about them.
fn compare_hidden(ours: &Embedding<'_>, theirs: &Computed, at: usize, sum: &mut Comparison) -> Result<usize> {
    let Some(theirs) = &theirs.hidden else { return Ok(at) };
    let columns = ours.hidden().len() / theirs.rows;
    let end = at + theirs.cols;
    ensure!(end <= columns, "the plan's hidden states have {columns} columns, {end} at least are expected");
    for (ours, theirs) in ours.hidden().chunks_exact(columns).zip(theirs.values.chunks_exact(theirs.cols)) {
        sum.add(&ours[at..end], theirs, theirs.len());
    }
    Ok(end)
}

fn compare_pooled(ours: &Embedding<'_>, theirs: &Computed, at: usize, sum: &mut Comparison) -> Result<usize> {
    let (Some(ours), Some(theirs)) = (ours.pooled(), &theirs.pooled) else { return Ok(at) };
    let end = at + theirs.len();
    let part = ours.get(at..end).context("the plan's pooled output is shorter than the reference's")?;
    sum.add(part, theirs, theirs.len());
    Ok(end)
}
