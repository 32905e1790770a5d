//! Matrix products with their epilogue: scale, bias, activation, residual.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::math::{Activation, activate, quick_gelu};
use super::quantize::QuantParams;
use crate::kernels::layout::{PANEL, Panels};
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::{Block, LANES, Simd};

// A panel's channels are the lanes of one vector in every epilogue.
const _: () = assert!(PANEL == LANES);

/// The most rows that a kernel's tile has.
pub(crate) const MAX_TILE_ROWS: usize = 13;
/// The most panels that a kernel's tile has: vectors as wide as a panel leave registers for several.
pub(crate) const MAX_TILE_PANELS: usize = if cfg!(target_arch = "x86_64") { 4 } else { 1 };

/// Rows that go through an f32 panel together.
pub(crate) const F32_ROWS: usize = 4;

/// The sums of a tile: for each row and panel, its sixteen channels. As vectors they lie in one line of the cache each.
/// Nothing fills them before a tile does: that would take time.
#[repr(C, align(64))]
pub(crate) struct Accumulators([[MaybeUninit<[i32; PANEL]>; MAX_TILE_PANELS]; MAX_TILE_ROWS]);

impl Accumulators {
    /// Of no tile yet.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self([const { [const { MaybeUninit::uninit() }; MAX_TILE_PANELS] }; MAX_TILE_ROWS])
    }

    /// The place of the sums of `row` and `panel`.
    #[inline(always)]
    pub(crate) fn place(&mut self, row: usize, panel: usize) -> *mut i32 {
        self.0[row][panel].as_mut_ptr().cast()
    }

    /// The place of the first row's sums; the next row's are [`ROW`] bytes on.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn start(&mut self) -> *mut i32 {
        self.0.as_mut_ptr().cast()
    }

    /// The sums of `panel` of the first `rows` rows.
    ///
    /// # Safety
    /// A tile wrote them.
    #[inline(always)]
    unsafe fn of_panel(&self, rows: usize, panel: usize) -> impl Iterator<Item = &[i32; PANEL]> {
        // SAFETY: the caller's promise.
        self.0[..rows].iter().map(move |row| unsafe { row[panel].assume_init_ref() })
    }
}

/// Bytes from one row's sums to the next's.
#[cfg(target_arch = "aarch64")]
pub(crate) const ROW: usize = size_of::<Accumulators>() / MAX_TILE_ROWS;

/// What a tile multiplies.
pub(crate) struct TileInput {
    /// The first row's codes; each row has whole groups of them, and whole lines of
    /// [`CODE_ALIGN`](crate::kernels::layout::CODE_ALIGN) bytes.
    pub(crate) codes: *const u8,
    /// Bytes from one row's codes to the next's.
    pub(crate) stride: usize,
    /// Each row's quantization parameters.
    pub(crate) params: *const QuantParams,
    /// The first panel: `groups` groups, then the trailer, which begins with the sums of the channels' weights.
    pub(crate) panel: *const i8,
    /// Bytes from one panel to the next.
    pub(crate) panel_stride: usize,
    /// Groups of inputs.
    pub(crate) groups: usize,
    /// Inputs in a group.
    pub(crate) group: usize,
    /// What to fetch into the cache meanwhile, never to read.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "no instruction for it on stable Rust")
    )]
    pub(crate) ahead: Ahead,
}

impl TileInput {
    /// The sums of the weights of each channel of `panel`, a panel of the tile.
    #[inline(always)]
    pub(crate) fn sums(&self, panel: usize) -> *const i32 {
        self.panel.wrapping_add(panel * self.panel_stride + self.groups * self.group * PANEL).cast()
    }

    /// The zero point of the codes of `row`, negated.
    ///
    /// # Safety
    /// The tile has such a row.
    #[inline(always)]
    pub(crate) unsafe fn neg_zero_point(&self, row: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { (*self.params.add(row)).neg_zero_point }
    }

    /// The first row's zero point, negated; the other rows' follow at the distance of a [`QuantParams`].
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn neg_zero_points(&self) -> *const i32 {
        self.params.cast::<i32>().wrapping_add(1)
    }

    /// The codes of `row`; of the first row where a tile of `R` rows has no such one.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn row<const R: usize>(&self, row: usize) -> *const u8 {
        self.codes.wrapping_add(if row < R { row * self.stride } else { 0 })
    }
}

/// Memory that will be wanted soon: a tile asks for `step` bytes of it with each group.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    start: *const i8,
    step: usize,
}

impl Ahead {
    /// Nothing.
    pub(crate) const NONE: Ahead = Ahead { start: core::ptr::null(), step: 0 };

    /// Bytes that come into the cache at once.
    const LINE: usize = 64;

    /// Part `part` of `parts` of the `bytes` from `start`, which may lie anywhere, over `groups` groups.
    fn part(start: *const i8, bytes: usize, part: usize, parts: usize, groups: usize) -> Self {
        let share = bytes.div_ceil(parts);
        Self { start: start.wrapping_add(part * share), step: share.div_ceil(groups) }
    }

    /// Calls `fetch` with an address in each line that `groups` groups from `first` on are to ask for.
    #[inline(always)]
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "no instruction for it on stable Rust")
    )]
    pub(crate) fn lines(self, first: usize, groups: usize, fetch: impl Fn(*const i8)) {
        let mut at = 0;
        while at < groups * self.step {
            fetch(self.start.wrapping_add(first * self.step + at));
            at += Self::LINE;
        }
    }
}

/// An int8 matrix kernel: the inner loop of a linear step.
pub(crate) trait Int8Tile: Copy {
    /// Rows of a full tile.
    const ROWS: usize;
    /// Tiles begin at multiples of this many rows: 2 where codes stand in pairs of rows.
    const ROW_STEP: usize = 1;
    /// Whether [`TileInput::ahead`] is of use to it.
    const FETCHES: bool = false;
    /// Panels of a full tile.
    const PANELS: usize;
    /// What activation codes are xor-ed with: 0 for signed ones, 0x80 where the instruction wants one side unsigned.
    const FLIP: u8;

    /// `out[row][panel][channel] = Σ (code - zero point) · weight` for `R` rows and `P` panels.
    ///
    /// # Safety
    /// `input` describes readable memory for `R` rows and `P` panels, `R ≤ ROWS`, `P ≤ PANELS`.
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators);
}

/// What becomes of a sum.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Applied after the bias.
    pub activation: Activation,
    /// Whether the result is added to what stands in the output.
    pub residual: bool,
}

/// A linear step over int8 codes.
pub(crate) struct LinearInt8<'a> {
    /// Rows of `code_stride(inputs)` bytes.
    pub(crate) codes: &'a [u8],
    pub(crate) stride: usize,
    /// Each row's quantization parameters.
    pub(crate) params: &'a [QuantParams],
    pub(crate) panels: Panels,
    /// `panels.bytes()` bytes, aligned to 64.
    pub(crate) weights: &'a [u8],
    pub(crate) epilogue: Epilogue,
    /// `[rows, outputs]`.
    pub(crate) out: SharedMut<'a, f32>,
}

/// A linear step over f32 rows.
pub(crate) struct LinearF32<'a> {
    /// `[rows, inputs]`.
    pub(crate) input: &'a [f32],
    pub(crate) panels: Panels,
    /// `panels.bytes()` bytes, aligned to 64.
    pub(crate) weights: &'a [u8],
    pub(crate) epilogue: Epilogue,
    /// `[rows, outputs]`.
    pub(crate) out: SharedMut<'a, f32>,
}

/// A part of a linear step.
pub(crate) struct Task {
    pub(crate) panels: Range<usize>,
    pub(crate) rows: Range<usize>,
    /// The first panel of the task that this one's worker will probably have next, unless it has the same panels.
    pub(crate) next: Option<usize>,
}

/// The output channels of `panel` that exist.
fn channels(panels: &Panels, panel: usize) -> Range<usize> {
    panel * PANEL..((panel + 1) * PANEL).min(panels.outputs as usize)
}

/// Sixteen f32 in a panel, `at` bytes from its start.
///
/// # Safety
/// They lie in the panel, and `at` is a multiple of 4.
#[inline(always)]
unsafe fn block_at<'a>(panel: *const u8, at: usize) -> &'a Block {
    // SAFETY: the caller's promise.
    unsafe { &*panel.add(at).cast::<Block>() }
}

/// Residual, store.
///
/// # Safety
/// `place` lies in `out` and belongs to the calling task.
#[inline(always)]
unsafe fn finish<S: Simd>(s: S, residual: bool, value: S::V, out: SharedMut<'_, f32>, place: Range<usize>) {
    // SAFETY: the caller's promise.
    let place = unsafe { out.part(place) };
    if let Some(block) = place.as_mut_array::<LANES>() {
        let value = if residual { s.add(value, s.load(block)) } else { value };
        s.store(value, block);
    } else {
        let value = if residual { s.add(value, s.load_part(place)) } else { value };
        s.store_part(value, place);
    }
}

/// `rows` of `panels`; meanwhile the panels from `next` on come into the cache. `next` may lie behind the last panel:
/// the next step's weights do.
///
/// # Safety
/// The slices of `step` have the sizes that it says, `panels` and `rows` lie in it, and no other task has any of those
/// rows of those panels.
#[inline(always)]
pub(crate) unsafe fn linear_int8<S: Simd, T: Int8Tile>(s: S, t: T, step: &LinearInt8<'_>, task: Task) {
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
            let start = step.weights.as_ptr().wrapping_add(next * panel_stride).cast();
            Ahead::part(start, T::PANELS * panel_stride, tile, tiles, groups)
        }
        _ => Ahead::NONE,
    };
    // Tiles alike in height: a low one costs more than its share.
    let steps = rows.len().div_ceil(T::ROW_STEP);
    let (low, high) = (steps / tiles.max(1), steps % tiles.max(1));
    let (mut row, mut tile) = (rows.start, 0);
    while row < rows.end {
        // Within these bounds by the division above; said again so that no tile can be too high or empty.
        let even = ((low + usize::from(tile < high)) * T::ROW_STEP).clamp(1, T::ROWS);
        let height = even.min(rows.end - row);
        let input = TileInput {
            // SAFETY: `row` is one of the step's, `panel` one of the step's.
            codes: unsafe { step.codes.as_ptr().add(row * step.stride) },
            stride: step.stride,
            // SAFETY: as above.
            params: unsafe { step.params.as_ptr().add(row) },
            // SAFETY: as above.
            panel: unsafe { step.weights.as_ptr().add(panel * panel_stride).cast() },
            panel_stride,
            groups,
            group: step.panels.packing.group(),
            ahead: ahead(tile),
        };
        // SAFETY: rows and panels exist.
        unsafe {
            self::tile::<T, FULL>(t, height, &input, &mut sums);
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
unsafe fn tile<T: Int8Tile, const FULL: bool>(t: T, rows: usize, input: &TileInput, out: &mut Accumulators) {
    macro_rules! for_rows {
        ($($rows:literal)*) => {{
            // A kernel with a higher tile than these does not compile.
            const { assert!(T::ROWS <= [$($rows),*].len() && T::ROWS <= MAX_TILE_ROWS) };
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
                _ => unreachable!("a tile of {rows} rows"),
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
    // Asked once a tile: each activation has a loop of its own, with its constants in registers.
    macro_rules! with {
        ($activation:expr) => {
            for panel in 0..panels {
                // SAFETY: the caller's promise.
                unsafe {
                    let sums = sums.of_panel(rows, panel);
                    scale_rows::<S, $activation>(s, step, first_row, first_panel + panel, sums);
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

// The activations that have a loop of their own, and the others. A constant and no closure: a closure is a function of
// its own, compiled without the instructions of the one that it stands in.
const IDENTITY: u8 = 0;
const QUICK_GELU: u8 = 1;
const ANY: u8 = 2;

/// The rows of one panel.
///
/// # Safety
/// As [`linear_int8`].
#[inline(always)]
unsafe fn scale_rows<'s, S: Simd, const ACTIVATION: u8>(
    s: S,
    step: &LinearInt8<'_>,
    first_row: usize,
    panel: usize,
    sums: impl Iterator<Item = &'s [i32; PANEL]>,
) {
    let outputs = step.panels.outputs as usize;
    let channels = channels(&step.panels, panel);
    // SAFETY: the trailer belongs to the panel.
    let (scale, bias) = unsafe {
        let trailer = step.weights.as_ptr();
        (
            s.load(block_at(trailer, step.panels.scale_at(channels.start))),
            s.load(block_at(trailer, step.panels.bias_at(channels.start))),
        )
    };
    for (sums, (row, row_params)) in sums.zip(step.params.iter().enumerate().skip(first_row)) {
        let value = s.mul_add(s.mul(s.load_i32(sums), s.splat(row_params.scale)), scale, bias);
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

/// `rows` of `panels`: each sum is one chain of fused multiply-adds from the first input to the last.
///
/// # Safety
/// As [`linear_int8`].
#[inline(always)]
pub(crate) unsafe fn linear_f32<S: Simd>(s: S, step: &LinearF32<'_>, task: Task) {
    let Task { panels, rows, .. } = task;
    for panel in panels {
        let mut row = rows.start;
        while row < rows.end {
            // SAFETY: the caller's promise.
            unsafe {
                if row + F32_ROWS <= rows.end {
                    f32_tile::<S, F32_ROWS>(s, step, row, panel);
                    row += F32_ROWS;
                } else {
                    f32_tile::<S, 1>(s, step, row, panel);
                    row += 1;
                }
            }
        }
    }
}

/// `R` rows of one panel.
///
/// # Safety
/// As [`linear_int8`]; the rows exist.
#[inline(always)]
unsafe fn f32_tile<S: Simd, const R: usize>(s: S, step: &LinearF32<'_>, row: usize, panel: usize) {
    let (inputs, outputs) = (step.panels.inputs as usize, step.panels.outputs as usize);
    let channels = channels(&step.panels, panel);
    let mut sums = [s.splat(0.0); R];
    let rows = &step.input[row * inputs..][..R * inputs];
    for k in 0..inputs {
        // SAFETY: `k` is one of the panel's inputs.
        let weights =
            s.load(unsafe { block_at(step.weights.as_ptr(), step.panels.weight_at(channels.start, k)) });
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = s.mul_add(s.splat(rows[r * inputs + k]), weights, *sum);
        }
    }
    // SAFETY: the biases belong to the panel.
    let bias = s.load(unsafe { block_at(step.weights.as_ptr(), step.panels.bias_at(channels.start)) });
    for (r, sum) in sums.into_iter().enumerate() {
        let place = (row + r) * outputs + channels.start..(row + r) * outputs + channels.end;
        // SAFETY: these channels are this task's.
        unsafe {
            let value = activate(s, step.epilogue.activation, s.add(sum, bias));
            finish(s, step.epilogue.residual, value, step.out, place);
        }
    }
}
