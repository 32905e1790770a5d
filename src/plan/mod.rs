//! The plan file: what the compiler writes and the runtime reads in place.
//!
//! [`Plan::load`] checks everything once; [`Plan`] is then a view over the bytes whose accessors cannot fail.
//! `docs/plan-format.md` is the specification.

mod check;
mod error;
pub mod format;
mod manifest;

pub use error::{LoadError, StepFault};
pub use manifest::{
    Attention, Codes, Embed, EmbedPrecision, Linear, Manifest, Norm, NormOutput, Per, Pool, Rows, Step, Text,
};

use crate::kernels::Kernels;
use crate::tokenizer::{Tokenizer, Vocabulary};
use format::{Header, Section};

/// A validated plan over borrowed bytes.
#[derive(Clone)]
pub struct Plan<'a> {
    manifest: Manifest,
    tokenizer: Tokenizer<'a>,
    vocabulary_bytes: usize,
    steps: &'a [u8],
    constants: &'a [u8],
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
        let tokenizer = Tokenizer::new(vocabulary, manifest.context.into(), manifest.padding)
            .map_err(LoadError::Tokenizer)?;
        let plan = Plan {
            manifest,
            tokenizer,
            vocabulary_bytes: section(Section::Vocabulary).len(),
            steps: section(Section::Steps),
            constants: section(Section::Constants),
            bytes: bytes.len(),
        };
        check::check(&plan)?;
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

    /// Columns of the hidden states.
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
    pub fn kernels(&self) -> Kernels {
        Kernels::fastest(self.manifest.packing)
    }

    /// The tokenizer of the model.
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
