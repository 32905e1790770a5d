//! What plans have in common, whatever they encode: the steps, and what was found out about them.

use super::LoadError;
use super::check::{self, Findings, Reads};
use super::cut::Cut;
use super::format::{Header, Section};
use super::hash::PlanHash;
use super::manifest::Manifest;
use super::record::Record;
use super::step::{Part, Step};
use crate::kernels::{Kernels, PackingError};

/// What a plan computes, whatever it reads: manifest and steps, checked, and read in place from the front of the file.
#[derive(Clone, Copy)]
pub struct Graph<'a> {
    header: Header,
    /// Header and checksums.
    front: &'a [u8],
    manifest: Manifest<'a>,
    records: &'a [Record],
    findings: Findings,
}

impl<'a> Graph<'a> {
    /// Reads the steps of a plan with that header and manifest, which reads `reads`, from bytes that were found to be what their
    /// checksums say.
    pub(super) fn of(
        header: &Header,
        head: &'a [u8],
        manifest: Manifest<'a>,
        reads: Reads,
    ) -> Result<Self, LoadError> {
        let records = bytemuck::try_cast_slice(header.section(head, Section::Steps));
        let records = records.map_err(|_| LoadError::Steps)?;
        let constant_bytes = header.place(Section::Constants).1;
        let parts = check::Parts { manifest: &manifest, records, reads, constant_bytes };
        let findings = check::check(parts, isize::MAX as u64)?;
        Ok(Self { header: *header, front: header.front(head)?, manifest, records, findings })
    }

    /// What the walk over the steps has shown.
    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The steps as they stand in the file.
    pub(super) fn records(&self) -> &'a [Record] {
        self.records
    }

    /// What the plan says of itself.
    pub fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
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

    /// Whether the pooled output is a projection: in zero-shot models, into the space that texts share with images.
    pub fn is_projected(&self) -> bool {
        let pooled = self.manifest.pooled;
        let last = self.steps().rev().find(|step| pooled == Some(step.out));
        last.is_some_and(|step| step.role.part == Part::Projection)
    }

    /// Columns of the hidden states, of all towers together.
    pub fn width(&self) -> usize {
        self.manifest.hidden.columns as usize
    }

    /// Bytes of arena that encoding `sequences` prompts at once needs, each in the whole context, or so many images.
    pub fn arena_bytes(&self, sequences: usize) -> usize {
        self.pass_bytes(sequences, sequences.saturating_mul(self.manifest.context.into()))
    }

    /// Bytes of arena that a pass over `sequences` inputs needs which have `rows` rows together: a row for each token, of a
    /// padded input for each of the context. Rows take room by whole contexts: so many short texts as fill one take little
    /// more than one prompt.
    ///
    /// Plans of earlier compilers that keep rows of sequences among those of tokens take a context for each input.
    pub fn pass_bytes(&self, sequences: usize, rows: usize) -> usize {
        self.findings.cut.bytes(self.findings.cut.room(sequences, rows))
    }

    /// The frame of its file, and the front of it, which has the checksums.
    pub(crate) fn header(&self) -> (Header, &'a [u8]) {
        (self.header, self.front)
    }

    /// How the arena is cut.
    pub(crate) fn cut(&self) -> Cut {
        self.findings.cut
    }

    /// Which plan it is, the same as of the [front](PlanHash::of_front) of its file. Some kilobytes are hashed at each call, none by
    /// loading.
    pub fn hash(&self) -> PlanHash {
        PlanHash::of_checked(self.front)
    }

    /// Bytes of the whole plan.
    pub fn file_bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// Bytes of all steps' constants: weights, embeddings, norms.
    pub fn constant_bytes(&self) -> u64 {
        self.header.place(Section::Constants).1
    }

    /// The fastest kernels of this CPU that read the plan's weights.
    ///
    /// # Errors
    /// [`PackingError`] says what the plan's weights are packed for, where that is another kind of CPU.
    pub fn kernels(&self) -> Result<Kernels, PackingError> {
        Kernels::fastest(self.manifest.packing)
    }
}

impl core::fmt::Debug for Graph<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Graph")
            .field("manifest", &self.manifest)
            .field("steps", &self.records.len())
            .field("file_bytes", &self.file_bytes())
            .finish_non_exhaustive()
    }
}
