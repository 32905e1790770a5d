//! Plan files on an operating system: read, or mapped.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::memory::AlignedBytes;
use crate::plan::{LoadError, Plan};

/// A plan file in memory; or a [prompt pack](crate::pack)'s, for [`Pack::load`](crate::Pack::load) of its [`bytes`](Self::bytes).
#[derive(Debug)]
pub struct PlanFile(Bytes);

#[derive(Debug)]
enum Bytes {
    Read(AlignedBytes),
    Mapped(memmap2::Mmap),
}

impl PlanFile {
    /// Reads the file at `path`, which may be a pipe: takes as much memory as it has bytes, and needs the file no more.
    ///
    /// # Errors
    /// What the operating system says where the file can't be opened or read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let expected = file.metadata()?.len().try_into().unwrap_or(0);
        Ok(Self(Bytes::Read(AlignedBytes::read(file, expected)?)))
    }

    /// Maps the file at `path`: nothing is copied, processes share it by way of the page cache, and the system may drop its
    /// pages where memory is short.
    ///
    /// # Errors
    /// What the operating system says where the file can't be opened or mapped.
    ///
    /// # Safety
    /// Until the value is dropped, nobody changes the file or cuts it short: not this program, no other, and no other machine
    /// that shares the file system. [`Plan::load`] checks the bytes once and its plan relies on them: changed ones are
    /// undefined behaviour. (A file that is replaced by renaming another one to its name is left alone.)
    ///
    /// Where the storage fails to give a page later, or the file was cut short, the system ends the program with a bus error
    /// (SIGBUS). Where that must not be, as on a card that may be pulled out, use [`read`](Self::read).
    #[allow(unsafe_code)]
    pub unsafe fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read only; that nobody changes the file is the caller's promise.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Bytes::Mapped(map)))
    }

    /// The file's bytes; they start at a multiple of 64.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Read(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn plan(&self) -> Result<Plan<'_>, LoadError> {
        Plan::load(self.bytes())
    }
}
