//! Runs a plan: text in, embeddings out, all memory in one arena.

mod arena;
mod steps;

use core::fmt;

use crate::kernels::{Kernels, PackingError, Sequences};
use crate::plan::Plan;
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
        /// Bytes that encoding one prompt needs.
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
                write!(f, "the arena has {given} bytes, the plan needs {needed}")
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
        if arena.as_ptr().addr() % crate::plan::format::ALIGN != 0 {
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
        let tokens = self.plan.tokenizer().encode(text);
        self.encode_tokens(tokens, self.plan.context())
    }

    /// Encodes `text` without the padding: only the rows of its own tokens, start and end included. They equal the
    /// first rows of [`encode`](Self::encode) bit for bit.
    pub fn encode_unpadded(&mut self, text: &str) -> Embedding<'_> {
        let tokens = self.plan.tokenizer().encode(text);
        let rows = tokens.unpadded().len();
        self.encode_tokens(tokens, rows)
    }

    /// The first `rows` of the tokens.
    fn encode_tokens(&mut self, tokens: Tokens, rows: usize) -> Embedding<'_> {
        let lengths = [rows];
        let ids = tokens.ids().iter().take(rows).copied();
        let ends = [tokens.end_position()];
        let mut arena = Arena::new(self.arena, 1);
        steps::run(self.plan, self.kernels, &self.team, &mut arena, ids, Sequences(&lengths), &ends);
        let manifest = self.plan.manifest();
        let hidden = arena.place(manifest.hidden, rows);
        let pooled = manifest.pooled.map(|place| arena.place(place, 1));
        let bytes = arena.into_bytes();
        Embedding {
            tokens,
            rows,
            width: self.plan.width(),
            hidden: values(&bytes[hidden]),
            pooled: pooled.map(|place| values(&bytes[place])),
        }
    }
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
    /// The hidden states, `[tokens, width]` row by row.
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

    /// The token ids, one per row of the hidden states.
    pub fn ids(&self) -> &[u32] {
        self.tokens.ids().get(..self.rows).unwrap_or(&[])
    }

    /// Whether the prompt had more tokens than the context.
    pub fn is_truncated(&self) -> bool {
        self.tokens.is_truncated()
    }
}
