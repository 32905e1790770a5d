//! aarch64 with the int8 matrix-multiply instructions: Cortex-A710, A720, Neoverse V1, N2.
//!
//! SMMLA multiplies two rows of eight codes by two channels of eight weights. So [`pair_rows`] puts the rows' codes side
//! by side once, when they are made.

use core::arch::aarch64::*;

use super::anywhere::{load, store};
use super::by_vector::asm_tile;
use super::ops::tile::{Accumulators, Int8Tile, TileInput};
use super::simd::LANES;

/// The instructions are there: for weights in groups of 8, the packing made for them.
#[derive(Clone, Copy)]
pub(super) struct By8(pub(super) ());

/// Puts two rows' codes side by side, eight and eight: from `[a0 a1 a2 a3 …]` and `[b0 b1 b2 b3 …]` it makes
/// `[a0 b0 a2 b2 …]` and `[a1 b1 a3 b3 …]`.
///
/// # Safety
/// None is needed: NEON is part of aarch64. The signature is the table's.
pub(super) unsafe fn pair_rows(first: &mut [u8], second: &mut [u8]) {
    let blocks = first.as_chunks_mut::<LANES>().0.iter_mut().zip(second.as_chunks_mut::<LANES>().0);
    for (first, second) in blocks {
        // SAFETY: sixteen bytes each; NEON is part of aarch64.
        unsafe {
            let a = vreinterpretq_u64_u8(load(first));
            let b = vreinterpretq_u64_u8(load(second));
            store(vreinterpretq_u8_u64(vzip1q_u64(a, b)), first);
            store(vreinterpretq_u8_u64(vzip2q_u64(a, b)), second);
        }
    }
}

impl Int8Tile for By8 {
    const ROWS: usize = 6;
    const ROW_STEP: usize = 2;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    /// Three pairs of rows by eight pairs of channels are 24 sums, with six vectors of codes and two of weights all 32
    /// registers. Four groups go together: of each pair, the first row holds groups 0 and 2, the second 1 and 3. A last
    /// row without a partner stands as it is; what is beside it in the vectors ends in sums that nobody stores.
    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: a `By8` exists only where the CPU has the instructions; `TileInput` promises `groups` groups in
        // each of `R` rows and in the panel, rows of whole 64 bytes; `out` has a place for each row.
        unsafe {
            asm_tile!(
                input, codes: [c0 = 0, c1 = 1, c2 = 2, c3 = 3, c4 = 4, c5 = 5],
                // One vector of weights times the codes `v\c0`, `v\c1`, `v\c2` of the pairs.
                ".macro column weights, c0, c1, c2, a0, a1, a2",
                r"smmla v\a0\().4s, v\c0\().16b, v\weights\().16b",
                ".if {R} > 2", r"smmla v\a1\().4s, v\c1\().16b, v\weights\().16b", ".endif",
                ".if {R} > 4", r"smmla v\a2\().4s, v\c2\().16b, v\weights\().16b", ".endif",
                ".endm",
                // One group, its weights `\at` bytes on; `weights` points to the last two vectors of four groups.
                ".macro group at, c0, c1, c2",
                r"ldp q0, q1, [{weights}, #\at - 480]",
                r"column 0, \c0, \c1, \c2, 8, 16, 24",
                r"column 1, \c0, \c1, \c2, 9, 17, 25",
                r"ldp q0, q1, [{weights}, #\at - 448]",
                r"column 0, \c0, \c1, \c2, 10, 18, 26",
                r"column 1, \c0, \c1, \c2, 11, 19, 27",
                r"ldp q0, q1, [{weights}, #\at - 416]",
                r"column 0, \c0, \c1, \c2, 12, 20, 28",
                r"column 1, \c0, \c1, \c2, 13, 21, 29",
                r".if \at == 384", "ldp q0, q1, [{weights}], #512",
                ".else", r"ldp q0, q1, [{weights}, #\at - 384]", ".endif",
                r"column 0, \c0, \c1, \c2, 14, 22, 30",
                r"column 1, \c0, \c1, \c2, 15, 23, 31",
                ".endm",
                // Groups 0 and 2 of each pair, or of the row that has no partner.
                ".macro even",
                "ldp q2, q3, [{c0}], #32",
                ".if {R} > 2", "ldp q4, q5, [{c2}], #32", ".endif",
                ".if {R} > 4", "ldp q6, q7, [{c4}], #32", ".endif",
                ".endm",
                // Groups 1 and 3.
                ".macro odd",
                ".if {R} == 1", "ext v2.16b, v2.16b, v2.16b, #8", "ext v3.16b, v3.16b, v3.16b, #8",
                ".else", "ldp q2, q3, [{c1}], #32", ".endif",
                ".if {R} == 3", "ext v4.16b, v4.16b, v4.16b, #8", "ext v5.16b, v5.16b, v5.16b, #8",
                ".elseif {R} > 3", "ldp q4, q5, [{c3}], #32", ".endif",
                ".if {R} == 5", "ext v6.16b, v6.16b, v6.16b, #8", "ext v7.16b, v7.16b, v7.16b, #8",
                ".elseif {R} > 5", "ldp q6, q7, [{c5}], #32", ".endif",
                ".endm",
                // The sums begin with the rows' negated zero points times the sums of the weights. A pair's, each twice, in
                // `v2`, `v3`, `v4`: the parameters of two rows are a vector, the zero points its lanes 1 and 3.
                ".macro zero_points pair, vector",
                r".if {R} > 2 * \pair",
                r".if {R} == 2 * \pair + 1", r"ldr d\vector, [{params}, #16 * \pair]",
                ".else", r"ldr q\vector, [{params}, #16 * \pair]", ".endif",
                r"trn2 v\vector\().4s, v\vector\().4s, v\vector\().4s",
                ".endif",
                ".endm",
                "zero_points 0, 2", "zero_points 1, 3", "zero_points 2, 4",
                ".macro start a0, a1, a2",
                "ld1r {{v0.2d}}, [{sums}], #8",
                r"mul v\a0\().4s, v0.4s, v2.4s",
                ".if {R} > 2", r"mul v\a1\().4s, v0.4s, v3.4s", ".endif",
                ".if {R} > 4", r"mul v\a2\().4s, v0.4s, v4.4s", ".endif",
                ".endm",
                "start 8, 16, 24", "start 9, 17, 25", "start 10, 18, 26", "start 11, 19, 27",
                "start 12, 20, 28", "start 13, 21, 29", "start 14, 22, 30", "start 15, 23, 31",
                ".macro four_groups",
                "even",
                "group 0, 2, 4, 6",
                "group 256, 3, 5, 7",
                "odd",
                "group 128, 2, 4, 6",
                "group 384, 3, 5, 7",
                ".endm",
                "tbz {fours}, #0, 2f",
                "four_groups",
                "2:",
                "lsr {fours}, {fours}, #1",
                "cbz {fours}, 3f",
                "2:",
                "four_groups",
                "four_groups",
                "subs {fours}, {fours}, #1",
                "b.ne 2b",
                "3:",
                // One to three groups are left: the codes may be read on, the weights end.
                "cbz {rest}, 5f",
                "even",
                "group 0, 2, 4, 6",
                "cmp {rest}, #2",
                "b.lo 5f",
                "b.eq 4f",
                "group 256, 3, 5, 7",
                "4:",
                "odd",
                "group 128, 2, 4, 6",
                "5:",
                // Sums are [first row's two channels, second row's].
                ".macro store row, a0, a1, a2, a3, a4, a5, a6, a7",
                r".if {R} > \row",
                r"zip1 v0.2d, v\a0\().2d, v\a1\().2d", r"zip1 v1.2d, v\a2\().2d, v\a3\().2d",
                r"zip1 v2.2d, v\a4\().2d, v\a5\().2d", r"zip1 v3.2d, v\a6\().2d, v\a7\().2d",
                "stp q0, q1, [{out}]", "stp q2, q3, [{out}, #32]",
                "add {out}, {out}, #{row}",
                ".endif",
                r".if {R} > \row + 1",
                r"zip2 v0.2d, v\a0\().2d, v\a1\().2d", r"zip2 v1.2d, v\a2\().2d, v\a3\().2d",
                r"zip2 v2.2d, v\a4\().2d, v\a5\().2d", r"zip2 v3.2d, v\a6\().2d, v\a7\().2d",
                "stp q0, q1, [{out}]", "stp q2, q3, [{out}, #32]",
                "add {out}, {out}, #{row}",
                ".endif",
                ".endm",
                "store 0, 8, 9, 10, 11, 12, 13, 14, 15",
                "store 2, 16, 17, 18, 19, 20, 21, 22, 23",
                "store 4, 24, 25, 26, 27, 28, 29, 30, 31",
                ".purgem column", ".purgem group", ".purgem even", ".purgem odd", ".purgem zero_points", ".purgem start",
                ".purgem four_groups", ".purgem store",
                weights = inout(reg) input.panel.wrapping_add(480) => _,
                sums = inout(reg) input.sums(0) => _,
                params = in(reg) input.params,
                fours = inout(reg) input.groups / 4 => _,
                rest = in(reg) input.groups % 4,
                out = inout(reg) out.start() => _,
            );
        }
    }
}
