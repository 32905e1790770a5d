//! The plan file: what the compiler writes and the runtime reads in place.
//!
//! [`Plan::load`] checks everything once; [`Plan`] is then a view over the bytes whose accessors cannot fail.
//! `docs/plan-format.md` is the specification.

mod check;
mod error;
pub mod format;
mod manifest;

pub use error::{LoadError, StepFault};
pub(crate) use manifest::QUANT_PARAMS_BYTES;
pub use manifest::{
    Attention, Axis, CachedRow, Codes, Embed, EmbedPrecision, Join, Linear, Manifest, Norm, NormOutput,
    Normalize, Pool, Rows, Step, Text,
};

use crate::kernels::{Kernels, PackingError};
use crate::tokenizer::{Padding, Tokenizer, Vocabulary};
use format::{Header, Section};

/// A validated plan over borrowed bytes.
#[derive(Clone)]
pub struct Plan<'a> {
    manifest: Manifest,
    tokenizer: Tokenizer<'a>,
    vocabulary_bytes: usize,
    steps: &'a [u8],
    constants: &'a [u8],
    token_rows: u32,
    known_first: Option<u32>,
    bytes: usize,
}

impl<'a> Plan<'a> {
    /// Reads the plan in `bytes`, which must start at a multiple of 64: nothing is copied.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where. After `Ok`, encoding any text with the plan succeeds.
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        if !bytes.as_ptr().addr().is_multiple_of(format::ALIGN) {
            return Err(LoadError::Misaligned);
        }
        let header = Header::read(bytes)?;
        header.verify(bytes)?;
        let section = |section| header.section(bytes, section);
        let manifest_bytes = section(Section::Manifest);
        let (manifest, rest) =
            postcard::take_from_bytes::<Manifest>(manifest_bytes).map_err(|_| LoadError::Manifest)?;
        if !rest.is_empty() {
            return Err(LoadError::Manifest);
        }
        let vocabulary = Vocabulary::load(section(Section::Vocabulary)).map_err(LoadError::Vocabulary)?;
        // The steps say how to pad, and can only be read with a context that is known to be in range.
        let context = manifest.context.into();
        let tokenizer = Tokenizer::new(vocabulary, context, Padding::End).map_err(LoadError::Tokenizer)?;
        let mut plan = Plan {
            manifest,
            tokenizer,
            vocabulary_bytes: section(Section::Vocabulary).len(),
            steps: section(Section::Steps),
            constants: section(Section::Constants),
            token_rows: 0,
            known_first: None,
            bytes: bytes.len(),
        };
        let findings = check::check(&plan)?;
        plan.token_rows = findings.token_rows;
        plan.known_first = findings.known_first;
        plan.tokenizer =
            Tokenizer::new(vocabulary, context, findings.padding).map_err(LoadError::Tokenizer)?;
        Ok(plan)
    }

    /// What the plan says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Tokens of the fixed context.
    pub fn context(&self) -> usize {
        self.manifest.context.into()
    }

    /// The text towers in their order.
    pub fn towers(&self) -> impl Iterator<Item = TowerInfo> {
        let mut steps = self.steps().map(|(step, _)| step).peekable();
        core::iter::from_fn(move || {
            let mut tower = steps.find_map(|step| match step {
                Step::Embed(embed) => Some(TowerInfo::beginning(&embed)),
                _ => None,
            })?;
            while let Some(step) = steps.next_if(|step| !matches!(step, Step::Embed(_))) {
                if let Step::Attention(attention) = step {
                    tower.layers += 1;
                    tower.heads = attention.heads;
                }
            }
            Some(tower)
        })
    }

    /// Whether the pooled output is a projection: in zero-shot models, into the space that texts share with images.
    pub fn is_projected(&self) -> bool {
        let pooled = self.manifest.pooled;
        let wrote = |step: &Step| match step {
            Step::Linear(linear) => Some(linear.out),
            Step::Pool(pool) => Some(pool.out),
            Step::Join(join) => Some(join.out),
            _ => None,
        };
        let last = self
            .steps()
            .map(|(step, _)| step)
            .filter(|step| pooled.is_some() && wrote(step) == pooled)
            .last();
        matches!(last, Some(Step::Linear(_)))
    }

    /// Rows of the token embedding, of the smallest where there are several: every id is below.
    pub fn token_rows(&self) -> u32 {
        self.token_rows
    }

    /// The token whose row is known wherever the steps read it ([`CachedRow`]): in a pass whose first prompt begins with it,
    /// nearly always the start token, that prompt's first row is not computed.
    pub fn known_first(&self) -> Option<u32> {
        self.known_first
    }

    /// Columns of the hidden states, of all towers together.
    pub fn width(&self) -> usize {
        self.manifest.hidden.columns as usize
    }

    /// Bytes of arena that encoding `sequences` prompts at once needs.
    pub fn arena_bytes(&self, sequences: usize) -> usize {
        self.manifest.arena_bytes as usize * sequences
    }

    /// Bytes of the whole plan.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the vocabulary table and of the steps' constants (weights, embeddings, norms).
    pub fn section_bytes(&self) -> (usize, usize) {
        (self.vocabulary_bytes, self.constants.len())
    }

    /// The steps' constants, one behind the other.
    pub fn constants(&self) -> &'a [u8] {
        self.constants
    }

    /// The fastest kernels of this CPU that read the plan's weights.
    ///
    /// # Errors
    /// [`PackingError`] says which `--target` to compile for, where the plan's is another kind of CPU.
    pub fn kernels(&self) -> Result<Kernels, PackingError> {
        Kernels::fastest(self.manifest.packing)
    }

    /// The tokenizer of the model. It pads as the first text tower does.
    pub fn tokenizer(&self) -> &Tokenizer<'a> {
        &self.tokenizer
    }

    /// The steps in their order, each with its constants.
    pub fn steps(&self) -> Steps<'a> {
        Steps { steps: self.steps, constants: self.constants, context: self.context() }
    }
}

impl core::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Plan")
            .field("manifest", &self.manifest)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// One of a plan's text towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerInfo {
    /// Layers that the plan computes.
    pub layers: usize,
    /// Columns of its residual stream.
    pub width: usize,
    /// Attention heads in each layer.
    pub heads: u16,
    /// How it fills prompts up to the context.
    pub padding: Padding,
}

impl TowerInfo {
    fn beginning(embed: &Embed) -> Self {
        Self { layers: 0, width: embed.out.columns as usize, heads: 0, padding: embed.padding }
    }
}

/// Iterates over a plan's steps.
#[derive(Clone)]
pub struct Steps<'a> {
    steps: &'a [u8],
    constants: &'a [u8],
    context: usize,
}

impl<'a> Steps<'a> {
    /// The next step, `Ok(None)` behind the last.
    fn read(&mut self) -> Result<Option<(Step, &'a [u8])>, StepFault> {
        if self.steps.is_empty() {
            return Ok(None);
        }
        let (step, rest) =
            postcard::take_from_bytes::<Step>(self.steps).map_err(|_| StepFault::Unreadable)?;
        let bytes = step.constant_bytes(self.context).ok_or(StepFault::TooLarge)?;
        let constants = self.constants.get(..bytes).ok_or(StepFault::MissingConstants)?;
        self.constants = &self.constants[bytes..];
        self.steps = rest;
        Ok(Some((step, constants)))
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = (Step, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // `Plan::load` read them all once: there is no error any more.
        self.read().ok().flatten()
    }
}
