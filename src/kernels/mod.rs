//! The arithmetic, once per instruction set.
//!
//! [`Kernels`] is a table of functions compiled for one instruction set. One can be made only where the CPU has the
//! instructions, so holding one proves that its functions may run. All tables compute the same bits: integer sums are exact,
//! and the f32 operations of `ops` have a fixed order.
//!
//! | name | instructions | written for |
//! |---|---|---|
//! | `scalar` | none | the reference; every CPU (on aarch64 with the feature `scalar`) |
//! | `avx2` | AVX2, FMA, F16C | x86-64 workstations |
//! | `avxvnni` | AVX-VNNI, AVX2, FMA, F16C | x86-64 clients from Alder Lake on, small servers |
//! | `amx` | AMX (TILE, INT8), AVX-512, VNNI | x86-64 servers and workstations from Sapphire Rapids on, under Linux |
//! | `avx512vnni` | AVX-512, VNNI | x86-64 workstations and servers |
//! | `neon` | NEON | Cortex-A53, A57, A72 |
//! | `dotprod` | NEON with SDOT | Cortex-A55, A75, A76, A78 |
//! | `i8mm` | NEON with SMMLA | Cortex-A710, A720, Neoverse V1, N2 |
//!
//! # AMX
//!
//! Linux gives tile registers to a process that asks for them; [`Kernels::available`] and [`Kernels::named`] ask, once. It refuses where a
//! thread has an alternate signal stack too small for them ([`KernelError::Refused`]; the next kernels are taken), and from then on
//! refuses threads alternate signal stacks that are too small: some 11 KB (`getauxval(AT_MINSIGSTKSZ)`). A program that makes such stacks takes
//! kernels by their names: [`Kernels::named`] asks for the tiles only where it is called with `amx`.
//!
//! # Bare metal
//!
//! Without an operating system (no feature `std`) an aarch64 core's instructions can't be detected: its identification registers
//! are readable only at EL1 and above, and this crate does not assume an exception level. [`Kernels::available`] then returns `neon`,
//! `scalar` and those whose instructions are enabled at compile time (`-C target-cpu=cortex-a76`). [`Kernels::assume`] selects others.
//! The features `neon`, `dotprod`, `i8mm` and `scalar` say which of them a build has: a board needs one.
//! On x86-64, CPUID is used.
//!
//! `scalar` uses the FPU's registers, all others vector registers. So before the first call:
//!
//! - floating point and NEON are switched on at the level that the encoder runs at: CPACR_EL1.FPEN = 0b11, and nothing traps
//!   them above (CPTR_EL2, CPTR_EL3);
//! - the arena and the plan lie in normal memory (the MMU is on), and SCTLR.A is 0: vectors are loaded from
//!   multiples of 4 bytes;
//! - an interrupt handler that uses vector registers saves them.
//!
//! The floating-point mode need not be set: each pass sets its own and restores the caller's.

// Loops over rows, chains and lanes index several arrays at once; closures and adaptors would leave the instruction set.
#![allow(clippy::needless_range_loop)]

#[cfg(all(
    target_arch = "aarch64",
    not(any(feature = "neon", feature = "dotprod", feature = "i8mm", feature = "scalar"))
))]
compile_error!(
    "a build for aarch64 needs kernels: the feature `neon`, `dotprod`, `i8mm` or `scalar` of cliptext"
);

mod blocks;
mod choice;
mod cpu;
pub(crate) mod crc32c;
pub(crate) mod dispatch;
mod error;
pub(crate) mod float_mode;
pub mod layout;
pub(crate) mod ops;
#[cfg(feature = "std")]
mod peak;
#[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
mod scalar;
pub mod set;
pub(crate) mod shared;
mod shares;
pub(crate) mod simd;
mod table;

#[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]
mod amx;
#[cfg(target_arch = "aarch64")]
mod anywhere;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
#[cfg(target_arch = "aarch64")]
#[cfg_attr(not(feature = "dotprod"), allow(unused_macros, unused_imports))]
mod by_vector;
#[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
mod dotprod;
#[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
mod i8mm;
// Its vectors are those of all three; its tiles are its own.
#[cfg(target_arch = "aarch64")]
#[cfg_attr(not(feature = "neon"), allow(dead_code))]
mod neon;

pub use choice::Kernels;
pub use error::{KernelError, PackingError};
pub(crate) use ops::attention::Heads;
pub use ops::attention::{MAX_TOKENS, Mask};
pub use ops::math::Activation;
pub(crate) use ops::tile::MAX_TILE_PANELS as TILE_PANELS;

#[cfg(test)]
mod tests;
