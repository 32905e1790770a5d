//! Runs a plan: text in, embeddings out, all memory in one arena.

mod arena;
mod steps;

use core::fmt;

use crate::kernels::{Kernels, PackingError, Sequences};
use crate::plan::{Plan, Step};
use crate::threads::{Solo, Team};
use crate::tokenizer::Tokens;
use arena::{Arena, values};

pub use arena::{ArenaBuf, align_arena};

/// Prompts that can be encoded in one pass: a prompt and its negative prompt.
pub const MAX_SEQUENCES: usize = 2;

/// Turns prompts into embeddings with one plan, in one arena.
///
/// After it is made, nothing allocates, fails or panics.
pub struct Encoder<'a, T = Solo> {
    plan: &'a Plan<'a>,
    kernels: Kernels,
    team: T,
    arena: &'a mut [u8],
}

/// Why an [`Encoder`] can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderError {
    /// The arena has too few bytes.
    ArenaTooSmall {
        /// Bytes that encoding one prompt, or a pair where a pair was asked for, needs.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The arena does not start at a multiple of 64.
    ArenaMisaligned {
        /// Bytes that encoding one prompt needs, from a multiple of 64.
        needed: usize,
    },
    /// The kernels do not read the plan's weights.
    Packing(PackingError),
}

impl fmt::Display for EncoderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncoderError::ArenaTooSmall { needed, given } => {
                write!(f, "the arena has {given} bytes, {needed} are needed")
            }
            EncoderError::ArenaMisaligned { needed } => {
                write!(
                    f,
                    "the arena does not start at a multiple of 64 (the plan needs {needed} bytes from one)"
                )
            }
            EncoderError::Packing(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncoderError {}

/// Why token ids can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdsError {
    /// There are none, or more than the context takes.
    Count {
        /// Ids that were given.
        given: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// An id has no row in the embedding table.
    Range {
        /// The id.
        id: u32,
        /// Rows of the table.
        rows: u32,
    },
}

impl fmt::Display for IdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdsError::Count { given, context } => {
                write!(f, "{given} token ids were given, the plan takes 1 to {context}")
            }
            IdsError::Range { id, rows } => {
                write!(f, "token id {id} is not below {rows}, the rows of the embedding table")
            }
        }
    }
}

impl core::error::Error for IdsError {}

impl<'a> Encoder<'a> {
    /// An encoder on the calling thread, with the fastest kernels of this CPU.
    ///
    /// `arena` starts at a multiple of 64 and has [`Plan::arena_bytes`]`(1)` bytes or more: [`ArenaBuf`] is one.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena does not do, or the plan was compiled for another kind of CPU.
    pub fn new(plan: &'a Plan<'a>, arena: &'a mut [u8]) -> Result<Self, EncoderError> {
        Encoder::with(plan, arena, plan.kernels().map_err(EncoderError::Packing)?, Solo)
    }
}

impl<'a, T: Team> Encoder<'a, T> {
    /// An encoder with chosen kernels and workers.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena or the kernels do not do.
    pub fn with(
        plan: &'a Plan<'a>,
        arena: &'a mut [u8],
        kernels: Kernels,
        team: T,
    ) -> Result<Self, EncoderError> {
        let needed = plan.arena_bytes(1);
        if !arena.as_ptr().addr().is_multiple_of(crate::plan::format::ALIGN) {
            return Err(EncoderError::ArenaMisaligned { needed });
        }
        if arena.len() < needed {
            return Err(EncoderError::ArenaTooSmall { needed, given: arena.len() });
        }
        if !kernels.reads(plan.manifest().packing) {
            return Err(EncoderError::Packing(kernels.refuses(plan.manifest().packing)));
        }
        Ok(Self { plan, kernels, team, arena })
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Encodes `text`: the whole context, filled up as the model's tokenizer does.
    pub fn encode(&mut self, text: &str) -> Embedding<'_> {
        self.encode_observed(text, |_| {})
    }

    /// [`encode`](Self::encode), telling `after_step` of each step as soon as it is done: for clocks, progress bars, and
    /// comparisons with another implementation.
    pub fn encode_observed(&mut self, text: &str, after_step: impl FnMut(StepOutput<'_>)) -> Embedding<'_> {
        let tokens = self.plan.tokenizer().unpadded(text);
        let rows = self.plan.context();
        let [embedding] = self.run([tokens], [rows], after_step);
        embedding
    }

    /// Encodes `text` without the padding: only the rows of its own tokens, start and end included. They equal the
    /// first rows of [`encode`](Self::encode) bit for bit.
    pub fn encode_unpadded(&mut self, text: &str) -> Embedding<'_> {
        let tokens = self.plan.tokenizer().unpadded(text);
        let rows = tokens.unpadded().len();
        let [embedding] = self.run([tokens], [rows], |_| {});
        embedding
    }

    /// Encodes token ids from elsewhere, start and end token included: a row for each, in the order given. The first end
    /// token is the one that is pooled; without one, the last.
    ///
    /// Padding among them counts as text, for every text tower; only
    /// [`Padding::ZeroAfterEnd`](crate::tokenizer::Padding::ZeroAfterEnd) replaces what stands behind the first end token.
    ///
    /// # Errors
    /// [`IdsError`] unless there are 1 to [`Plan::context`] ids, all below [`Plan::token_rows`].
    pub fn encode_ids(&mut self, ids: &[u32]) -> Result<Embedding<'_>, IdsError> {
        let (given, context) = (ids.len(), self.plan.context());
        let rows = self.plan.token_rows();
        if let Some(&id) = ids.iter().find(|&&id| id >= rows) {
            return Err(IdsError::Range { id, rows });
        }
        let end_id = self.plan.tokenizer().vocabulary().end_id();
        match Tokens::from_ids(ids, end_id) {
            Some(tokens) if given <= context => {
                let [embedding] = self.run([tokens], [given], |_| {});
                Ok(embedding)
            }
            _ => Err(IdsError::Count { given, context }),
        }
    }

    /// Encodes two texts, mostly a prompt and its negative prompt, in one pass: the weights are read once. The
    /// embeddings come in the order of the texts and equal those of [`encode`](Self::encode) bit for bit.
    ///
    /// # Errors
    /// [`EncoderError::ArenaTooSmall`] where the arena has less than [`Plan::arena_bytes`]`(2)` bytes.
    pub fn encode_pair(&mut self, texts: [&str; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        let tokens = self.pair(texts)?;
        let rows = self.plan.context();
        Ok(self.run(tokens, [rows; 2], |_| {}))
    }

    /// [`encode_pair`](Self::encode_pair) without the padding, each text by itself: the embeddings equal those of
    /// [`encode_unpadded`](Self::encode_unpadded) bit for bit.
    ///
    /// # Errors
    /// As [`encode_pair`](Self::encode_pair).
    pub fn encode_pair_unpadded(&mut self, texts: [&str; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        let tokens = self.pair(texts)?;
        let rows = tokens.each_ref().map(|tokens| tokens.unpadded().len());
        Ok(self.run(tokens, rows, |_| {}))
    }

    /// The tokens of two texts, if the arena has room for them.
    fn pair(&self, texts: [&str; 2]) -> Result<[Tokens; 2], EncoderError> {
        let (needed, given) = (self.plan.arena_bytes(2), self.arena.len());
        if given < needed {
            return Err(EncoderError::ArenaTooSmall { needed, given });
        }
        Ok(texts.map(|text| self.plan.tokenizer().unpadded(text)))
    }

    /// Runs the plan over the first `rows` of each sequence's tokens; the arena has room for all.
    fn run<const N: usize>(
        &mut self,
        tokens: [Tokens; N],
        rows: [usize; N],
        after_step: impl FnMut(StepOutput<'_>),
    ) -> [Embedding<'_>; N] {
        let sequences = Sequences(&rows);
        let mut arena = Arena::new(self.arena, N);
        steps::run(self.plan, self.kernels, &self.team, &mut arena, &tokens, sequences, after_step);
        let (width, manifest) = (self.plan.width(), self.plan.manifest());
        let hidden = arena.place(manifest.hidden, 0..sequences.rows());
        let pooled = manifest.pooled.map(|place| (arena.place(place, 0..N), place.columns as usize));
        let bytes = arena.into_bytes();
        let hidden: &[f32] = values(&bytes[hidden]);
        let pooled = pooled.map(|(place, columns)| (values::<f32>(&bytes[place]), columns));
        let mut index = 0;
        tokens.map(|mut tokens| {
            self.plan.tokenizer().pad(&mut tokens);
            let range = sequences.range(index);
            let embedding = Embedding {
                tokens,
                rows: range.len(),
                width,
                hidden: &hidden[range.start * width..range.end * width],
                pooled: pooled.map(|(values, columns)| &values[index * columns..(index + 1) * columns]),
            };
            index += 1;
            embedding
        })
    }
}

/// A step that was just done.
#[derive(Clone, Copy, Debug)]
pub struct StepOutput<'o> {
    /// Its number in the plan.
    pub index: usize,
    /// The step.
    pub step: &'o Step,
    /// The number of the first row in `values`: 1 where the one before is not computed, as [`Plan::known_first`] says.
    pub first: usize,
    /// The f32 rows that it wrote, one after the other; empty where it wrote codes only.
    pub values: &'o [f32],
}

/// What a prompt became: a view into the arena.
#[derive(Clone, Debug)]
pub struct Embedding<'e> {
    tokens: Tokens,
    rows: usize,
    width: usize,
    hidden: &'e [f32],
    pooled: Option<&'e [f32]>,
}

impl<'e> Embedding<'e> {
    /// The hidden states, `[tokens, width]` row by row; those of several text towers side by side.
    pub fn hidden(&self) -> &'e [f32] {
        self.hidden
    }

    /// How many rows the hidden states have: the context, or the prompt's own tokens.
    pub fn tokens(&self) -> usize {
        self.rows
    }

    /// Columns of the hidden states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The pooled output, `[columns]`, where the plan has one.
    pub fn pooled(&self) -> Option<&'e [f32]> {
        self.pooled
    }

    /// The token ids, one per row of the hidden states, as the first text tower takes them: others may pad otherwise.
    pub fn ids(&self) -> &[u32] {
        self.tokens.ids().get(..self.rows).unwrap_or(&[])
    }

    /// Whether the prompt had more tokens than the context.
    pub fn is_truncated(&self) -> bool {
        self.tokens.is_truncated()
    }
}

#[cfg(test)]
mod tests;
