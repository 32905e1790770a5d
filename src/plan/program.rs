//! What a plan computes: all of it but the constants.

use super::LoadError;
use super::check;
use super::cut::Cut;
use super::format::{Header, Section};
use super::hash::PlanHash;
use super::manifest::Manifest;
use super::record::Record;
use super::step::{Embed, Mask, Op, Part, Step};
use crate::kernels::{Kernels, PackingError};
use crate::tokenizer::{Padding, Tokenizer, Vocabulary};

/// A plan without its constants: manifest, steps and tokenizer, checked, and read in place from the front of the file.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    header: Header,
    /// Header and checksums.
    front: &'a [u8],
    manifest: Manifest<'a>,
    records: &'a [Record],
    tokenizer: Tokenizer<'a>,
    vocabulary_bytes: usize,
    constant_bytes: u64,
    file_bytes: u64,
    token_rows: u32,
    cached_token: Option<u32>,
    causal: bool,
    cut: Cut,
    keeps_rows: bool,
}

impl<'a> Program<'a> {
    /// Reads the program at the front of a plan of which only the [head](Header::head_bytes) need be in memory. `head` starts
    /// at a multiple of 64; nothing is copied.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where.
    pub fn load(head: &'a [u8]) -> Result<Self, LoadError> {
        let header = Header::read_in_place(head)?;
        let length = usize::try_from(header.head_bytes()).map_err(|_| LoadError::Truncated)?;
        let head = head.get(..length).ok_or(LoadError::Truncated)?;
        header.verify(head)?;
        Self::of(&header, head)
    }

    /// Reads the program from bytes that were found to be what their checksums say.
    pub(super) fn of(header: &Header, head: &'a [u8]) -> Result<Self, LoadError> {
        let manifest =
            Manifest::of_section(header.section(head, Section::Manifest)).ok_or(LoadError::Manifest)?;
        let vocabulary_section = header.section(head, Section::Vocabulary);
        let vocabulary = Vocabulary::load(vocabulary_section).map_err(LoadError::Vocabulary)?;
        // How to pad is known when the steps are.
        let context = manifest.context.into();
        let tokenizer = Tokenizer::new(vocabulary, context, Padding::End).map_err(LoadError::Tokenizer)?;
        let records = bytemuck::try_cast_slice(header.section(head, Section::Steps));
        let mut program = Program {
            header: *header,
            front: header.front(head)?,
            manifest,
            records: records.map_err(|_| LoadError::Steps)?,
            tokenizer,
            vocabulary_bytes: vocabulary_section.len(),
            constant_bytes: header.place(Section::Constants).1,
            file_bytes: header.file_bytes(),
            token_rows: 0,
            cached_token: None,
            causal: true,
            cut: Cut { context: 0, tokens: 0, sequence: 0, apart: true },
            keeps_rows: false,
        };
        let findings = check::check(program.parts(), isize::MAX as u64)?;
        program.token_rows = findings.token_rows;
        program.cached_token = findings.cached_token;
        program.causal = findings.causal;
        program.cut = findings.cut;
        program.keeps_rows = findings.keeps_rows;
        program.tokenizer =
            Tokenizer::new(vocabulary, context, findings.padding).map_err(LoadError::Tokenizer)?;
        Ok(program)
    }

    /// What the plan says of itself.
    pub fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
    }

    /// Tokens of a text, padding included.
    pub fn context(&self) -> usize {
        self.manifest.context.into()
    }

    /// The steps in their order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + Clone + use<'a> {
        // `load` found every record to be a step's: none is left out.
        self.records.iter().filter_map(Step::of_record)
    }

    /// How many steps there are.
    pub fn step_count(&self) -> usize {
        self.records.len()
    }

    /// What is checked of it.
    pub(super) fn parts(&self) -> check::Parts<'_> {
        check::Parts {
            manifest: &self.manifest,
            records: self.records,
            ids: self.tokenizer.vocabulary().size(),
            constant_bytes: self.constant_bytes,
        }
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

    /// Whether the pooled output is a projection: in zero-shot models, into the space that texts share with images.
    pub fn is_projected(&self) -> bool {
        let pooled = self.manifest.pooled;
        let last = self.steps().rev().find(|step| pooled == Some(step.out));
        last.is_some_and(|step| step.role.part == Part::Projection)
    }

    /// Rows of the token embedding, of the smallest where there are several: every id is below.
    pub fn token_rows(&self) -> u32 {
        self.token_rows
    }

    /// The token whose row is cached wherever the steps read it ([`Op::CachedRow`]): in a pass whose first prompt begins with
    /// it, nearly always the start token, that prompt's first row is not computed.
    pub fn cached_token(&self) -> Option<u32> {
        self.cached_token
    }

    /// Whether every attention has a causal mask: so a prompt's rows do not depend on the padding behind them.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// Whether an encoder keeps the rows of one input for the next: of one that begins as the one before, only the rows from the
    /// first that differs on are computed. `cliptext compile --prefix-cache` lays out the arena so that all layers'
    /// queries, keys and values stay in it.
    pub fn keeps_rows(&self) -> bool {
        self.keeps_rows
    }

    /// How each text tower fills the context.
    pub(crate) fn paddings(&self) -> impl Iterator<Item = Padding> {
        self.records.iter().filter_map(|record| match Op::of_record(record)? {
            Op::Embed(embed) => Some(embed.padding),
            _ => None,
        })
    }

    /// Columns of the hidden states, of all towers together.
    pub fn width(&self) -> usize {
        self.manifest.hidden.columns as usize
    }

    /// Bytes of arena that encoding `sequences` prompts at once needs, each in the whole context.
    pub fn arena_bytes(&self, sequences: usize) -> usize {
        self.pass_bytes(sequences, sequences.saturating_mul(self.context()))
    }

    /// Bytes of arena that a pass over `sequences` inputs needs which have `rows` rows together: a row for each token, of a
    /// padded input for each of the context. Rows take room by whole contexts: so many short texts as fill one take little
    /// more than one prompt.
    ///
    /// Plans of earlier compilers that keep rows of sequences among those of tokens take a context for each input.
    pub fn pass_bytes(&self, sequences: usize, rows: usize) -> usize {
        self.cut.bytes(self.cut.room(sequences, rows))
    }

    /// The frame of its file, and the front of it, which has the checksums.
    pub(crate) fn header(&self) -> (Header, &'a [u8]) {
        (self.header, self.front)
    }

    /// How the arena is cut.
    pub(crate) fn cut(&self) -> Cut {
        self.cut
    }

    /// Which plan it is, the same as of the [front](PlanHash::of_front) of its file. Some kilobytes are hashed at each call, none by
    /// loading.
    pub fn hash(&self) -> PlanHash {
        PlanHash::of_checked(self.front)
    }

    /// Bytes of the whole plan.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of the vocabulary table.
    pub fn vocabulary_bytes(&self) -> usize {
        self.vocabulary_bytes
    }

    /// Bytes of all steps' constants: weights, embeddings, norms.
    pub fn constant_bytes(&self) -> u64 {
        self.constant_bytes
    }

    /// The fastest kernels of this CPU that read the plan's weights.
    ///
    /// # Errors
    /// [`PackingError`] says what the plan's weights are packed for, where that is another kind of CPU.
    pub fn kernels(&self) -> Result<Kernels, PackingError> {
        Kernels::fastest(self.manifest.packing)
    }

    /// The tokenizer of the model. It pads as the first text tower does.
    pub fn tokenizer(&self) -> &Tokenizer<'a> {
        &self.tokenizer
    }
}

impl core::fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Program")
            .field("manifest", &self.manifest)
            .field("steps", &self.records.len())
            .field("file_bytes", &self.file_bytes)
            .finish_non_exhaustive()
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
