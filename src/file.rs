//! Plan files on an operating system: mapped, not read.

use std::fs::File;
use std::io;
use std::path::Path;

/// A plan file in memory, by way of the page cache: nothing is copied, and processes share it.
///
/// The file must not be changed or cut short while it is mapped: that would change the plan under its user, or end
/// the program with a bus error.
#[derive(Debug)]
pub struct PlanFile(memmap2::Mmap);

impl PlanFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// What the operating system says where the file can't be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read only; that nobody changes the file meanwhile is the caller's promise, as every
        // program that maps files must make.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(map))
    }

    /// The file's bytes; they start at a page.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
