//! Reading a program: its sections, then the check of its steps.

use super::check::check;
use super::error::LoadError;
use super::format::{ALIGN, Header, Section};
use super::manifest::Manifest;
use super::program::Program;
use crate::tokenizer::{Padding, Tokenizer, Vocabulary};

impl<'a> Program<'a> {
    /// Reads the program at the front of a plan of which only the [head](Header::head_bytes) need be in memory. `head` starts
    /// at a multiple of 64; nothing is copied.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where.
    pub fn load(head: &'a [u8]) -> Result<Self, LoadError> {
        let header = read_header(head)?;
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
            manifest,
            records: records.map_err(|_| LoadError::Steps)?,
            tokenizer,
            vocabulary_bytes: vocabulary_section.len(),
            constant_bytes: header.place(Section::Constants).1,
            file_bytes: header.file_bytes(),
            token_rows: 0,
            cached_token: None,
            causal: true,
        };
        let findings = check(&program, isize::MAX as u64)?;
        program.token_rows = findings.token_rows;
        program.cached_token = findings.cached_token;
        program.causal = findings.causal;
        program.tokenizer =
            Tokenizer::new(vocabulary, context, findings.padding).map_err(LoadError::Tokenizer)?;
        Ok(program)
    }
}

/// The header at the front of a plan, which must start at a multiple of 64.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, LoadError> {
    if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
        return Err(LoadError::Misaligned);
    }
    Header::read(bytes)
}
