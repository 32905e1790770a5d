//! Where a pass's rows go.

use crate::copy::copy;
use crate::plan::Step;

/// Takes what a pass computes. All of it is only lent: the arena is used again by the next pass.
///
/// `()` takes nothing: the rows stay in the arena, where an [`Embedding`](super::Embedding) shows them.
pub trait Sink {
    /// A step is done.
    fn step(&mut self, output: StepOutput<'_>) {
        let _ = output;
    }

    /// The hidden states of input `sequence`, `[tokens, width]` row by row.
    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        let _ = (sequence, rows);
    }

    /// The pooled row of input `sequence`, where the plan has one.
    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        let _ = (sequence, row);
    }
}

impl Sink for () {}

/// A step that was just done.
#[derive(Clone, Copy, Debug)]
pub struct StepOutput<'o> {
    /// Its number in the plan.
    pub index: usize,
    /// The step.
    pub step: &'o Step,
    /// The number of the first row in `values`: 1 where the one before is not computed, as
    /// [`Program::cached_token`](crate::plan::Program::cached_token) says, more where rows of the pass before are
    /// [kept](crate::plan::Program::keeps_rows).
    pub first: usize,
    /// The f32 rows that it wrote, one after the other; empty where it wrote codes only.
    pub values: &'o [f32],
}

/// Calls a function for each step.
pub(super) struct EachStep<F>(pub(super) F);

impl<F: FnMut(StepOutput<'_>)> Sink for EachStep<F> {
    fn step(&mut self, output: StepOutput<'_>) {
        (self.0)(output);
    }
}

/// Copies the hidden states of a single input to a place of their length.
pub(super) struct CopyHidden<'s>(pub(super) &'s mut [f32]);

impl Sink for CopyHidden<'_> {
    fn hidden(&mut self, _sequence: usize, rows: &[f32]) {
        copy(self.0, rows);
    }
}
