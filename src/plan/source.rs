//! Where a plan's constants come from.

use core::convert::Infallible;

use super::step::Extent;

/// Gives the steps their constants: weights, norms, rows of embedding tables.
///
/// A pass asks for them in the order of the steps, which is that of the file: of embedding tables single rows, in the order of
/// the tokens, of linears their panels, of other steps all at once. So they need not all be in memory:
/// [`Stream`](crate::stream::Stream) reads them from a file or a device.
pub trait Source {
    /// Why constants can't be had.
    type Error;

    /// The bytes at each of `extents`, which lie in the constants section.
    ///
    /// Each slice is as long as its extent, and starts in memory at a multiple of 64 where the extent does, else at a
    /// multiple of 4 where the extent does, or of 2. An encoder panics on others.
    ///
    /// # Errors
    /// The source's own; the pass ends with it.
    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], Self::Error>;

    /// Gives `work` the panels of `panel` bytes at `extent`, in their order and each once: the number of the first, and as many as
    /// are at hand, aligned as [`get`](Self::get) says. By itself it gives all at once.
    ///
    /// # Errors
    /// The source's own; the pass ends with it.
    fn panels(
        &mut self,
        extent: Extent,
        panel: usize,
        mut work: impl FnMut(usize, &[u8]),
    ) -> Result<(), Self::Error> {
        let _ = panel;
        let [all] = self.get([extent])?;
        work(0, all);
        Ok(())
    }
}

/// Constants that are in memory: linked into the program, read, or mapped.
#[derive(Clone, Copy, Debug)]
pub struct Resident<'a>(&'a [u8]);

impl<'a> Resident<'a> {
    pub(super) fn new(constants: &'a [u8]) -> Self {
        Self(constants)
    }

    /// All constants, one step's behind the other's.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl Source for Resident<'_> {
    type Error = Infallible;

    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], Infallible> {
        // They lie in the section, as `Plan::load` found, so their numbers fit an address.
        Ok(extents.map(|Extent { offset, bytes }| {
            self.0.get(offset as usize..(offset + bytes) as usize).unwrap_or(&[])
        }))
    }
}
