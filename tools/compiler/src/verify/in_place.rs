//! A plan's bytes where plans are read: from a multiple of 64 on.

use cliptext::plan::format::ALIGN;
use cliptext::{LoadError, Plan};

/// A copy of a plan that can be loaded.
#[derive(Debug)]
pub struct InPlace {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl InPlace {
    /// Copies `bytes` to where they can be read.
    pub fn copy(bytes: &[u8]) -> Self {
        let mut memory = vec![0; bytes.len() + ALIGN - 1];
        let (start, len) = (memory.as_ptr().align_offset(ALIGN), bytes.len());
        memory[start..start + len].copy_from_slice(bytes);
        InPlace { memory, start, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The plan.
    ///
    /// # Errors
    /// When they are none.
    pub fn plan(&self) -> Result<Plan<'_>, LoadError> {
        Plan::load(self.bytes())
    }
}
