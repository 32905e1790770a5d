//! Prompts of several chunks, and what their weights do to the hidden states.

use super::encoder::Encoder;
use super::error::PassError;
use super::input::Input;
use super::sink::Sink;
use crate::copy::copy;
use crate::kernels::float_mode::Exact;
use crate::plan::{MAX_SEQUENCES, Program, Source};
use crate::prompt::{MAX_CHUNKS, Prompt, Weighting};
use crate::threads::Team;

impl<T: Team, S: Source> Encoder<'_, T, S> {
    /// Encodes the chunks of `prompt`: their hidden states one behind the other, `[chunks · context, width]`, to `hidden`, and the
    /// first chunk's pooled row to `pooled`, which no weight changes.
    ///
    /// As many chunks go through one pass as the arena has room for: one with [`Graph::arena_bytes`](crate::Graph::arena_bytes)`(1)`. How many changes no
    /// bit.
    ///
    /// `empty` are the hidden states of the empty prompt, `[context, width]`, if the caller has kept them: a prompt with
    /// ComfyUI's weights needs them, and computes them where they are not given.
    ///
    /// # Errors
    /// [`PassError`] where the prompt was not read by this plan's tokenizer, a place does not have the length of what goes there, or the
    /// source failed. But for the last nothing is computed.
    pub fn encode_prompt(
        &mut self,
        prompt: &Prompt,
        empty: Option<&[f32]>,
        hidden: &mut [f32],
        mut pooled: Option<&mut [f32]>,
    ) -> Result<(), PassError<S::Error>> {
        self.check(prompt, empty, hidden, pooled.as_deref())?;
        let program = self.program;
        let chunk = program.context() * program.width();
        if prompt.weighting() == Weighting::Comfy && prompt.is_weighted() {
            let (first, rest) = hidden.split_at_mut_checked(chunk).unwrap_or((&mut [], &mut []));
            match empty {
                Some(empty) => copy(first, empty),
                None => _ = self.encode_into(Input::Content(&[]), first)?,
            }
            for place in rest.chunks_exact_mut(chunk.max(1)) {
                copy(place, first);
            }
        }
        let has_room = |count: &usize| self.program.arena_bytes(*count) <= self.arena.len();
        let at_once = (1..=AT_ONCE).rev().find(has_room).unwrap_or(1);
        let (mut first, mut rest) = (0, hidden);
        while first < prompt.chunks() {
            let count = at_once.min(prompt.chunks() - first);
            let (states, behind) = rest.split_at_mut_checked(count * chunk).unwrap_or((&mut [], &mut []));
            let mut inputs = [Input::Content(&[]); AT_ONCE];
            for (index, input) in inputs.iter_mut().enumerate().take(count) {
                *input = Input::Content(prompt.ids(first + index));
            }
            let mut sink =
                Chunks { program: &program, prompt, first, hidden: states, pooled: pooled.as_deref_mut() };
            self.pass(inputs.get(..count).unwrap_or(&[]), &mut sink)?;
            first += count;
            rest = behind;
        }
        Ok(())
    }

    /// Whether all places have the lengths of what goes there.
    fn check(
        &self,
        prompt: &Prompt,
        empty: Option<&[f32]>,
        hidden: &[f32],
        pooled: Option<&[f32]>,
    ) -> Result<(), PassError<S::Error>> {
        let program = &self.program;
        let (given, needed) = (prompt.context(), program.context());
        if given != needed || prompt.chunks() == 0 {
            return Err(PassError::Context { given, needed });
        }
        let chunk = program.context() * program.width();
        let (given, needed) = (hidden.len(), prompt.chunks() * chunk);
        if given != needed {
            return Err(PassError::Length { given, needed });
        }
        if let Some(given) = empty.map(<[f32]>::len).filter(|&given| given != chunk) {
            return Err(PassError::EmptyLength { given, needed: chunk });
        }
        let columns = program.manifest().pooled.map_or(0, |place| place.columns as usize);
        match pooled.map(<[f32]>::len).filter(|&given| given == 0 || given != columns) {
            Some(given) => Err(PassError::PooledLength { given, needed: columns }),
            None => Ok(()),
        }
    }
}

/// Chunks that go through one pass at the most.
const AT_ONCE: usize = if MAX_CHUNKS < MAX_SEQUENCES { MAX_CHUNKS } else { MAX_SEQUENCES };

/// Takes the hidden states of chunks.
struct Chunks<'s> {
    program: &'s Program<'s>,
    prompt: &'s Prompt,
    /// The chunk of the first sequence, and where its states go; those of the others follow. ComfyUI's weights find those of the
    /// empty prompt there.
    first: usize,
    hidden: &'s mut [f32],
    pooled: Option<&'s mut [f32]>,
}

impl Sink for Chunks<'_> {
    fn hidden(&mut self, sequence: usize, states: &[f32]) {
        let Some(to) = self.hidden.chunks_exact_mut(states.len().max(1)).nth(sequence) else { return };
        let weights = self.prompt.weights(self.first + sequence);
        // As in the steps, no bit depends on the host's floating-point mode.
        let exact = Exact::enter();
        match self.prompt.weighting() {
            Weighting::A1111 if weights.iter().any(|&weight| weight != 1.0) => {
                copy(to, states);
                multiply(to, self.program, weights);
            }
            Weighting::Comfy if self.prompt.is_weighted() => {
                interpolate(to, states, self.program.width(), weights)
            }
            _ => copy(to, states),
        }
        drop(exact);
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        if self.first + sequence == 0
            && let Some(to) = self.pooled.take()
        {
            copy(to, row);
        }
    }
}

/// The weight of each row of a chunk: of the start token, of its own, and of what follows.
fn of_rows(weights: &[f32]) -> impl Iterator<Item = f32> {
    core::iter::once(1.0).chain(weights.iter().copied()).chain(core::iter::repeat(1.0))
}

/// Multiplies each row by its weight, then each text tower's columns by what restores their mean over the chunk, as
/// AUTOMATIC1111's program does: `z·w · mean(z) / mean(z·w)`. A mean that can't be restored stays.
fn multiply(states: &mut [f32], program: &Program<'_>, weights: &[f32]) {
    let width = program.width().max(1);
    let widths = || program.towers().map(|tower| tower.width);
    // The towers' states stand side by side; of a plan that gives one tower's only, all columns are that tower's.
    let joined = widths().sum::<usize>() == width;
    let mut start = 0;
    for columns in widths().take(if joined { usize::MAX } else { 1 }) {
        let end = if joined { start + columns } else { width };
        let mut means = [0.0f64; 2];
        for (row, weight) in states.chunks_exact_mut(width).zip(of_rows(weights)) {
            for value in row.get_mut(start..end).unwrap_or(&mut []) {
                means[0] += f64::from(*value);
                *value *= weight;
                means[1] += f64::from(*value);
            }
        }
        let ratio = (means[0] / means[1]) as f32;
        if ratio.is_finite() {
            for row in states.chunks_exact_mut(width) {
                row.get_mut(start..end).unwrap_or(&mut []).iter_mut().for_each(|value| *value *= ratio);
            }
        }
        start = end;
    }
}

/// Puts `(z - empty)·w + empty` in the place of `empty`, row by row, as ComfyUI does; `z` itself where the weight is 1.
fn interpolate(empty: &mut [f32], states: &[f32], width: usize, weights: &[f32]) {
    let width = width.max(1);
    let rows = empty.chunks_exact_mut(width).zip(states.chunks_exact(width));
    for ((empty, states), weight) in rows.zip(of_rows(weights)) {
        if weight == 1.0 {
            copy(empty, states);
            continue;
        }
        for (empty, state) in empty.iter_mut().zip(states) {
            *empty += (state - *empty) * weight;
        }
    }
}
