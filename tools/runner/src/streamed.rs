//! Plans that are read while they are used, and never in memory as a whole.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use cliptext::plan::format::{HEADER, Header};
use cliptext::stream::{BLOCKS, FileStorage, Stream};
use cliptext::{AlignedBytes, LoadError, Pack, Program};

use crate::failure::{Failure, Outcome, work};

/// A plan's file and the part of it that must be in memory.
pub(crate) struct Streamed {
    name: String,
    file: File,
    head: AlignedBytes,
}

impl Streamed {
    /// Opens the plan at `path` and reads its head.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let name = path.display().to_string();
        let failed = |error| work(&name, error);
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Failure::Usage(format!(
                "--stream: {name} is no file, which can be read at any place: leave out --stream"
            )));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut front = Vec::with_capacity(HEADER);
        file.by_ref().take(HEADER as u64).read_to_end(&mut front).map_err(failed)?;
        if Pack::is_one(&front) {
            return Err(Failure::Usage(format!(
                "--stream: {name} is a prompt pack, of what was encoded before: the option has no effect"
            )));
        }
        let header = Header::read(&front).map_err(|error| work(&name, error))?;
        if header.file_bytes() > file.metadata().map_err(failed)?.len() {
            return Err(work(&name, LoadError::Truncated));
        }
        // The file has so many bytes.
        let length = header.head_bytes();
        file.rewind().map_err(failed)?;
        let head = AlignedBytes::read(file.by_ref().take(length), length as usize).map_err(failed)?;
        Ok(Self { name, file, head })
    }

    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The plan but for its constants, checked; blocks of those are as they are read.
    pub(crate) fn program(&self) -> Outcome<Program<'_>> {
        Program::load(&self.head).map_err(|error| work(&self.name, error))
    }

    /// Memory that its constants pass through.
    pub(crate) fn buffer(&self, program: &Program<'_>) -> Outcome<AlignedBytes> {
        let bytes =
            Stream::<FileStorage>::buffer_bytes(program, BLOCKS).map_err(|error| work(&self.name, error))?;
        Ok(AlignedBytes::zeroed(bytes))
    }

    /// Its constants, read by a thread of their own.
    pub(crate) fn constants<'b>(
        &self,
        program: &Program<'b>,
        buffer: &'b mut [u8],
    ) -> Outcome<Stream<'b, FileStorage>> {
        let file =
            self.file.try_clone().and_then(FileStorage::new).map_err(|error| work(&self.name, error))?;
        Stream::new(program, file, buffer).map_err(|error| work(&self.name, error))
    }
}
