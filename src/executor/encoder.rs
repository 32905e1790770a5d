//! The encoder.

use core::convert::Infallible;

use super::arena::{Arena, Layout, values, values_mut};
use super::batch::{Batch, Member};
use super::embedding::Embedding;
use super::error::{EncoderError, IdsError, PassError};
use super::input::{Input, Sequence};
use super::sink::{CopyHidden, EachStep, Sink, StepOutput};
use super::steps::{self, Given};
use crate::kernels::Kernels;
use crate::kernels::float_mode::Exact;
use crate::kernels::set::KernelSet;
use crate::plan::format::ALIGN;
use crate::plan::{Graph, MAX_SEQUENCES, Plan, Program, Resident, Source};
use crate::threads::{Solo, Team};

/// Turns prompts into embeddings with one plan, in one arena.
///
/// After it is made, nothing allocates, fails or panics, where the constants are in memory.
///
/// Loading a plan and encoding take less than 16 KiB of stack on aarch64, 32 elsewhere, whatever the plan and the text (release builds;
/// `tests/stack.rs`); so does each worker of a team.
///
/// A kernel's task does not panic. Should a [`Team`]'s own code, a [`Source`] or a [`Sink`] panic, the arena's contents mean nothing,
/// and the next pass begins anew: it reads only what it has written.
///
/// It holds the plan's view by value, in less than a kilobyte: it borrows the plan's bytes and the arena only, so that all
/// three can live in memory that a caller from C gives.
pub struct Encoder<'a, T = Solo, S = Resident<'a>> {
    pub(super) program: Program<'a>,
    source: S,
    kernels: KernelSet<'a>,
    team: T,
    pub(super) arena: &'a mut [u8],
    /// The input of the pass before, where its rows still stand in the arena.
    held: Option<Member>,
}

impl<'a> Encoder<'a> {
    /// An encoder on the calling thread, with the fastest kernels of this CPU.
    ///
    /// `arena` starts at a multiple of 64 and has [`Graph::arena_bytes`]`(1)` bytes or more:
    /// [`ArenaBuf`](crate::ArenaBuf) is one.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena does not do, or the plan was compiled for another kind of CPU.
    pub fn new(plan: &Plan<'a>, arena: &'a mut [u8]) -> Result<Self, EncoderError> {
        Encoder::with(plan, arena, plan.kernels().map_err(EncoderError::Packing)?, Solo)
    }
}

impl<'a, T: Team> Encoder<'a, T> {
    /// An encoder with chosen kernels, the same for all workers or a [`KernelSet`], and workers.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena or the kernels do not do.
    pub fn with(
        plan: &Plan<'a>,
        arena: &'a mut [u8],
        kernels: impl Into<KernelSet<'a>>,
        team: T,
    ) -> Result<Self, EncoderError> {
        Encoder::over(plan.program(), plan.constants(), arena, kernels, team)
    }
}

impl<'a, T: Team, S: Source> Encoder<'a, T, S> {
    /// An encoder that takes the constants of `program` from `source`.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena or the kernels do not do.
    pub fn over(
        program: Program<'a>,
        source: S,
        arena: &'a mut [u8],
        kernels: impl Into<KernelSet<'a>>,
        team: T,
    ) -> Result<Self, EncoderError> {
        let kernels = kernels.into();
        can_run(&program, arena, kernels)?;
        Ok(Self { program, source, kernels, team, arena, held: None })
    }

    /// The kernels in use, those of the first worker.
    pub fn kernels(&self) -> Kernels {
        self.kernels.first()
    }

    /// What it runs.
    pub fn program(&self) -> &Program<'a> {
        &self.program
    }

    /// Bytes of its arena.
    pub fn arena_len(&self) -> usize {
        self.arena.len()
    }

    /// Where it takes its constants from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The workers.
    pub fn team(&self) -> &T {
        &self.team
    }

    /// Encodes `input`; `sink` is given the rows, which also stay in the arena.
    ///
    /// # Errors
    /// [`PassError`] where the input's ids can't be encoded, or the source failed.
    pub fn encode_from(
        &mut self,
        input: Input<'_>,
        sink: &mut impl Sink,
    ) -> Result<Embedding<'_>, PassError<S::Error>> {
        let sequence = Sequence::of(&self.program, input)?;
        self.run(&sequence, sink).map_err(PassError::Source)
    }

    /// Encodes `input` and copies its hidden states, `[tokens, width]`, to `hidden`, where the next pass leaves them alone: a
    /// part of a prompt that is longer than the context.
    ///
    /// # Errors
    /// As [`encode_from`](Self::encode_from), and [`PassError::Length`] unless `hidden` has their length. Then nothing is
    /// computed.
    pub fn encode_into(
        &mut self,
        input: Input<'_>,
        hidden: &mut [f32],
    ) -> Result<Embedding<'_>, PassError<S::Error>> {
        let sequence = Sequence::of(&self.program, input)?;
        let (given, needed) = (hidden.len(), sequence.wanted * self.program.width());
        if given != needed {
            return Err(PassError::Length { given, needed });
        }
        self.run(&sequence, &mut CopyHidden(hidden)).map_err(PassError::Source)
    }

    /// Encodes two inputs in one pass, as [`pass`](Self::pass) does; the embeddings come in their order.
    ///
    /// # Errors
    /// As [`pass`](Self::pass).
    pub fn encode_pair_from(
        &mut self,
        inputs: [Input<'_>; 2],
        sink: &mut impl Sink,
    ) -> Result<[Embedding<'_>; 2], PassError<S::Error>> {
        let mut batch = Batch::new();
        self.run_all(&inputs, &mut batch, sink)?;
        Ok([0, 1].map(|index| self.embedding(&batch, index)))
    }

    /// Encodes up to [`MAX_SEQUENCES`] inputs in one pass, in which the weights are read once: a prompt beside its negative
    /// prompt, or many short texts. What comes out of each is what it gives alone, bit for bit.
    ///
    /// The arena has [`Graph::pass_bytes`] of their number and their rows, or more.
    ///
    /// # Errors
    /// [`PassError`] where there are none or too many, the arena has no room for them, an input's ids can't be encoded, or the
    /// source failed.
    pub fn pass(&mut self, inputs: &[Input<'_>], sink: &mut impl Sink) -> Result<(), PassError<S::Error>> {
        if !(1..=MAX_SEQUENCES).contains(&inputs.len()) {
            return Err(PassError::Inputs { given: inputs.len() });
        }
        self.run_all(inputs, &mut Batch::new(), sink)
    }

    /// Reads the inputs into an empty batch and runs the plan over them.
    fn run_all(
        &mut self,
        inputs: &[Input<'_>],
        batch: &mut Batch,
        sink: &mut impl Sink,
    ) -> Result<(), PassError<S::Error>> {
        for input in inputs {
            self.read(*input, batch)?;
        }
        self.has_room_for(batch).map_err(PassError::Arena)?;
        self.compute(batch, sink).map_err(PassError::Source)
    }

    /// Adds an input to a pass. A function of its own, so that one input's ids at a time are on the stack.
    #[inline(never)]
    fn read(&mut self, input: Input<'_>, batch: &mut Batch) -> Result<(), IdsError> {
        let sequence = Sequence::of(&self.program, input)?;
        self.take(&sequence, batch);
        Ok(())
    }

    /// Adds a sequence to a pass. Of one that is alone the rows that stand in the arena are kept.
    fn take(&mut self, sequence: &Sequence, batch: &mut Batch) {
        let held = self.held.take().filter(|_| batch.members().is_empty());
        let tokenizer = self.program.tokenizer();
        batch.kept = held.map_or(0, |held| {
            let ids = values(self.arena.get(..held.id_bytes()).unwrap_or(&[]));
            let (paddings, filled) = (self.program.paddings(), tokenizer.padding());
            held.common_rows(ids, sequence, paddings, filled, tokenizer.vocabulary().end_id())
        });
        batch.push(sequence, self.arena);
    }

    /// Has the next pass compute all rows, where it would have kept those of the pass before.
    pub fn forget(&mut self) {
        self.held = None;
    }

    /// Whether the arena has room for a pass.
    fn has_room_for(&self, batch: &Batch) -> Result<(), EncoderError> {
        let needed = self.program.pass_bytes(batch.members().len(), batch.rows().rows());
        let given = self.arena.len();
        if given < needed { Err(EncoderError::ArenaTooSmall { needed, given }) } else { Ok(()) }
    }

    /// Runs the plan over one sequence.
    fn run(&mut self, sequence: &Sequence, sink: &mut impl Sink) -> Result<Embedding<'_>, S::Error> {
        let mut batch = Batch::new();
        self.take(sequence, &mut batch);
        self.compute(&batch, sink)?;
        Ok(self.embedding(&batch, 0))
    }

    /// Runs the plan over a batch whose ids stand in the arena, which has room for all, and tells `sink` the outputs.
    fn compute(&mut self, batch: &Batch, sink: &mut impl Sink) -> Result<(), S::Error> {
        let (program, layout) = (&self.program, self.layout(batch));
        let (ids, places) = self.arena.split_at_mut_checked(layout.id_bytes()).unwrap_or((&mut [], &mut []));
        let ids = values_mut::<u32>(ids);
        let mut arena = Arena::new(places, layout);
        let workers = (self.kernels, &self.team);
        let exact = Exact::enter();
        let (tokenizer, end) = (program.tokenizer(), program.tokenizer().vocabulary().end_id());
        let given = Given::Ids { ids, cached: program.cached_token(), end };
        steps::run(program, &mut self.source, workers, &mut arena, (batch, given), sink)?;
        drop(exact);
        batch.pad(ids, tokenizer.padding(), end);
        for index in 0..batch.members().len() {
            let embedding = self.embedding(batch, index);
            sink.hidden(index, embedding.hidden());
            if let Some(row) = embedding.pooled() {
                sink.pooled(index, row);
            }
        }
        if let [only] = batch.members()
            && self.program.keeps_rows()
        {
            self.held = Some(*only);
        }
        Ok(())
    }

    /// What stands in the arena of sequence `index` when the steps are done.
    fn embedding(&self, batch: &Batch, index: usize) -> Embedding<'_> {
        let (layout, manifest) = (self.layout(batch), self.program.manifest());
        let (ids, places) = self.arena.split_at_checked(layout.id_bytes()).unwrap_or((&[], &[]));
        let member = batch.members().get(index).copied().unwrap_or_default();
        let start = batch.rows().range(index).start;
        let hidden = layout.place(manifest.hidden, start..start + member.wanted());
        let pooled = manifest.pooled.map(|place| layout.place(place, index..index + 1));
        Embedding {
            ids: batch.wanted_ids(index, ids),
            truncated: member.is_truncated(),
            rows: member.wanted(),
            kept: if index == 0 { batch.kept.min(member.wanted()) } else { 0 },
            width: self.program.width(),
            hidden: values(places.get(hidden).unwrap_or(&[])),
            pooled: pooled.map(|place| values(places.get(place).unwrap_or(&[]))),
        }
    }

    /// Where a pass has its places.
    fn layout(&self, batch: &Batch) -> Layout {
        let cut = self.program.cut();
        Layout { cut, room: cut.room(batch.members().len(), batch.rows().rows()) }
    }
}

/// Whether `arena` and `kernels` do for one sequence.
pub(super) fn can_run(graph: &Graph<'_>, arena: &[u8], kernels: KernelSet<'_>) -> Result<(), EncoderError> {
    let (needed, given) = (graph.arena_bytes(1), arena.len());
    if !arena.as_ptr().addr().is_multiple_of(ALIGN) {
        return Err(EncoderError::ArenaMisaligned { needed });
    }
    kernels.read(graph.manifest().packing).map_err(EncoderError::Packing)?;
    if given < needed { Err(EncoderError::ArenaTooSmall { needed, given }) } else { Ok(()) }
}

impl<'a, T: Team, S: Source<Error = Infallible>> Encoder<'a, T, S> {
    /// Encodes `text`: the whole context, filled up as the model's tokenizer does.
    pub fn encode(&mut self, text: &str) -> Embedding<'_> {
        self.sure(&Sequence::padded(&self.program, text), &mut ())
    }

    /// [`encode`](Self::encode), telling `after_step` of each step as soon as it is done: for clocks, progress bars, and
    /// comparisons with another implementation. No row of the pass before is kept.
    pub fn encode_observed(&mut self, text: &str, after_step: impl FnMut(StepOutput<'_>)) -> Embedding<'_> {
        self.forget();
        self.sure(&Sequence::padded(&self.program, text), &mut EachStep(after_step))
    }

    /// Encodes `text` without the padding: only the rows of its own tokens, start and end included. They equal the
    /// first rows of [`encode`](Self::encode) bit for bit.
    pub fn encode_unpadded(&mut self, text: &str) -> Embedding<'_> {
        self.sure(&Sequence::unpadded(&self.program, text), &mut ())
    }

    /// Encodes token ids from elsewhere, see [`Input::Ids`].
    ///
    /// # Errors
    /// [`IdsError`] unless there are 1 to [`Program::context`] ids, all below [`Program::token_rows`].
    pub fn encode_ids(&mut self, ids: &[u32]) -> Result<Embedding<'_>, IdsError> {
        let sequence = Sequence::ids(&self.program, ids)?;
        Ok(self.sure(&sequence, &mut ()))
    }

    /// Encodes two texts, mostly a prompt and its negative prompt, in one pass: the weights are read once. The
    /// embeddings come in the order of the texts and equal those of [`encode`](Self::encode) bit for bit.
    ///
    /// # Errors
    /// [`EncoderError::ArenaTooSmall`] where the arena has less than [`Graph::arena_bytes`]`(2)` bytes.
    pub fn encode_pair(&mut self, texts: [&str; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        self.pair(texts.map(Input::Text))
    }

    /// [`encode_pair`](Self::encode_pair) without the padding, each text by itself: the embeddings equal those of
    /// [`encode_unpadded`](Self::encode_unpadded) bit for bit.
    ///
    /// # Errors
    /// [`EncoderError::ArenaTooSmall`] where the arena has less than [`Graph::pass_bytes`] of their rows.
    pub fn encode_pair_unpadded(&mut self, texts: [&str; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        self.pair(texts.map(Input::Unpadded))
    }

    /// Two texts in one pass.
    fn pair(&mut self, texts: [Input<'_>; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        match self.encode_pair_from(texts, &mut ()) {
            Ok(pair) => Ok(pair),
            Err(PassError::Arena(error)) => Err(error),
            // Texts are no ids that could be refused, and two inputs are not too many.
            Err(_) => Err(EncoderError::ArenaTooSmall { needed: usize::MAX, given: 0 }),
        }
    }

    /// [`run`](Self::run), which can't fail.
    fn sure(&mut self, sequence: &Sequence, sink: &mut impl Sink) -> Embedding<'_> {
        let Ok(embedding) = self.run(sequence, sink);
        embedding
    }
}
