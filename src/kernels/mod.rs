//! The arithmetic, once per instruction set.
//!
//! [`Kernels`] is a table of functions compiled for one instruction set. It can only be had for instructions that the
//! CPU has, so holding one is the proof that its functions may run. All tables give the same bits: integer sums are
//! exact, and the f32 operations of `ops` have one fixed order.
//!
//! | name | instructions | written for |
//! |---|---|---|
//! | `scalar` | none | the reference; every CPU |
//! | `avx2` | AVX2, FMA, F16C | x86-64 workstations |
//! | `avx512vnni` | AVX-512, VNNI | x86-64 workstations and servers |
//! | `neon` | NEON | Cortex-A53, A57, A72 |
//! | `dotprod` | NEON with SDOT | Cortex-A55, A75, A76, A78 |
//! | `i8mm` | NEON with SMMLA | Cortex-A710, A720, Neoverse V1, N2 |
//!
//! # Bare metal
//!
//! Without an operating system (no feature `std`) nobody says what an aarch64 core can do: its identification registers can be
//! read at EL1 and above only, and this crate does not presume where it runs. [`Kernels::available`] then has `neon` and `scalar`, and
//! those whose instructions the build was told of (`-C target-cpu=cortex-a76`). Others are chosen by hand: [`Kernels::assume`]. On x86-64
//! CPUID tells.
//!
//! All but `scalar` use vector registers, and `scalar` those of the FPU. So before the first call:
//!
//! - floating point and NEON are switched on at the level that the encoder runs at: CPACR_EL1.FPEN = 0b11, and nothing traps
//!   them above (CPTR_EL2, CPTR_EL3);
//! - the arena and the plan lie in normal memory (the MMU is on), and SCTLR.A is 0: vectors are loaded from
//!   multiples of 4 bytes;
//! - an interrupt handler that uses vector registers saves them.
//!
//! The floating-point mode need not be set: each pass has its own, and puts the caller's back.

// Loops over rows, chains and lanes index several arrays at once; closures and adaptors would leave the instruction set.
#![allow(clippy::needless_range_loop)]

pub(crate) mod crc32c;
pub(crate) mod dispatch;
pub(crate) mod float_mode;
pub mod layout;
pub(crate) mod ops;
mod peak;
mod scalar;
pub mod set;
pub(crate) mod shared;
pub(crate) mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod by_vector;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;

mod cpu;

use core::fmt;
use core::ops::Range;

pub(crate) use ops::attention::Heads;
pub use ops::attention::Mask;
pub use ops::math::Activation;

use layout::Packing;
use ops::attention::{Attention, Exercise};
use ops::embed::{PositionRow, TokenRow};
use ops::linear::{Accumulators, LinearF32, LinearInt8, Task, TileInput};
use ops::norm::Norm;
use ops::quantize::QuantParams;
use simd::Block;

/// The most rows of a sequence: CLIP's image towers have up to 577, and how many there are decides the size of the arena, not of the
/// stack.
pub const MAX_TOKENS: usize = 1024;

/// One instruction set's functions. All are unsafe to call: the CPU must have the instructions, and the arguments
/// must keep the promises of the generic function behind each.
struct Table {
    name: &'static str,
    supported: fn() -> bool,
    /// The int8 layouts that it reads, the one made for it first, each with its product.
    products: &'static [Product],
    /// What activation codes are xor-ed with.
    flip: u8,
    embed_row: unsafe fn(TokenRow<'_>, PositionRow<'_>, &mut [f32]),
    norm_row: unsafe fn(&Norm<'_>, &[f32], &mut [f32]),
    norm_rows_to_codes: unsafe fn(&Norm<'_>, &[f32], &mut [u8], &mut [QuantParams]),
    quantize_rows: unsafe fn(&[f32], &mut [u8], &mut [QuantParams]),
    /// What is done to the codes of rows `2n` and `2n + 1`; done again it is undone.
    pair_rows: Option<PairRowsFn>,
    linear_f32: unsafe fn(&LinearF32<'_>, Task),
    attend: unsafe fn(&Attention<'_>, Range<usize>, usize, &mut [f32]),
    /// The inner loop of `attend` alone; returns its number of multiplications.
    exercise: unsafe fn(&Exercise, &mut Block) -> usize,
}

/// Rearranges the codes of two rows.
type PairRowsFn = unsafe fn(&mut [u8], &mut [u8]);

/// The product of int8 codes with weights in one layout.
struct Product {
    packing: Packing,
    /// Rows of a full tile.
    rows: usize,
    /// Panels of a full tile.
    panels: usize,
    /// A linear step, for a part of its panels and rows.
    linear: unsafe fn(&LinearInt8<'_>, Task),
    /// A full tile alone.
    tile: unsafe fn(&TileInput, &mut Accumulators),
}

/// Compiles a function for an instruction set.
macro_rules! compiled {
    ([] $function:item) => {
        $function
    };
    ([$features:literal] $function:item) => {
        #[target_feature(enable = $features)]
        $function
    };
}

/// Compiles the generic operations for one instruction set, with a tile for each packing that it reads, the one made
/// for it first.
macro_rules! table {
    ($table:ident, $name:literal, $simd:expr, $supported:expr, $features:tt, $pair_rows:expr,
     [$($packing:ident => $tile:ty = $value:expr),*]) => {
        static $table: Table = {
            use ops::linear::Int8Tile;
            // The codes do not know which of the tiles will read them.
            const FLIPS: &[u8] = &[$(<$tile>::FLIP),*];
            const FLIP: u8 = FLIPS[0];
            $(const { assert!(<$tile>::FLIP == FLIP) };)*
            // The functions below are reached through a `Kernels`, which exists only where `supported` said yes.
            compiled!($features
                unsafe fn embed_row(token: TokenRow<'_>, position: PositionRow<'_>, out: &mut [f32]) {
                    ops::embed::embed_row($simd, token, position, out)
                }
            );
            compiled!($features
                unsafe fn norm_row(norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
                    ops::norm::norm_row($simd, norm, row, out)
                }
            );
            compiled!($features
                unsafe fn norm_rows_to_codes(
                    norm: &Norm<'_>,
                    rows: &[f32],
                    codes: &mut [u8],
                    params: &mut [QuantParams],
                ) {
                    ops::norm::norm_rows_to_codes($simd, norm, rows, FLIP, codes, params)
                }
            );
            compiled!($features
                unsafe fn quantize_rows(rows: &[f32], codes: &mut [u8], params: &mut [QuantParams]) {
                    ops::quantize::quantize_rows($simd, rows, FLIP, codes, params)
                }
            );
            compiled!($features
                unsafe fn linear_f32(step: &LinearF32<'_>, task: Task) {
                    // SAFETY: the caller's promise.
                    unsafe { ops::linear::linear_f32($simd, step, task) }
                }
            );
            compiled!($features
                unsafe fn attend(step: &Attention<'_>, rows: Range<usize>, head: usize, keys: &mut [f32]) {
                    // SAFETY: the caller's promise.
                    unsafe { ops::attention::attend($simd, step, rows, head, keys) }
                }
            );
            compiled!($features
                unsafe fn exercise(exercise: &Exercise, out: &mut Block) -> usize {
                    ops::attention::exercise($simd, exercise, out)
                }
            );
            Table {
                name: $name,
                supported: $supported,
                flip: FLIP,
                embed_row,
                norm_row,
                norm_rows_to_codes,
                quantize_rows,
                pair_rows: $pair_rows,
                products: &[$({
                    compiled!($features
                        unsafe fn linear(step: &LinearInt8<'_>, task: Task) {
                            // SAFETY: the caller's promise.
                            unsafe { ops::linear::linear_int8($simd, $value, step, task) }
                        }
                    );
                    compiled!($features
                        unsafe fn tile(input: &TileInput, out: &mut Accumulators) {
                            // SAFETY: the caller's promise.
                            unsafe { $value.tile::<{ <$tile>::ROWS }, { <$tile>::PANELS }>(input, out) }
                        }
                    );
                    let (rows, panels) = (<$tile>::ROWS, <$tile>::PANELS);
                    Product { packing: Packing::$packing, rows, panels, linear, tile }
                }),*],
                linear_f32,
                attend,
                exercise,
            }
        };
    };
}

table!(
    SCALAR,
    "scalar",
    scalar::Scalar,
    || true,
    [],
    None,
    [
        Int8x4 => scalar::Scalar = scalar::Scalar,
        Int8x8 => scalar::Scalar = scalar::Scalar,
        Int8x16 => scalar::Scalar = scalar::Scalar
    ]
);
#[cfg(target_arch = "x86_64")]
table!(
    AVX2,
    "avx2",
    avx2::Avx2(()),
    cpu::has_avx2,
    ["avx2,fma,f16c"],
    None,
    [Int8x4 => avx2::Avx2 = avx2::Avx2(())]
);
#[cfg(target_arch = "x86_64")]
table!(
    AVX512VNNI,
    "avx512vnni",
    avx512vnni::Avx512Vnni(()),
    cpu::has_avx512vnni,
    ["avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"],
    None,
    [Int8x4 => avx512vnni::Avx512Vnni = avx512vnni::Avx512Vnni(())]
);
#[cfg(target_arch = "aarch64")]
table!(
    NEON,
    "neon",
    neon::Neon,
    || true,
    [],
    None,
    [Int8x16 => neon::By16 = neon::By16, Int8x4 => neon::By4 = neon::By4]
);
#[cfg(target_arch = "aarch64")]
table!(
    DOTPROD,
    "dotprod",
    neon::Neon,
    cpu::has_dotprod,
    ["dotprod"],
    None,
    [
        Int8x4 => dotprod::By4 = dotprod::By4(()),
        Int8x16 => dotprod::By16 = dotprod::By16(()),
        Int8x8 => dotprod::By8 = dotprod::By8(())
    ]
);
#[cfg(target_arch = "aarch64")]
table!(
    I8MM,
    "i8mm",
    neon::Neon,
    cpu::has_i8mm,
    ["i8mm"],
    Some(i8mm::pair_rows),
    [Int8x8 => i8mm::By8 = i8mm::By8(())]
);

/// Every table of this build, the fastest first.
static TABLES: &[&Table] = &[
    #[cfg(target_arch = "x86_64")]
    &AVX512VNNI,
    #[cfg(target_arch = "x86_64")]
    &AVX2,
    #[cfg(target_arch = "aarch64")]
    &I8MM,
    #[cfg(target_arch = "aarch64")]
    &DOTPROD,
    #[cfg(target_arch = "aarch64")]
    &NEON,
    &SCALAR,
];

/// One instruction set's kernels, on a CPU that has the instructions.
#[derive(Clone, Copy)]
pub struct Kernels(&'static Table);

impl Kernels {
    /// The kernels that this CPU can run, the fastest first; the last is `scalar`.
    pub fn available() -> impl Iterator<Item = Kernels> {
        TABLES.iter().filter(|table| (table.supported)()).map(|table| Kernels(table))
    }

    /// The fastest kernels for weights in `packing`.
    ///
    /// # Errors
    /// [`PackingError`] where only `scalar` reads it and the CPU can do better with another packing.
    pub fn fastest(packing: Packing) -> Result<Kernels, PackingError> {
        let best = Self::available().next().unwrap_or(Kernels(&SCALAR));
        let kernels = Self::available().find(|kernels| kernels.reads(packing));
        match kernels.filter(|kernels| kernels.0.name != SCALAR.name || *kernels == best) {
            Some(kernels) => Ok(kernels),
            None => Err(best.refuses(packing)),
        }
    }

    /// Why these kernels can't be used for `packing`.
    pub(crate) fn refuses(self, packing: Packing) -> PackingError {
        PackingError { packing, kernel: self.name(), wants: self.0.products[0].packing }
    }

    /// The kernels called `name`.
    ///
    /// # Errors
    /// [`KernelError`] where this build has no such kernels or the CPU lacks their instructions.
    pub fn named(name: &str) -> Result<Kernels, KernelError> {
        let table = TABLES.iter().find(|table| table.name == name).ok_or(KernelError::Unknown)?;
        if (table.supported)() { Ok(Kernels(table)) } else { Err(KernelError::Unsupported) }
    }

    /// The kernels called `name`, whether the CPU is known to have their instructions or not: for bare metal, where nobody can be
    /// asked (see [this module](self)).
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

    /// Their name, as in the table of [this module](self).
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The product of int8 codes with weights in `packing`.
    fn product(self, packing: Packing) -> Option<&'static Product> {
        self.0.products.iter().find(|product| product.packing == packing)
    }

    /// The form in which they keep activation codes: what each is xor-ed with, and whether two rows' are paired.
    fn code_form(self) -> (u8, bool) {
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

/// Why kernels can't be had by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No kernels of that name are in this build.
    Unknown,
    /// The CPU lacks their instructions.
    Unsupported,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelError::Unknown => "this build has no kernel of that name",
            KernelError::Unsupported => "this CPU lacks the instructions of that kernel",
        })
    }
}

impl core::error::Error for KernelError {}

/// A plan's weights are packed for another kind of CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackingError {
    /// How the weights are packed.
    pub packing: Packing,
    /// The kernels that do not read them: those asked for, else the CPU's fastest.
    pub kernel: &'static str,
    /// The packing made for these kernels.
    pub wants: Packing,
}

impl fmt::Display for PackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packing, kernel, wants } = self;
        write!(
            f,
            "the weights are packed as {packing}, which kernel {kernel} does not read: it wants them as {wants}"
        )
    }
}

impl core::error::Error for PackingError {}

#[cfg(test)]
mod tests;
