//! aarch64 with the dot-product instructions: Cortex-A55, A75, A76, A78.

use super::by_vector::{asm_tile, by_vector, tile_of_halves};
use super::ops::tile::{Accumulators, Int8Tile, TileInput};

/// The instructions are there: for weights in groups of 4, the packing made for them.
#[derive(Clone, Copy)]
pub(super) struct By4(pub(super) ());

/// The instructions are there: for weights in groups of 8.
#[derive(Clone, Copy)]
pub(super) struct By8(pub(super) ());

/// The instructions are there: for weights in groups of 16.
#[derive(Clone, Copy)]
pub(super) struct By16(pub(super) ());

impl Int8Tile for By4 {
    const ROWS: usize = 6;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    /// SDOT by element: a vector of weights is four channels, a lane of codes four inputs of a row. Six rows by
    /// sixteen channels are 24 sums, six vectors of codes and two of weights: all 32 registers.
    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: a `By4` exists only where the CPU has the instructions; `TileInput` promises `groups` groups in
        // each of `R` rows and in the panel; `out` has a place for each row.
        unsafe {
            asm_tile!(
                input, codes: [c0 = 0, c1 = 1, c2 = 2, c3 = 3, c4 = 4, c5 = 5],
                // One vector of weights times one lane of every row's codes.
                r".macro column weights, lane, a0, a1, a2, a3, a4, a5",
                r"sdot v\a0\().4s, v\weights\().16b, v2.4b[\lane]",
                r".if {R} > 1", r"sdot v\a1\().4s, v\weights\().16b, v3.4b[\lane]", ".endif",
                r".if {R} > 2", r"sdot v\a2\().4s, v\weights\().16b, v4.4b[\lane]", ".endif",
                r".if {R} > 3", r"sdot v\a3\().4s, v\weights\().16b, v5.4b[\lane]", ".endif",
                r".if {R} > 4", r"sdot v\a4\().4s, v\weights\().16b, v6.4b[\lane]", ".endif",
                r".if {R} > 5", r"sdot v\a5\().4s, v\weights\().16b, v7.4b[\lane]", ".endif",
                ".endm",
                // One group: four inputs, sixteen channels, whose weights stand `at` bytes from the pointer. Each vector of weights is
                // loaded as soon as the one before it in its register is used, two vectors ahead, for cores that run in order;
                // behind the last group that reads the panel's trailer. No address is written back: that costs the A55 cycles.
                r".macro group lane, at",
                r"column 0, \lane, 8, 12, 16, 20, 24, 28",
                r"ldr q0, [{weights}, #\at + 32]",
                r"column 1, \lane, 9, 13, 17, 21, 25, 29",
                r"ldr q1, [{weights}, #\at + 48]",
                r"column 0, \lane, 10, 14, 18, 22, 26, 30",
                r"ldr q0, [{weights}, #\at + 64]",
                r"column 1, \lane, 11, 15, 19, 23, 27, 31",
                r"ldr q1, [{weights}, #\at + 80]",
                ".endm",
                r".macro four_groups at",
                r"load q, \at / 16",
                r"group 0, \at",
                r"group 1, \at + 64",
                r"group 2, \at + 128",
                r"group 3, \at + 192",
                ".endm",
                r".macro load size, at",
                r"ldr \size\()2, [{c0}, #\at]",
                r".if {R} > 1", r"ldr \size\()3, [{c1}, #\at]", ".endif",
                r".if {R} > 2", r"ldr \size\()4, [{c2}, #\at]", ".endif",
                r".if {R} > 3", r"ldr \size\()5, [{c3}, #\at]", ".endif",
                r".if {R} > 4", r"ldr \size\()6, [{c4}, #\at]", ".endif",
                r".if {R} > 5", r"ldr \size\()7, [{c5}, #\at]", ".endif",
                ".endm",
                r".macro go_on groups",
                r"add {weights}, {weights}, #64 * \groups",
                r"add {c0}, {c0}, #4 * \groups",
                r".if {R} > 1", r"add {c1}, {c1}, #4 * \groups", ".endif",
                r".if {R} > 2", r"add {c2}, {c2}, #4 * \groups", ".endif",
                r".if {R} > 3", r"add {c3}, {c3}, #4 * \groups", ".endif",
                r".if {R} > 4", r"add {c4}, {c4}, #4 * \groups", ".endif",
                r".if {R} > 5", r"add {c5}, {c5}, #4 * \groups", ".endif",
                ".endm",
                // The sums begin with the row's negated zero point times the sums of the weights.
                "ldp q0, q1, [{sums}]",
                "ldp q2, q3, [{sums}, #32]",
                r".macro start row, a0, a1, a2, a3",
                r".if {R} > \row",
                r"ldr s4, [{neg_zero_points}, #8 * \row]",
                r"mul v\a0\().4s, v0.4s, v4.s[0]", r"mul v\a1\().4s, v1.4s, v4.s[0]",
                r"mul v\a2\().4s, v2.4s, v4.s[0]", r"mul v\a3\().4s, v3.4s, v4.s[0]",
                ".endif",
                ".endm",
                "start 0, 8, 9, 10, 11",
                "start 1, 12, 13, 14, 15",
                "start 2, 16, 17, 18, 19",
                "start 3, 20, 21, 22, 23",
                "start 4, 24, 25, 26, 27",
                "start 5, 28, 29, 30, 31",
                "ldp q0, q1, [{weights}]",
                "cbz {sixteens}, 3f",
                "2:",
                "four_groups 0",
                "four_groups 256",
                "four_groups 512",
                "four_groups 768",
                "go_on 16",
                "subs {sixteens}, {sixteens}, #1",
                "b.ne 2b",
                "3:",
                "cbz {rest}, 5f",
                "4:",
                "load s, 0",
                "group 0, 0",
                "go_on 1",
                "subs {rest}, {rest}, #1",
                "b.ne 4b",
                "5:",
                r".macro store row, a0, a1, a2, a3",
                r".if {R} > \row",
                r"stp q\a0, q\a1, [{out}]",
                r"stp q\a2, q\a3, [{out}, #32]",
                "add {out}, {out}, #{row}",
                ".endif",
                ".endm",
                "store 0, 8, 9, 10, 11",
                "store 1, 12, 13, 14, 15",
                "store 2, 16, 17, 18, 19",
                "store 3, 20, 21, 22, 23",
                "store 4, 24, 25, 26, 27",
                "store 5, 28, 29, 30, 31",
                ".purgem column", ".purgem group", ".purgem four_groups", ".purgem load", ".purgem go_on", ".purgem start", ".purgem store",
                weights = inout(reg) input.panel => _,
                sums = in(reg) input.sums(0),
                neg_zero_points = in(reg) input.neg_zero_points(),
                sixteens = inout(reg) input.groups / 16 => _,
                rest = inout(reg) input.groups % 16 => _,
                out = inout(reg) out.start() => _,
            );
        }
    }
}

by_vector!(
    /// A vector of weights is one channel: its sums are four partial ones.
    ///
    /// # Safety
    /// The CPU has the dot-product instructions; `input` as [`Int8Tile::tile`] wants it for groups of 16; `out` has
    /// the rows' places.
    sixteens, load: "ldr q" "", bytes: "16", group: "256", folds: "2", column: [
        r"sdot v\a0\().4s, v\weights\().16b, v5.16b",
        ".if {R} > 1", r"sdot v\a1\().4s, v\weights\().16b, v6.16b", ".endif",
        ".if {R} > 2", r"sdot v\a2\().4s, v\weights\().16b, v7.16b", ".endif",
    ]
);

by_vector!(
    /// A vector of weights is two channels: their sums are two partial ones each.
    ///
    /// # Safety
    /// As [`sixteens`], for groups of 8.
    eights, load: "ld1r {{v" ".2d}}", bytes: "8", group: "128", folds: "1", column: [
        r"sdot v\a0\().4s, v\weights\().16b, v5.16b",
        ".if {R} > 1", r"sdot v\a1\().4s, v\weights\().16b, v6.16b", ".endif",
        ".if {R} > 2", r"sdot v\a2\().4s, v\weights\().16b, v7.16b", ".endif",
    ]
);

tile_of_halves!(By16, sixteens);

impl Int8Tile for By8 {
    const ROWS: usize = 3;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: a `By8` exists only where the CPU has the instructions; the caller's promise.
        unsafe { eights::<R>(input, 0, out.start()) };
    }
}
