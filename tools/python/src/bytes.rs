//! A file's bytes in memory: mapped, read, or a copy.

use std::io;
use std::path::Path;

use cliptext::{AlignedBytes, PlanFile};
use pyo3::prelude::*;

use crate::error::file_error;

/// Bytes from a multiple of 64 on.
pub(crate) enum Bytes {
    File(PlanFile),
    Copy(AlignedBytes),
}

impl Bytes {
    /// Those of the file at `path`. Pipes and devices, which can't be mapped, are read.
    pub(crate) fn open(path: &Path, read: bool) -> PyResult<Self> {
        match open(path, read) {
            Ok(file) => Ok(Bytes::File(file)),
            Err(error) => Err(file_error(path, &error)),
        }
    }

    /// A copy of `data`.
    pub(crate) fn copy(data: &[u8]) -> Self {
        Bytes::Copy(AlignedBytes::copy_of(data))
    }

    pub(crate) fn get(&self) -> &[u8] {
        match self {
            Bytes::File(file) => file.bytes(),
            Bytes::Copy(bytes) => bytes,
        }
    }
}

fn open(path: &Path, read: bool) -> io::Result<PlanFile> {
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(IS_A_DIRECTORY));
    }
    if read || !kind.is_file() {
        return PlanFile::read(path);
    }
    // SAFETY: the caller is told, where `read` is described, to leave a mapped file alone.
    #[allow(unsafe_code)]
    unsafe {
        PlanFile::map(path)
    }
}

/// `EISDIR`, the same number on every Unix: reading a folder ends with it, mapping one with something less clear.
const IS_A_DIRECTORY: i32 = 21;
