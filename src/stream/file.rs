//! Files on an operating system, read by a thread beside the computing ones.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::storage::Storage;
use crate::threads::Beside;

/// A file that a thread of its own reads while others compute.
pub struct FileStorage {
    file: File,
    reader: Beside,
}

impl FileStorage {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the operating system says where it can't.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self { file, reader: Beside::start("cliptext-reader")? })
    }
}

/// Reads at a place of a file.
fn read(mut file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(into)
}

impl Storage for FileStorage {
    type Error = io::Error;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        read(&self.file, offset, into)
    }

    fn read_while(
        &mut self,
        offset: u64,
        into: &mut [u8],
        check: &(dyn Fn(&[u8]) + Sync),
        work: impl FnOnce(),
    ) -> io::Result<()> {
        let file = &self.file;
        let mut result = Ok(());
        let job = || {
            result = read(file, offset, into);
            if result.is_ok() {
                check(into);
            }
        };
        self.reader.run(job, work);
        result
    }
}
