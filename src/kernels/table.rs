//! One table of functions for each instruction set: the generic operations of `ops`, compiled with its instructions.

use core::ops::Range;

#[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]
use super::amx;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", any(feature = "dotprod", feature = "i8mm"))
))]
use super::cpu;
#[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
use super::dotprod;
use super::error::KernelError;
#[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
use super::i8mm;
use super::layout::Packing;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::ops;
use super::ops::attention::Attention;
#[cfg(feature = "std")]
use super::ops::attention::Exercise;
use super::ops::embed::{PositionRow, TokenRow};
use super::ops::linear::{Task, TaskSize};
use super::ops::linear_f32::LinearF32;
use super::ops::linear_int8::{Int8Product, LinearInt8};
use super::ops::norm::Norm;
use super::ops::quantize::QuantParams;
#[cfg(feature = "std")]
use super::ops::tile::{Accumulators, TileInput};
#[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
use super::scalar;
#[cfg(feature = "std")]
use super::simd::Block;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512vnni, avxvnni};

/// One instruction set's functions. All are unsafe to call: the CPU must have the instructions, and the arguments
/// must keep the promises of the generic function behind each.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Whether they run here, and if not, why.
    pub(super) supported: fn() -> Result<(), KernelError>,
    /// The int8 layouts that it reads, the one made for it first, each with its product.
    pub(super) products: &'static [Product],
    /// What activation codes are xor-ed with.
    pub(super) flip: u8,
    /// What is done to the codes of rows `2n` and `2n + 1`; done again it is undone.
    pub(super) pair_rows: Option<PairRowsFn>,
    /// Everything but products of int8 codes: the same for instruction sets that differ in these only.
    pub(super) vector: &'static Vector,
}

/// The functions that vectors do, for one kind of vectors.
pub(super) struct Vector {
    pub(super) embed_row: unsafe fn(TokenRow<'_>, PositionRow<'_>, &mut [f32]),
    pub(super) norm_row: unsafe fn(&Norm<'_>, &[f32], &mut [f32]),
    pub(super) norm_rows_to_codes: unsafe fn(&Norm<'_>, &[f32], u8, &mut [u8], &mut [QuantParams]),
    pub(super) quantize_rows: unsafe fn(&[f32], u8, &mut [u8], &mut [QuantParams]),
    pub(super) linear_f32: unsafe fn(&LinearF32<'_>, Task),
    pub(super) attend: unsafe fn(&Attention<'_>, Range<usize>, usize, &mut [f32]),
    /// The inner loop of `attend` alone; returns its number of multiplications.
    #[cfg(feature = "std")]
    pub(super) exercise: unsafe fn(&Exercise, &mut Block) -> usize,
}

/// Rearranges the codes of two rows.
pub(super) type PairRowsFn = unsafe fn(&mut [u8], &mut [u8]);

/// The product of int8 codes with weights in one layout, or in several where it looks up each weight's place.
pub(super) struct Product {
    pub(super) packings: &'static [Packing],
    /// Rows of a full tile.
    #[cfg(feature = "std")]
    pub(super) rows: usize,
    /// Panels of a full tile.
    #[cfg(feature = "std")]
    pub(super) panels: usize,
    /// How it is cut into tasks.
    pub(super) task: TaskSize,
    /// A linear step, for a part of its panels and rows.
    pub(super) linear: unsafe fn(&LinearInt8<'_>, Task),
    /// A full tile alone.
    #[cfg(feature = "std")]
    pub(super) tile: unsafe fn(&TileInput, &mut Accumulators),
}

/// What kernels say where the CPU has their instructions, or not.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", any(feature = "dotprod", feature = "i8mm"))))]
const fn needs(instructions: bool) -> Result<(), KernelError> {
    if instructions { Ok(()) } else { Err(KernelError::Unsupported) }
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

/// Compiles what vectors do for one kind of vectors.
macro_rules! vector {
    ($vector:ident, $simd:expr, $features:tt) => {
        static $vector: Vector = {
            // The functions below are reached through a `Kernels`, which exists only where its table's `supported` said yes.
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
                    flip: u8,
                    codes: &mut [u8],
                    params: &mut [QuantParams],
                ) {
                    ops::norm::norm_rows_to_codes($simd, norm, rows, flip, codes, params)
                }
            );
            compiled!($features
                unsafe fn quantize_rows(rows: &[f32], flip: u8, codes: &mut [u8], params: &mut [QuantParams]) {
                    ops::quantize::quantize_rows($simd, rows, flip, codes, params)
                }
            );
            compiled!($features
                unsafe fn linear_f32(step: &LinearF32<'_>, task: Task) {
                    // SAFETY: the caller's promise.
                    unsafe { ops::linear_f32::linear_f32($simd, step, task) }
                }
            );
            compiled!($features
                unsafe fn attend(step: &Attention<'_>, rows: Range<usize>, head: usize, keys: &mut [f32]) {
                    // SAFETY: the caller's promise.
                    unsafe { ops::attention::attend($simd, step, rows, head, keys) }
                }
            );
            #[cfg(feature = "std")]
            compiled!($features
                unsafe fn exercise(exercise: &Exercise, out: &mut Block) -> usize {
                    ops::attention::exercise($simd, exercise, out)
                }
            );
            Vector {
                embed_row,
                norm_row,
                norm_rows_to_codes,
                quantize_rows,
                linear_f32,
                attend,
                #[cfg(feature = "std")]
                exercise,
            }
        };
    };
}

/// Compiles the products of one instruction set, with one for each packing that it reads, the one made for it first.
macro_rules! table {
    ($table:ident, $name:literal, $simd:ty = $vectors:expr, $supported:expr, $features:tt, $vector:ident, $pair_rows:expr,
     [$($($packing:ident)|+ => $product:ty = $value:expr),*]) => {
        pub(super) static $table: Table = {
            const FLIPS: &[u8] = &[$(<$product as Int8Product<$simd>>::FLIP),*];
            // The codes do not know which of the products will read them.
            $(const { assert!(<$product as Int8Product<$simd>>::FLIP == FLIPS[0]) };)*
            Table {
                name: $name,
                supported: $supported,
                flip: FLIPS[0],
                vector: &$vector,
                pair_rows: $pair_rows,
                products: &[$({
                    compiled!($features
                        unsafe fn linear(step: &LinearInt8<'_>, task: Task) {
                            // SAFETY: the caller's promise.
                            unsafe { $value.linear($vectors, step, task) }
                        }
                    );
                    #[cfg(feature = "std")]
                    compiled!($features
                        unsafe fn tile(input: &TileInput, out: &mut Accumulators) {
                            // SAFETY: the caller's promise.
                            unsafe { Int8Product::<$simd>::full_tile($value, input, out) }
                        }
                    );
                    Product {
                        packings: &[$(Packing::$packing),+],
                        #[cfg(feature = "std")]
                        rows: <$product as Int8Product<$simd>>::ROWS,
                        #[cfg(feature = "std")]
                        panels: <$product as Int8Product<$simd>>::PANELS,
                        task: <$product as Int8Product<$simd>>::TASK,
                        linear,
                        #[cfg(feature = "std")]
                        tile,
                    }
                }),*],
            }
        };
    };
}

#[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
vector!(PORTABLE_VECTOR, scalar::Scalar, []);
#[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
table!(
    SCALAR,
    "scalar",
    scalar::Scalar = scalar::Scalar,
    || Ok(()),
    [],
    PORTABLE_VECTOR,
    None,
    [
        Int8x4 | Int8x8 | Int8x16 => scalar::Scalar = scalar::Scalar
    ]
);
#[cfg(target_arch = "x86_64")]
vector!(AVX2_VECTOR, avx2::Avx2(()), ["avx2,fma,f16c"]);
#[cfg(target_arch = "x86_64")]
table!(
    AVX2,
    "avx2",
    avx2::Avx2 = avx2::Avx2(()),
    || needs(cpu::has_avx2()),
    ["avx2,fma,f16c"],
    AVX2_VECTOR,
    None,
    [Int8x4 => avx2::Avx2 = avx2::Avx2(())]
);
#[cfg(target_arch = "x86_64")]
table!(
    AVXVNNI,
    "avxvnni",
    avx2::Avx2 = avx2::Avx2(()),
    || needs(cpu::has_avxvnni()),
    ["avx2,fma,f16c,avxvnni"],
    AVX2_VECTOR,
    None,
    [Int8x4 => avxvnni::AvxVnni = avxvnni::AvxVnni(())]
);
#[cfg(target_arch = "x86_64")]
vector!(
    AVX512_VECTOR,
    avx512vnni::Avx512Vnni(()),
    ["avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"]
);
#[cfg(target_arch = "x86_64")]
table!(
    AVX512VNNI,
    "avx512vnni",
    avx512vnni::Avx512Vnni = avx512vnni::Avx512Vnni(()),
    || needs(cpu::has_avx512vnni()),
    ["avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"],
    AVX512_VECTOR,
    None,
    [Int8x4 => avx512vnni::Avx512Vnni = avx512vnni::Avx512Vnni(())]
);
#[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]
table!(
    AMX,
    "amx",
    avx512vnni::Avx512Vnni = avx512vnni::Avx512Vnni(()),
    || needs(cpu::has_amx()).and_then(|()| cpu::tiles_granted()),
    ["avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"],
    AVX512_VECTOR,
    None,
    [Int8x4 => amx::Amx = amx::Amx(())]
);
#[cfg(target_arch = "aarch64")]
vector!(NEON_VECTOR, neon::Neon, []);
#[cfg(all(target_arch = "aarch64", feature = "neon"))]
table!(
    NEON,
    "neon",
    neon::Neon = neon::Neon,
    || Ok(()),
    [],
    NEON_VECTOR,
    None,
    [Int8x16 => neon::By16 = neon::By16, Int8x4 => neon::By4 = neon::By4]
);
#[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
table!(
    DOTPROD,
    "dotprod",
    neon::Neon = neon::Neon,
    || needs(cpu::has_dotprod()),
    ["dotprod"],
    NEON_VECTOR,
    None,
    [
        Int8x4 => dotprod::By4 = dotprod::By4(()),
        Int8x16 => dotprod::By16 = dotprod::By16(()),
        Int8x8 => dotprod::By8 = dotprod::By8(())
    ]
);
#[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
table!(
    I8MM,
    "i8mm",
    neon::Neon = neon::Neon,
    || needs(cpu::has_i8mm()),
    ["i8mm"],
    NEON_VECTOR,
    Some(i8mm::pair_rows),
    [Int8x8 => i8mm::By8 = i8mm::By8(())]
);

/// Every table of this build, the fastest first.
pub(super) static TABLES: &[&Table] = &[
    #[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]
    &AMX,
    #[cfg(target_arch = "x86_64")]
    &AVX512VNNI,
    #[cfg(target_arch = "x86_64")]
    &AVXVNNI,
    #[cfg(target_arch = "x86_64")]
    &AVX2,
    #[cfg(all(target_arch = "aarch64", feature = "i8mm"))]
    &I8MM,
    #[cfg(all(target_arch = "aarch64", feature = "dotprod"))]
    &DOTPROD,
    #[cfg(all(target_arch = "aarch64", feature = "neon"))]
    &NEON,
    #[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
    &SCALAR,
];

/// The name of the portable kernels.
pub(super) const PORTABLE: &str = "scalar";
