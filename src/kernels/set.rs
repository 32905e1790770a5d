//! Kernels for each worker of a team.

use core::fmt;

use super::choice::Kernels;
use super::error::PackingError;
use super::layout::Packing;

/// The kernels that each worker of a team runs: the same for all, or one's own for each class of cores.
///
/// All kernels give the same bits, whoever runs which part of a step. What they must agree on is the form in which they keep
/// activation codes, since one worker's codes are read by all.
#[derive(Clone, Copy, Debug)]
pub struct KernelSet<'k> {
    first: Kernels,
    /// By worker; empty where all run the first.
    each: &'k [Kernels],
}

impl<'k> KernelSet<'k> {
    /// Worker `w` runs `each[w]`; those beyond the end run `each[0]`. Which worker runs on which core is the team's business.
    ///
    /// # Errors
    /// [`MixError`] where there are none, or two of them keep activation codes in different forms.
    pub fn per_worker(each: &'k [Kernels]) -> Result<Self, MixError> {
        let &first = each.first().ok_or(MixError::Empty)?;
        match each.iter().find(|kernels| kernels.code_form() != first.code_form()) {
            None => Ok(Self { first, each }),
            Some(other) => Err(MixError::Codes { first: first.name(), other: other.name() }),
        }
    }

    /// Those of the first worker, and of all work that is not shared.
    pub fn first(self) -> Kernels {
        self.first
    }

    /// Those of `worker`.
    #[inline]
    pub(super) fn of(self, worker: usize) -> Kernels {
        self.each.get(worker).copied().unwrap_or(self.first)
    }

    /// Why the set can't be used for weights in `packing`: that of the first kernels which do not read it.
    ///
    /// # Errors
    /// [`PackingError`] names them.
    pub(crate) fn read(self, packing: Packing) -> Result<(), PackingError> {
        let all = core::iter::once(self.first).chain(self.each.iter().copied());
        match { all }.find(|kernels| !kernels.reads(packing)) {
            None => Ok(()),
            Some(kernels) => Err(kernels.refuses(packing)),
        }
    }
}

impl From<Kernels> for KernelSet<'_> {
    fn from(first: Kernels) -> Self {
        Self { first, each: &[] }
    }
}

/// Why kernels do not make a [`KernelSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MixError {
    /// There are none.
    Empty,
    /// Two keep activation codes in different forms, and could not read each other's.
    Codes {
        /// The first worker's kernels.
        first: &'static str,
        /// Those that keep codes otherwise.
        other: &'static str,
    },
}

impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MixError::Empty => f.write_str("a set of kernels needs one at least"),
            MixError::Codes { first, other } => {
                write!(
                    f,
                    "kernels {first} and {other} keep activation codes in different forms: they can't share a step"
                )
            }
        }
    }
}

impl core::error::Error for MixError {}
