//! The plan file: what the compiler writes and the runtime reads in place.
//!
//! A plan is a [`Program`] (what to compute: manifest, steps, tokenizer) and its constants (weights, embedding tables), which
//! a [`Source`] gives. An [`ImagePlan`] is the same for images. [`Plan::load`] checks everything once; [`Plan`] is then a view over the bytes whose accessors cannot
//! fail. Steps are records of fixed size, read where they stand: the program takes no memory besides the file.
//!
//! `docs/plan-format.md` is the specification.

mod check;
mod cut;
mod error;
pub mod format;
mod graph;
mod hash;
mod image;
mod manifest;
mod place;
mod program;
mod record;
mod source;
mod step;

pub use check::MAX_SEQUENCES;
pub(crate) use cut::{Cut, Room};
pub use error::{LoadError, StepFault};
pub use graph::Graph;
pub use hash::{PlanHash, PlanHashError};
pub use image::{ImageManifest, ImagePlan};
pub use manifest::{MANIFEST, Manifest, TEXT};
pub(crate) use place::QUANT_PARAMS_BYTES;
pub use place::{Axis, Format, Place};
pub use program::{Program, TowerInfo};
pub use record::{RECORD, RECORD_WORDS, Record};
pub use source::{Resident, Source};
pub use step::{CONSTANT_ARRAYS, Embed, EmbedPrecision, Extent, Grid, Mask, Op, Part, Role, Step};

use core::ops::Deref;

use format::{Header, Kind, Section};

/// A validated plan over borrowed bytes: a [`Program`], which it derefs to, and its constants in memory. Small, to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    program: Program<'a>,
    constants: Resident<'a>,
}

impl<'a> Plan<'a> {
    /// Reads the plan in `bytes`, which must start at a multiple of 64: nothing is copied. An image plan may follow it, which
    /// [`ImagePlan::load`] reads.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where. After `Ok`, encoding any text with the plan succeeds.
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let header = Header::read_in_place(Kind::Text, bytes)?;
        let (bytes, _) = header.split(bytes);
        header.verify_whole(bytes)?;
        let constants = Resident::new(header.section(bytes, Section::Constants));
        Ok(Self { program: Program::of(&header, bytes)?, constants })
    }

    /// The program, without the constants.
    pub fn program(&self) -> Program<'a> {
        self.program
    }

    /// The constants.
    pub fn constants(&self) -> Resident<'a> {
        self.constants
    }
}

impl<'a> Deref for Plan<'a> {
    type Target = Program<'a>;

    fn deref(&self) -> &Program<'a> {
        &self.program
    }
}
