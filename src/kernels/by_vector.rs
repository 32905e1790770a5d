//! What the aarch64 tiles share: their registers, and the loop of those that multiply whole vectors of weights by whole
//! vectors of codes.

/// `asm!` for a tile of `R` rows of `$input`, which has all 32 vector registers to itself and leaves the stack alone.
/// `$codes` points to the codes of row `$row`, `{row}` are the bytes from one row's sums to the next's.
macro_rules! asm_tile {
    ($input:ident, codes: [$($codes:ident = $row:literal),*], $($body:tt)*) => {
        core::arch::asm!(
            $($body)*
            R = const R,
            row = const $crate::kernels::ops::tile::ROW,
            $($codes = inout(reg) $input.row::<R>($row) => _,)*
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
            out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
            out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        )
    };
}
pub(super) use asm_tile;

/// Defines an `unsafe fn $name<const R: usize>(input: &TileInput, first: usize, out: *mut i32)`: `R` rows (1 to 3)
/// times, in every group, the eight vectors of weights that begin `first` bytes into it, as 24 vectors of sums.
///
/// Sums are folded in pairs (ADDP) `$folds` times and stored: `8 >> $folds` vectors for a row, rows
/// [`ROW`](super::ops::tile::ROW) bytes apart.
///
/// `$load` loads a row's codes of a group, `$bytes` of them, in `$form`; `$group` are the bytes of a group in the panel.
/// `$column` are the lines of the assembler macro `column weights, a0, a1, a2`: it multiplies vector `v\weights` by the
/// `R` rows' codes in `v5`, `v6`, `v7` and adds to the sums `v\a0`, `v\a1`, `v\a2`; `v2`, `v3`, `v4` are free.
macro_rules! by_vector {
    ($(#[$attribute:meta])* $name:ident, load: $load:literal $form:literal, bytes: $bytes:literal, group: $group:literal,
     folds: $folds:literal, column: [$($column:literal,)*]) => {
        $(#[$attribute])*
        #[inline(always)]
        unsafe fn $name<const R: usize>(input: &TileInput, first: usize, out: *mut i32) {
            // SAFETY: the caller's promise: the CPU has the instructions, `input` is true and `out` has the rows.
            unsafe {
                asm_tile!(
                    input, codes: [c0 = 0, c1 = 1, c2 = 2],
                    ".macro column weights, a0, a1, a2",
                    $($column,)*
                    ".endm",
                    ".irp a, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                    r".if \a < 8 + 8 * {R}", r"movi v\a\().2d, #0", ".endif",
                    ".endr",
                    // One group. `weights` points to the last pair of vectors.
                    ".macro group",
                    concat!($load, "5", $form, ", [{c0}], #", $bytes),
                    ".if {R} > 1", concat!($load, "6", $form, ", [{c1}], #", $bytes), ".endif",
                    ".if {R} > 2", concat!($load, "7", $form, ", [{c2}], #", $bytes), ".endif",
                    "ldp q0, q1, [{weights}, #-96]",
                    "column 0, 8, 16, 24",
                    "column 1, 9, 17, 25",
                    "ldp q0, q1, [{weights}, #-64]",
                    "column 0, 10, 18, 26",
                    "column 1, 11, 19, 27",
                    "ldp q0, q1, [{weights}, #-32]",
                    "column 0, 12, 20, 28",
                    "column 1, 13, 21, 29",
                    concat!("ldp q0, q1, [{weights}], #", $group),
                    "column 0, 14, 22, 30",
                    "column 1, 15, 23, 31",
                    ".endm",
                    "cbz {pairs}, 3f",
                    "2:",
                    "group",
                    "group",
                    "subs {pairs}, {pairs}, #1",
                    "b.ne 2b",
                    "3:",
                    "cbz {rest}, 4f",
                    "group",
                    "4:",
                    r".macro fold a, b, c",
                    r"addp v\a\().4s, v\b\().4s, v\c\().4s",
                    ".endm",
                    // To each row's sums comes its negated zero point times the sums of the weights.
                    "ldp q0, q1, [{sums}]",
                    concat!(".if ", $folds, " == 1"), "ldp q2, q3, [{sums}, #32]", ".endif",
                    r".macro store row, a, b, c, d, e, f, g, h",
                    r".if {R} > \row",
                    r"ldr s4, [{neg_zero_points}, #8 * \row]",
                    r"fold \a, \a, \b", r"fold \b, \c, \d", r"fold \c, \e, \f", r"fold \d, \g, \h",
                    concat!(".if ", $folds, " == 2"),
                    r"fold \a, \a, \b", r"fold \b, \c, \d",
                    ".else",
                    r"mla v\c\().4s, v2.4s, v4.s[0]", r"mla v\d\().4s, v3.4s, v4.s[0]",
                    r"stp q\c, q\d, [{out}, #32]",
                    ".endif",
                    r"mla v\a\().4s, v0.4s, v4.s[0]", r"mla v\b\().4s, v1.4s, v4.s[0]",
                    r"stp q\a, q\b, [{out}]",
                    "add {out}, {out}, #{row}",
                    ".endif",
                    ".endm",
                    "store 0, 8, 9, 10, 11, 12, 13, 14, 15",
                    "store 1, 16, 17, 18, 19, 20, 21, 22, 23",
                    "store 2, 24, 25, 26, 27, 28, 29, 30, 31",
                    ".purgem column", ".purgem group", ".purgem fold", ".purgem store",
                    weights = inout(reg) input.panel.wrapping_add(first + 96) => _,
                    sums = in(reg) input.sums(0).wrapping_add(first / input.group.max(1)),
                    neg_zero_points = in(reg) input.neg_zero_points(),
                    pairs = inout(reg) input.groups / 2 => _,
                    rest = in(reg) input.groups % 2,
                    out = inout(reg) out => _,
                );
            }
        }
    };
}
pub(super) use by_vector;

/// `count`, unknown to the compiler: it would unroll a loop of so many turns, and repeat the assembly in it.
#[inline(always)]
pub(super) fn turns(mut count: usize) -> usize {
    // SAFETY: a comment.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) count, options(pure, nomem, nostack, preserves_flags))
    };
    count
}

/// Makes `$tile`, the one for weights in groups of 16, from the `by_vector!` function `$half` for eight channels.
macro_rules! tile_of_halves {
    ($tile:ty, $half:ident) => {
        impl Int8Tile for $tile {
            const ROWS: usize = 3;
            const PANELS: usize = 1;
            const FLIP: u8 = 0;

            #[inline(always)]
            unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
                let out = out.start();
                for half in 0..$crate::kernels::by_vector::turns(2) {
                    // SAFETY: a tile exists only where the CPU has its instructions; the caller's promise; a half is
                    // eight channels.
                    unsafe { $half::<R>(input, half * 128, out.add(half * 8)) };
                }
            }
        }
    };
}
pub(super) use tile_of_halves;
