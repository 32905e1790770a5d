//! The kinds of CPU that a plan can be compiled for.
//!
//! The plan's numbers are the same for all; what differs is the order of the weights, so that the fastest kernel reads
//! them from front to back.

use std::fmt;
use std::str::FromStr;

use cliptext::kernels::layout::Packing;

/// A kind of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// CPUs with dot products of four bytes: x86-64 and most ARM cores since 2018.
    #[default]
    Generic,
    /// ARM cores without dot products.
    Neon,
    /// ARM cores with matrix products.
    I8mm,
}

impl Target {
    /// Every target.
    pub const ALL: [Target; 3] = [Target::Generic, Target::Neon, Target::I8mm];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Generic => "generic",
            Target::Neon => "neon",
            Target::I8mm => "i8mm",
        }
    }

    /// Cores and boards of this kind, for the command line's help.
    pub const fn help(self) -> &'static str {
        match self {
            Target::Generic => {
                "x86-64; Cortex-A55, A75, A76, A78: Raspberry Pi 5, RK3566, RK3588, Jetson Orin (dot products)"
            }
            Target::Neon => {
                "Cortex-A53, A57, A72: Raspberry Pi Zero 2, 3 and 4, Jetson Nano (no dot products); any ARM reads it"
            }
            Target::I8mm => "Cortex-A510, A710, A715, A720, Neoverse V1, N2 (int8 matrix products)",
        }
    }

    /// How weights are packed for it.
    pub const fn packing(self) -> Packing {
        match self {
            Target::Generic => Packing::Int8x4,
            Target::Neon => Packing::Int8x16,
            Target::I8mm => Packing::Int8x8,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is no target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTarget(String);

impl fmt::Display for UnknownTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Target::ALL.map(Target::name);
        write!(f, "{:?} is no target: there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownTarget {}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, UnknownTarget> {
        Target::ALL
            .into_iter()
            .find(|target| target.name() == name)
            .ok_or_else(|| UnknownTarget(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_the_name_and_the_packing_that_the_board_s_program_tells() {
        let told = [("generic", Packing::Int8x4), ("neon", Packing::Int8x16), ("i8mm", Packing::Int8x8)];
        assert_eq!(Target::ALL.map(|target| (target.name(), target.packing())), told);
        for target in Target::ALL {
            assert_eq!(target.name().parse(), Ok(target));
        }
        let error = "pi".parse::<Target>().unwrap_err().to_string();
        assert_eq!(error, "\"pi\" is no target: there are generic, neon, i8mm");
    }
}
