//! Where the plan's weights are: one type for both, so that the image has the encoder once.

use core::fmt;

use cliptext::Source;
use cliptext::plan::{Extent, Resident};
use cliptext::stream::{Storage, Stream, StreamError};

use crate::disk::Disk;

/// Weights in memory, or on a disk.
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub(crate) enum Constants {
    Memory(Resident<'static>),
    Disk(Stream<'static, Disk>),
}

/// The disk failed.
#[derive(Debug)]
pub(crate) struct DiskError(StreamError<<Disk as Storage>::Error>);

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Source for Constants {
    type Error = DiskError;

    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], DiskError> {
        match self {
            Self::Memory(resident) => {
                let Ok(found) = resident.get(extents);
                Ok(found)
            }
            Self::Disk(stream) => stream.get(extents).map_err(DiskError),
        }
    }

    fn panels(
        &mut self,
        extent: Extent,
        panel: usize,
        work: impl FnMut(usize, &[u8]),
    ) -> Result<(), DiskError> {
        match self {
            Self::Memory(resident) => {
                let Ok(()) = resident.panels(extent, panel, work);
                Ok(())
            }
            Self::Disk(stream) => stream.panels(extent, panel, work).map_err(DiskError),
        }
    }
}
