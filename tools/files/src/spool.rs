//! Bytes that have to wait for what stands before them.

use std::io::{Result, Seek, Write};

use tempfile::SpooledTempFile;

use crate::output::Output;

/// Bytes that wait in memory.
const IN_MEMORY: usize = 16 << 20;

/// Bytes that are written behind others that are not known yet: in memory up to 16 MiB, then in a file without a name, which
/// goes with this.
#[derive(Debug)]
pub struct Spool(SpooledTempFile);

impl Spool {
    /// An empty spool for `output`: its file lies in the folder of a regular output, else among the system's temporary files.
    pub fn before(output: &Output) -> Self {
        Self(match output.folder() {
            Some(folder) => tempfile::spooled_tempfile_in(IN_MEMORY, folder),
            None => tempfile::spooled_tempfile(IN_MEMORY),
        })
    }

    /// Whether the bytes have become too many for the memory.
    pub fn is_in_file(&self) -> bool {
        self.0.is_rolled()
    }

    /// Writes all bytes to `out`, and can be filled anew.
    ///
    /// # Errors
    /// When they can't be read or written.
    pub fn pour(&mut self, out: &mut impl Write) -> Result<()> {
        self.0.rewind()?;
        std::io::copy(&mut self.0, out)?;
        self.0.rewind()?;
        self.0.set_len(0)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_in_memory_and_then_in_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(&folder.path().join("file")).unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut spool = Spool::before(&output);
        let bytes: Vec<u8> = (0..IN_MEMORY + 1000).map(|at| (at % 251) as u8).collect();
        spool.write_all(&bytes[..IN_MEMORY]).unwrap();
        assert!(!spool.is_in_file());
        spool.write_all(&bytes[IN_MEMORY..]).unwrap();
        assert!(spool.is_in_file() && names() == 1, "the output's own temporary file");
        let mut poured = Vec::new();
        spool.pour(&mut poured).unwrap();
        assert!(poured == bytes);
        spool.write_all(b"anew").unwrap();
        let mut poured = Vec::new();
        spool.pour(&mut poured).unwrap();
        assert_eq!(poured, b"anew");
    }
}
