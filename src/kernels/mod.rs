//! The arithmetic, once per instruction set.
//!
//! [`Kernels`] is a table of functions compiled for one instruction set. It can only be had for instructions that the
//! CPU has, so holding one is the proof that its functions may run. All tables give the same bits: integer sums are
//! exact, and the f32 operations of [`ops`] have one fixed order.
//!
//! | name | instructions | written for |
//! |---|---|---|
//! | `scalar` | none | the reference; every CPU |
//! | `avx2` | AVX2, FMA, F16C | x86-64 workstations |
//! | `avx512vnni` | AVX-512, VNNI | x86-64 workstations and servers |
//! | `neon` | NEON | Cortex-A53, A57, A72 |
//! | `dotprod` | NEON with SDOT | Cortex-A55, A75, A76, A78 |

pub(crate) mod crc32c;
mod dispatch;
pub mod layout;
pub(crate) mod ops;
mod peak;
mod scalar;
pub(crate) mod shared;
pub(crate) mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod neon;

mod cpu;

use core::fmt;
use core::ops::Range;

pub(crate) use dispatch::{Codes, CodesMut, Sequences, attention_scratch};
pub use ops::math::Activation;

use layout::Packing;
use ops::attention::Attention;
use ops::embed::{PositionRow, TokenRow};
use ops::linear::{Accumulators, LinearF32, LinearInt8, Task, TileInput};
use ops::norm::Norm;

/// The most tokens of a sequence.
pub const MAX_TOKENS: usize = ops::attention::MAX_TOKENS;

/// One instruction set's functions. All are unsafe to call: the CPU must have the instructions, and the arguments
/// must keep the promises of the generic function behind each.
struct Table {
    name: &'static str,
    supported: fn() -> bool,
    /// The packed layouts that `linear_int8` reads.
    packings: &'static [Packing],
    /// What activation codes are xor-ed with.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests read codes back"))]
    flip: u8,
    /// Rows of a full tile, for benchmarks.
    rows: usize,
    /// Panels of a full tile.
    panels: usize,
    embed_row: unsafe fn(TokenRow<'_>, PositionRow<'_>, &mut [f32]),
    norm_row: unsafe fn(&Norm<'_>, &[f32], &mut [f32]),
    norm_row_to_codes: unsafe fn(&Norm<'_>, &[f32], &mut [u8]) -> f32,
    quantize_row: unsafe fn(&[f32], &mut [u8]) -> f32,
    linear_int8: unsafe fn(&LinearInt8<'_>, Task),
    linear_f32: unsafe fn(&LinearF32<'_>, Task),
    attend: unsafe fn(&Attention<'_>, Range<usize>, usize, &mut [f32]),
    /// A full tile of the int8 product.
    tile: unsafe fn(&TileInput, &mut Accumulators),
}

/// Compiles the generic operations for one instruction set.
macro_rules! table {
    ($table:ident, $name:literal, $simd:expr, $tile:ty = $tile_value:expr, $supported:expr, [$($packing:ident),*]
     $(, $features:literal)?) => {
        static $table: Table = {
            use ops::linear::Int8Tile;
            // The functions below are reached through a `Kernels`, which exists only where `supported` said yes.
            $(#[target_feature(enable = $features)])?
            unsafe fn embed_row(token: TokenRow<'_>, position: PositionRow<'_>, out: &mut [f32]) {
                ops::embed::embed_row($simd, token, position, out)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm_row(norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
                ops::norm::norm_row($simd, norm, row, out)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm_row_to_codes(norm: &Norm<'_>, row: &[f32], codes: &mut [u8]) -> f32 {
                ops::norm::norm_row_to_codes($simd, norm, row, <$tile>::FLIP, codes)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantize_row(row: &[f32], codes: &mut [u8]) -> f32 {
                ops::quantize::quantize_row($simd, row, <$tile>::FLIP, codes)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn linear_int8(step: &LinearInt8<'_>, task: Task) {
                // SAFETY: the caller's promise.
                unsafe { ops::linear::linear_int8($simd, $tile_value, step, task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn linear_f32(step: &LinearF32<'_>, task: Task) {
                // SAFETY: the caller's promise.
                unsafe { ops::linear::linear_f32($simd, step, task) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attend(step: &Attention<'_>, rows: Range<usize>, head: usize, keys: &mut [f32]) {
                // SAFETY: the caller's promise.
                unsafe { ops::attention::attend($simd, step, rows, head, keys) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn tile(input: &TileInput, out: &mut Accumulators) {
                // SAFETY: the caller's promise.
                unsafe { $tile_value.tile::<{ <$tile>::ROWS }, { <$tile>::PANELS }>(input, out) }
            }
            Table {
                name: $name,
                supported: $supported,
                packings: &[$(Packing::$packing),*],
                flip: <$tile>::FLIP,
                rows: <$tile>::ROWS,
                panels: <$tile>::PANELS,
                embed_row,
                norm_row,
                norm_row_to_codes,
                quantize_row,
                linear_int8,
                linear_f32,
                attend,
                tile,
            }
        };
    };
}

table!(SCALAR, "scalar", scalar::Scalar, scalar::Scalar = scalar::Scalar, || true, [Int8x4]);
#[cfg(target_arch = "x86_64")]
table!(AVX2, "avx2", avx2::Avx2(()), avx2::Avx2 = avx2::Avx2(()), cpu::has_avx2, [Int8x4], "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
table!(
    AVX512VNNI,
    "avx512vnni",
    avx512vnni::Avx512Vnni(()),
    avx512vnni::Avx512Vnni = avx512vnni::Avx512Vnni(()),
    cpu::has_avx512vnni,
    [Int8x4],
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
);
#[cfg(target_arch = "aarch64")]
table!(NEON, "neon", neon::Neon, neon::Neon = neon::Neon, || true, [Int8x4]);
#[cfg(target_arch = "aarch64")]
table!(
    DOTPROD,
    "dotprod",
    neon::Neon,
    dotprod::DotProd = dotprod::DotProd(()),
    cpu::has_dotprod,
    [Int8x4],
    "dotprod"
);

/// Every table of this build, the fastest first.
static TABLES: &[&Table] = &[
    #[cfg(target_arch = "x86_64")]
    &AVX512VNNI,
    #[cfg(target_arch = "x86_64")]
    &AVX2,
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
    pub fn fastest(packing: Packing) -> Kernels {
        Self::available().find(|kernels| kernels.reads(packing)).unwrap_or(Kernels(&SCALAR))
    }

    /// The kernels called `name`.
    ///
    /// # Errors
    /// [`KernelError`] where this build has no such kernels or the CPU lacks their instructions.
    pub fn named(name: &str) -> Result<Kernels, KernelError> {
        let table = TABLES.iter().find(|table| table.name == name).ok_or(KernelError::Unknown)?;
        if (table.supported)() { Ok(Kernels(table)) } else { Err(KernelError::Unsupported) }
    }

    /// The names of all kernels in this build, whether the CPU can run them or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLES.iter().map(|table| table.name)
    }

    /// Their name, as in the table of [this module](self).
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether they read weights in `packing`.
    pub fn reads(self, packing: Packing) -> bool {
        packing == Packing::F32 || self.0.packings.contains(&packing)
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

#[cfg(test)]
mod tests;
