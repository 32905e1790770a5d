//! Why kernels can't be had.

use core::fmt;

use super::layout::Packing;

/// Why kernels can't be had by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No kernels of that name are in this build.
    Unknown,
    /// The CPU lacks their instructions.
    Unsupported,
    /// The CPU has their instructions, but the operating system does not grant this process the registers.
    Refused,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelError::Unknown => "this build has no kernel of that name",
            KernelError::Unsupported => "this CPU lacks the instructions of that kernel",
            KernelError::Refused => {
                "this CPU has the instructions of that kernel, but the operating system does not grant this process their registers"
            }
        })
    }
}

impl core::error::Error for KernelError {}

/// A plan's weights are packed for another kind of CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackingError {
    /// How the weights are packed.
    pub packing: Packing,
    /// The kernels that do not read them: those asked for, else the CPU's fastest; none where no kernels of the build are known to run.
    pub kernel: Option<&'static str>,
    /// The packing made for these kernels.
    pub wants: Packing,
}

impl fmt::Display for PackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packing, kernel, wants } = self;
        let Some(kernel) = kernel else {
            return f.write_str(
                "no kernel of this build is known to run on this CPU: name one that does, or build with the feature `neon`",
            );
        };
        write!(
            f,
            "the weights are packed as {packing}, which kernel {kernel} does not read: it wants them as {wants}: the plan \
             was compiled with {}, compile it with {}",
            packing.option(),
            wants.option()
        )
    }
}

impl core::error::Error for PackingError {}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn a_refused_packing_comes_with_what_to_compile_for() {
        let error = PackingError { packing: Packing::Int8x16, kernel: Some("avx2"), wants: Packing::Int8x4 };
        assert_eq!(
            error.to_string(),
            "the weights are packed as int8x16, which kernel avx2 does not read: it wants them as int8x4: the plan was \
             compiled with --target neon, compile it with --target generic"
        );
    }
}
