//! Many short texts, several to a pass: the weights are read once for all that fill a context.

use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Encoder, Input, Kernels, MAX_SEQUENCES, PassError, Plan, Sink};

use crate::failure::{Failure, Outcome};
use crate::setup::cannot_encode;

/// Texts in one pass at the most, where they are short: as many as fit an arena of twice a prompt's size at the most. In
/// plans that keep rows of sequences among those of tokens each text takes a prompt's memory.
fn most_texts(plan: &Plan<'_>) -> usize {
    let fits = |&texts: &usize| plan.pass_bytes(texts, plan.context()) <= plan.arena_bytes(2);
    (1..=MAX_SEQUENCES).rev().find(fits).unwrap_or(1)
}

/// Bytes of arena that [`Packed`] takes.
pub(crate) fn arena_bytes(plan: &Plan<'_>) -> usize {
    plan.pass_bytes(most_texts(plan), plan.context())
}

/// Columns of the plan's projected output, which `what` wants.
///
/// # Errors
/// When it has none.
pub(crate) fn projected_columns(plan: &Plan<'_>, what: &str) -> Outcome<usize> {
    let lacks = match plan.manifest().pooled {
        Some(rows) if plan.is_projected() => return Ok(rows.columns as usize),
        Some(_) => "has a pooled output, but no projection",
        None => "has no pooled output",
    };
    Err(Failure::Usage(format!(
        "{what}: the plan {lacks}: compile a model with its text projection (CLIPTextModelWithProjection)"
    )))
}

/// A text's pooled row.
pub(crate) struct Pooled<'p> {
    pub(crate) text: &'p str,
    pub(crate) is_truncated: bool,
    pub(crate) row: &'p [f32],
}

/// An encoder of texts without padding, whose pooled rows are wanted. The padding changes none of them: attention is causal,
/// or the encoder computes the padding too.
pub(crate) struct Packed<'a> {
    plan: Plan<'a>,
    encoder: Encoder<'a, &'a Threads>,
    most: usize,
}

/// A text that waits for its pass.
struct Waiting {
    text: String,
    is_truncated: bool,
}

/// Hands the rows of a pass on; the first failure stays.
struct Rows<'r, F> {
    texts: &'r [Waiting],
    each: F,
    outcome: Outcome,
}

impl<F: FnMut(Pooled<'_>) -> Outcome> Sink for Rows<'_, F> {
    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        if self.outcome.is_ok()
            && let Some(Waiting { text, is_truncated }) = self.texts.get(sequence)
        {
            self.outcome = (self.each)(Pooled { text, is_truncated: *is_truncated, row });
        }
    }
}

impl<'a> Packed<'a> {
    /// Over an arena of [`arena_bytes`].
    pub(crate) fn new(
        plan: &Plan<'a>,
        memory: &'a mut AlignedBytes,
        kernels: Kernels,
        team: &'a Threads,
    ) -> Outcome<Self> {
        let encoder = Encoder::with(plan, memory, kernels, team).map_err(cannot_encode)?;
        Ok(Self { plan: *plan, encoder, most: most_texts(plan) })
    }

    /// Encodes `texts` and calls `each` for every one, in their order.
    pub(crate) fn each(
        &mut self,
        texts: impl IntoIterator<Item = String>,
        mut each: impl FnMut(Pooled<'_>) -> Outcome,
    ) -> Outcome {
        let context = self.plan.context();
        let (mut waiting, mut rows) = (Vec::with_capacity(self.most), 0);
        for text in texts {
            let tokens = self.plan.tokenizer().encode(&text);
            let its_rows = if self.plan.is_causal() { tokens.len() } else { context };
            if waiting.len() == self.most || rows + its_rows > context {
                self.pass(&waiting, &mut each)?;
                waiting.clear();
                rows = 0;
            }
            rows += its_rows;
            waiting.push(Waiting { text, is_truncated: tokens.is_truncated() });
        }
        self.pass(&waiting, &mut each)
    }

    fn pass(&mut self, texts: &[Waiting], each: impl FnMut(Pooled<'_>) -> Outcome) -> Outcome {
        if texts.is_empty() {
            return Ok(());
        }
        let inputs: Vec<Input<'_>> = texts.iter().map(|waiting| Input::Unpadded(&waiting.text)).collect();
        let mut rows = Rows { texts, each, outcome: Ok(()) };
        self.encoder.pass(&inputs, &mut rows).map_err(|error| match error {
            PassError::Arena(error) => cannot_encode(error),
            other => Failure::Work(other.to_string()),
        })?;
        rows.outcome
    }
}
