//! The choice among this build's kernels: by packing, by name, or by what the CPU can run.

use core::fmt;

use super::error::{KernelError, PackingError};
use super::layout::Packing;
use super::table::{PORTABLE, Product, TABLES, Table};

/// One instruction set's kernels, on a CPU that has the instructions.
#[derive(Clone, Copy)]
pub struct Kernels(pub(super) &'static Table);

impl Kernels {
    /// The kernels that this CPU can run, the fastest first: none where this build has none that are known to run.
    ///
    /// Under Linux on x86-64 with AMX this asks the operating system for the tile registers, once in a process: see [`kernels`](super).
    pub fn available() -> impl Iterator<Item = Kernels> {
        TABLES.iter().filter(|table| (table.supported)().is_ok()).map(|table| Kernels(table))
    }

    /// The fastest kernels for weights in `packing`.
    ///
    /// # Errors
    /// [`PackingError`] where only `scalar` reads it and the CPU can do better with another packing, or nothing is
    /// [available](Self::available).
    pub fn fastest(packing: Packing) -> Result<Kernels, PackingError> {
        let Some(best) = Self::available().next() else {
            return Err(PackingError { packing, kernel: None, wants: packing });
        };
        let kernels = Self::available().find(|kernels| kernels.reads(packing));
        match kernels.filter(|kernels| kernels.0.name != PORTABLE || *kernels == best) {
            Some(kernels) => Ok(kernels),
            None => Err(best.refuses(packing)),
        }
    }

    /// Why these kernels can't be used for `packing`.
    pub(crate) fn refuses(self, packing: Packing) -> PackingError {
        let wanted = self.0.products.first().and_then(|product| product.packings.first());
        PackingError { packing, kernel: Some(self.name()), wants: wanted.copied().unwrap_or(packing) }
    }

    /// The kernels called `name`.
    ///
    /// # Errors
    /// [`KernelError`] where this build has no such kernels, the CPU lacks their instructions, or the operating system keeps their registers.
    pub fn named(name: &str) -> Result<Kernels, KernelError> {
        let table = TABLES.iter().find(|table| table.name == name).ok_or(KernelError::Unknown)?;
        (table.supported)().map(|()| Kernels(table))
    }

    /// The kernels called `name`, whether the CPU is known to have their instructions or not: for bare metal, where it can't be
    /// detected (see [`kernels`](super)).
    ///
    /// # Errors
    /// [`KernelError::Unknown`] where this build has no such kernels.
    ///
    /// # Safety
    /// Every core that runs the kernels has their instructions, switched on.
    pub unsafe fn assume(name: &str) -> Result<Kernels, KernelError> {
        let table = TABLES.iter().find(|table| table.name == name).ok_or(KernelError::Unknown)?;
        Ok(Kernels(table))
    }

    /// The names of all kernels in this build, whether the CPU can run them or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLES.iter().map(|table| table.name)
    }

    /// Their name, as in the table of [`kernels`](super).
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The product of int8 codes with weights in `packing`.
    pub(super) fn product(self, packing: Packing) -> Option<&'static Product> {
        self.0.products.iter().find(|product| product.packings.contains(&packing))
    }

    /// The form in which they keep activation codes: what each is xor-ed with, and whether two rows' are paired.
    pub(super) fn code_form(self) -> (u8, bool) {
        (self.0.flip, self.0.pair_rows.is_some())
    }

    /// Whether they read weights in `packing`.
    pub fn reads(self, packing: Packing) -> bool {
        packing == Packing::F32 || self.product(packing).is_some()
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Kernels {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kernels {}
