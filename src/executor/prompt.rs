//! Prompts of several chunks, and what their weights do to the hidden states.

use super::encoder::Encoder;
use super::error::PassError;
use super::input::Input;
use super::sink::Sink;
use crate::plan::{MAX_SEQUENCES, Source};
use crate::prompt::{MAX_CHUNKS, Prompt};
use crate::threads::Team;

impl<T: Team, S: Source> Encoder<'_, T, S> {
    /// Encodes the chunks of `prompt`: their hidden states one behind the other, `[chunks · context, width]`, to `hidden`, and the
    /// first chunk's pooled row to `pooled`, which no weight changes.
    ///
    /// As many chunks go through one pass as the arena has room for: one with [`Program::arena_bytes`]`(1)`. How many changes no
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
        let chunk = self.program.context() * self.program.width();
        let has_room = |count: &usize| self.program.arena_bytes(*count) <= self.arena.len();
        let at_once = (1..=AT_ONCE).rev().find(has_room).unwrap_or(1);
        let (mut first, mut rest) = (0, hidden);
        while first < prompt.chunks() {
            let count = at_once.min(prompt.chunks() - first);
            let (states, behind) = rest.split_at_mut(count * chunk);
            let mut inputs = [Input::Content(&[]); AT_ONCE];
            for (index, input) in inputs.iter_mut().enumerate().take(count) {
                *input = Input::Content(prompt.ids(first + index));
            }
            let mut sink = Chunks { first, hidden: states, pooled: pooled.take() };
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
    /// The chunk of the first sequence, and where its states go; those of the others follow.
    first: usize,
    hidden: &'s mut [f32],
    pooled: Option<&'s mut [f32]>,
}

impl Sink for Chunks<'_> {
    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        let Some(to) = self.hidden.chunks_exact_mut(rows.len()).nth(sequence) else { return };
        to.copy_from_slice(rows);
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        if self.first + sequence == 0
            && let Some(to) = self.pooled.take()
        {
            to.copy_from_slice(row);
        }
    }
}
