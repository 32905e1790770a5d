//! What a plan computes: all of it but the constants.

use core::ops::Deref;

use super::LoadError;
use super::check::Reads;
use super::format::{Header, Kind, Section};
use super::graph::Graph;
use super::manifest::Manifest;
use super::step::{Embed, Mask, Op, Step};
use crate::tokenizer::{Padding, Tokenizer, Vocabulary};

/// A plan without its constants: manifest and steps, the [`Graph`] that it derefs to, and the tokenizer; checked, and read in place
/// from the front of the file.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    graph: Graph<'a>,
    tokenizer: Tokenizer<'a>,
    vocabulary_bytes: usize,
}

impl<'a> Deref for Program<'a> {
    type Target = Graph<'a>;

    fn deref(&self) -> &Graph<'a> {
        &self.graph
    }
}

impl<'a> Program<'a> {
    /// Reads the program at the front of a plan of which only the [head](Header::head_bytes) need be in memory. `head` starts
    /// at a multiple of 64; nothing is copied.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where.
    pub fn load(head: &'a [u8]) -> Result<Self, LoadError> {
        let header = Header::read_in_place(Kind::Text, head)?;
        let length = usize::try_from(header.head_bytes()).map_err(|_| LoadError::Truncated)?;
        let head = head.get(..length).ok_or(LoadError::Truncated)?;
        header.verify(head)?;
        Self::of(&header, head)
    }

    /// Reads the program from bytes that were found to be what their checksums say.
    pub(super) fn of(header: &Header, head: &'a [u8]) -> Result<Self, LoadError> {
        let manifest =
            Manifest::of_section(header.section(head, Section::Manifest)).ok_or(LoadError::Manifest)?;
        let section = header.section(head, Section::Vocabulary);
        let vocabulary = Vocabulary::load(section).map_err(LoadError::Vocabulary)?;
        let tokenizer = |padding| {
            Tokenizer::new(vocabulary, manifest.context.into(), padding).map_err(LoadError::Tokenizer)
        };
        // How to pad is known when the steps are.
        tokenizer(Padding::End)?;
        let graph = Graph::of(header, head, manifest, Reads::Ids { end: vocabulary.size() })?;
        Ok(Self { tokenizer: tokenizer(graph.findings().padding)?, graph, vocabulary_bytes: section.len() })
    }

    /// What it computes, without the tokenizer.
    pub fn graph(&self) -> &Graph<'a> {
        &self.graph
    }

    /// Tokens of a text, padding included.
    pub fn context(&self) -> usize {
        self.manifest().context.into()
    }

    /// The towers in their order.
    pub fn towers(&self) -> impl Iterator<Item = TowerInfo> + use<'a> {
        let mut steps = self.steps().peekable();
        core::iter::from_fn(move || {
            let first = steps.next()?;
            let mut tower = TowerInfo::beginning(&first)?;
            while let Some(step) = steps.next_if(|step| step.role.tower == first.role.tower) {
                tower.take(&step);
            }
            Some(tower)
        })
    }

    /// Rows of the token embedding, of the smallest where there are several: every id is below.
    pub fn token_rows(&self) -> u32 {
        self.findings().token_rows
    }

    /// The token whose row is cached wherever the steps read it ([`Op::CachedRow`]): in a pass whose first prompt begins with
    /// it, nearly always the start token, that prompt's first row is not computed.
    pub fn cached_token(&self) -> Option<u32> {
        self.findings().cached_token
    }

    /// Whether every attention has a causal mask: so a prompt's rows do not depend on the padding behind them.
    pub fn is_causal(&self) -> bool {
        self.findings().causal
    }

    /// Whether an encoder keeps the rows of one input for the next: of one that begins as the one before, only the rows from the
    /// first that differs on are computed. `cliptext compile --prefix-cache` lays out the arena so that all layers'
    /// queries, keys and values stay in it.
    pub fn keeps_rows(&self) -> bool {
        self.findings().keeps_rows
    }

    /// How each text tower fills the context.
    pub(crate) fn paddings(&self) -> impl Iterator<Item = Padding> {
        self.records().iter().filter_map(|record| match Op::of_record(record)? {
            Op::Embed(embed) => Some(embed.padding),
            _ => None,
        })
    }

    /// Bytes of the vocabulary table.
    pub fn vocabulary_bytes(&self) -> usize {
        self.vocabulary_bytes
    }

    /// The tokenizer of the model. It pads as the first text tower does.
    pub fn tokenizer(&self) -> &Tokenizer<'a> {
        &self.tokenizer
    }
}

impl core::fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Program").field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// One of a plan's text towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TowerInfo {
    /// Layers that the plan computes.
    pub layers: usize,
    /// Columns of its residual stream.
    pub width: usize,
    /// Attention heads in each layer.
    pub heads: u16,
    /// Rows for a sequence.
    pub tokens: u16,
    /// Which rows a row sees.
    pub mask: Mask,
    /// How it fills prompts up to the context.
    pub padding: Padding,
}

impl TowerInfo {
    /// Of the tower that `step` begins.
    fn beginning(step: &Step) -> Option<Self> {
        let Op::Embed(Embed { padding, .. }) = step.op else { return None };
        let (width, tokens) = (step.out.columns as usize, step.out.rows);
        Some(Self { layers: 0, width, heads: 0, tokens, mask: Mask::Causal, padding })
    }

    /// Adds what a later step says.
    fn take(&mut self, step: &Step) {
        self.layers = self.layers.max(step.role.layer.into());
        if let Op::Attention { heads, mask, .. } = step.op {
            (self.heads, self.mask) = (heads, mask);
        }
    }
}
