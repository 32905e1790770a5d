//! Matrix products of int8 codes, tile by tile.

use core::ops::Range;

use super::linear::{Epilogue, Task, TaskSize, block_at, channels, finish};
use super::math::{Activation, activate, quick_gelu};
use super::quantize::QuantParams;
use super::tile::{Accumulators, Ahead, HELD_ROWS, Int8Tile, TileInput};
use crate::kernels::layout::{PANEL, Panels, Piece};
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::Simd;

/// A linear step over int8 codes.
pub(crate) struct LinearInt8<'a> {
    /// Rows of `code_stride(inputs)` bytes.
    pub(crate) codes: &'a [u8],
    pub(crate) stride: usize,
    /// Each row's quantization parameters.
    pub(crate) params: &'a [QuantParams],
    pub(crate) panels: Panels,
    /// The panels at hand.
    pub(crate) weights: Piece<'a>,
    pub(crate) epilogue: Epilogue,
    /// `[rows, outputs]`.
    pub(crate) out: SharedMut<'a, f32>,
}

impl LinearInt8<'_> {
    /// Whether all that a task reads and writes is there: a row of codes has whole groups, whatever the number of inputs.
    pub(crate) fn holds(&self, task: &Task) -> bool {
        let groups = self.panels.groups() * self.panels.packing.group();
        task.fits(&self.panels, self.weights, &self.out)
            && groups <= self.stride
            && task.rows.end * self.stride <= self.codes.len()
            && task.rows.end <= self.params.len()
    }
}

/// The product of int8 codes with weights, as vectors `S` finish it.
pub(crate) trait Int8Product<S: Simd>: Copy {
    /// Rows of a full tile.
    #[cfg(feature = "std")]
    const ROWS: usize;
    /// Panels of a full tile.
    #[cfg(feature = "std")]
    const PANELS: usize;
    /// What activation codes are xor-ed with: 0 for signed ones, 0x80 where the instruction wants one side unsigned.
    const FLIP: u8;
    /// How it is cut into tasks.
    const TASK: TaskSize;

    /// A linear step, for a part of its panels and rows.
    ///
    /// # Safety
    /// The slices of `step` have the sizes that it says, `task`'s panels and rows lie in it, its panels are at hand, and no other task
    /// has any of those rows of those panels.
    unsafe fn linear(self, s: S, step: &LinearInt8<'_>, task: Task);

    /// The products of a full tile alone.
    ///
    /// # Safety
    /// `input` describes readable memory for [`ROWS`](Self::ROWS) rows and [`PANELS`](Self::PANELS) panels.
    #[cfg(feature = "std")]
    unsafe fn full_tile(self, input: &TileInput, out: &mut Accumulators);
}

impl<S: Simd, T: Int8Tile> Int8Product<S> for T {
    #[cfg(feature = "std")]
    const ROWS: usize = T::ROWS;
    #[cfg(feature = "std")]
    const PANELS: usize = T::PANELS;
    const FLIP: u8 = T::FLIP;
    // A tile's panels, and tasks enough: products cut by rows too, whose tasks share panels, were slower.
    const TASK: TaskSize = TaskSize { least_panels: T::PANELS, panels: T::PANELS, rows: 24, per_worker: 12 };

    #[inline(always)]
    unsafe fn linear(self, s: S, step: &LinearInt8<'_>, task: Task) {
        // SAFETY: the caller's promise.
        unsafe { linear_int8(s, self, step, task) }
    }

    #[cfg(feature = "std")]
    #[inline(always)]
    unsafe fn full_tile(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: the caller's promise.
        unsafe { tile_of_height::<T, true>(self, T::ROWS, input, out) }
    }
}

/// `rows` of `panels`, which are at hand; meanwhile the panels from `next` on are prefetched. `next` may lie past the last panel, where
/// the next step's weights follow.
///
/// # Safety
/// The slices of `step` have the sizes that it says, `panels` and `rows` lie in it, and no other task has any of those
/// rows of those panels.
#[inline(always)]
unsafe fn linear_int8<S: Simd, T: Int8Tile>(s: S, t: T, step: &LinearInt8<'_>, task: Task) {
    let Task { panels, rows, next } = task;
    let mut panel = panels.start;
    while panel < panels.end {
        if panel + T::PANELS <= panels.end {
            // SAFETY: the caller's promise.
            unsafe { rows_by_tile::<S, T, true>(s, t, step, panel, rows.clone(), next) };
            panel += T::PANELS;
        } else {
            // SAFETY: the caller's promise.
            unsafe { rows_by_tile::<S, T, false>(s, t, step, panel, rows.clone(), next) };
            panel += 1;
        }
    }
}

/// Rows of `T::PANELS` panels (`FULL`) or of one.
///
/// # Safety
/// As [`linear_int8`].
#[inline(always)]
unsafe fn rows_by_tile<S: Simd, T: Int8Tile, const FULL: bool>(
    s: S,
    t: T,
    step: &LinearInt8<'_>,
    panel: usize,
    rows: Range<usize>,
    next: Option<usize>,
) {
    let mut sums = Accumulators::new();
    let panel_stride = step.panels.panel_bytes();
    let groups = step.panels.groups();
    let tiles = rows.len().div_ceil(T::ROWS);
    let ahead = |tile: usize| match next {
        Some(next) if T::FETCHES => {
            let start =
                step.weights.bytes.as_ptr().wrapping_add((next - step.weights.first) * panel_stride).cast();
            Ahead::part(start, T::PANELS * panel_stride, tile, tiles, groups)
        }
        _ => Ahead::NONE,
    };
    // Tiles of nearly equal height: a low one costs more than its share.
    let steps = rows.len().div_ceil(T::ROW_STEP);
    let (low, high) = (steps / tiles.max(1), steps % tiles.max(1));
    let (mut row, mut tile) = (rows.start, 0);
    while row < rows.end {
        // Within these bounds by the division above; clamped so that no tile can be too high or empty.
        let even = ((low + usize::from(tile < high)) * T::ROW_STEP).clamp(1, T::ROWS);
        let height = even.min(rows.end - row);
        let input = TileInput {
            // SAFETY: `row` is one of the step's, `panel` one of the step's.
            codes: unsafe { step.codes.as_ptr().add(row * step.stride) },
            stride: step.stride,
            // SAFETY: as above.
            params: unsafe { step.params.as_ptr().add(row) },
            // SAFETY: as above; the panels of a task are at hand.
            panel: unsafe {
                step.weights.bytes.as_ptr().add((panel - step.weights.first) * panel_stride).cast()
            },
            panel_stride,
            groups,
            group: step.panels.packing.group(),
            ahead: ahead(tile),
        };
        // SAFETY: rows and panels exist.
        unsafe {
            tile_of_height::<T, FULL>(t, height, &input, &mut sums);
            scale_out(s, step, row, height, panel, if FULL { T::PANELS } else { 1 }, &sums);
        }
        (row, tile) = (row + height, tile + 1);
    }
}

/// Calls the tile for the number of rows at hand.
///
/// # Safety
/// As [`Int8Tile::tile`]; there are 1 to `T::ROWS` rows.
#[inline(always)]
unsafe fn tile_of_height<T: Int8Tile, const FULL: bool>(
    t: T,
    rows: usize,
    input: &TileInput,
    out: &mut Accumulators,
) {
    macro_rules! for_rows {
        ($($rows:literal)*) => {{
            // A kernel with a higher tile than these does not compile.
            const { assert!(T::ROWS <= [$($rows),*].len() && T::ROWS <= HELD_ROWS) };
            match rows {
                $(
                    // SAFETY: the caller's promise; `T::PANELS` is 1, 2 or 4.
                    $rows if $rows <= T::ROWS => unsafe {
                        match (FULL, T::PANELS) {
                            (true, 4) => t.tile::<$rows, 4>(input, out),
                            (true, 2) => t.tile::<$rows, 2>(input, out),
                            _ => t.tile::<$rows, 1>(input, out),
                        }
                    },
                )*
                // SAFETY: the caller's promise: there is an arm for every height of a tile.
                _ => unsafe { core::hint::unreachable_unchecked() },
            }
        }};
    }
    const {
        assert!(matches!(T::PANELS, 1 | 2 | 4));
        // So that an even division into steps leaves no tile higher than a full one.
        assert!(T::ROWS.is_multiple_of(T::ROW_STEP));
    };
    for_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13)
}

/// Turns a tile's sums into outputs.
///
/// # Safety
/// As [`linear_int8`]; a tile of so many rows and panels wrote the sums.
#[inline(always)]
unsafe fn scale_out<S: Simd>(
    s: S,
    step: &LinearInt8<'_>,
    first_row: usize,
    rows: usize,
    first_panel: usize,
    panels: usize,
    sums: &Accumulators,
) {
    // Matched once per tile: each activation has a loop of its own, with its constants in registers.
    macro_rules! with {
        ($activation:expr) => {
            for panel in 0..panels {
                // SAFETY: the caller's promise.
                unsafe {
                    let (rows, sums) = (first_row..first_row + rows, &TileSums { sums, first_row, panel });
                    scale_rows::<S, $activation>(s, step, rows, first_panel + panel, sums);
                }
            }
        };
    }
    match step.epilogue.activation {
        Activation::Identity => with!(IDENTITY),
        Activation::QuickGelu => with!(QUICK_GELU),
        _ => with!(ANY),
    }
}

// The activations that have a loop of their own, and the others. Constants, not closures: a closure is a function of
// its own, compiled without the target features of the enclosing one.
pub(crate) const IDENTITY: u8 = 0;
pub(crate) const QUICK_GELU: u8 = 1;
pub(crate) const ANY: u8 = 2;

/// The sums of some rows for one panel.
// No closure: it would be compiled without the instruction set.
pub(crate) trait RowSums<S: Simd> {
    /// Those of row `row` of the step, whose codes have `params`, as f32.
    ///
    /// # Safety
    /// They are there.
    unsafe fn at(&self, s: S, row: usize, params: &QuantParams) -> S::V;
}

/// One panel's sums in a tile.
struct TileSums<'a> {
    sums: &'a Accumulators,
    first_row: usize,
    panel: usize,
}

impl<S: Simd> RowSums<S> for TileSums<'_> {
    #[inline(always)]
    unsafe fn at(&self, s: S, row: usize, _: &QuantParams) -> S::V {
        // SAFETY: the caller's promise.
        s.load_i32(unsafe { self.sums.of(row - self.first_row, self.panel) })
    }
}

/// `rows` of one panel.
///
/// # Safety
/// As [`linear_int8`]; the sums are there.
#[inline(always)]
pub(crate) unsafe fn scale_rows<S: Simd, const ACTIVATION: u8>(
    s: S,
    step: &LinearInt8<'_>,
    rows: Range<usize>,
    panel: usize,
    sums: &impl RowSums<S>,
) {
    let outputs = step.panels.outputs as usize;
    let channels = channels(&step.panels, panel);
    // SAFETY: the trailer belongs to the panel.
    let (scale, bias) = unsafe {
        let trailer = step.weights.bytes.as_ptr();
        let at_hand = channels.start - step.weights.first * PANEL;
        (
            s.load(block_at(trailer, step.panels.scale_at(at_hand))),
            s.load(block_at(trailer, step.panels.bias_at(at_hand))),
        )
    };
    for row in rows {
        // SAFETY: the caller's promise.
        let (row_params, sums) = unsafe {
            let row_params = step.params.get_unchecked(row);
            (row_params, sums.at(s, row, row_params))
        };
        let value = s.mul_add(s.mul(sums, s.splat(row_params.scale)), scale, bias);
        let place = row * outputs + channels.start..row * outputs + channels.end;
        let value = match ACTIVATION {
            IDENTITY => value,
            QUICK_GELU => quick_gelu(s, value),
            _ => activate(s, step.epilogue.activation, value),
        };
        // SAFETY: these channels are this task's.
        unsafe { finish(s, step.epilogue.residual, value, step.out, place) };
    }
}
