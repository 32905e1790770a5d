//! What an instruction set's int8 matrix kernel is given and what it returns.

use core::mem::MaybeUninit;

use super::quantize::QuantParams;
use crate::kernels::layout::PANEL;

/// The most rows that a kernel's tile has: AMX's five tiles of sixteen, otherwise as many as registers hold.
pub(crate) const MAX_TILE_ROWS: usize = if cfg!(target_arch = "x86_64") { 80 } else { HELD_ROWS };
/// The most rows of a tile whose sums are held in vector registers.
pub(crate) const HELD_ROWS: usize = 13;
/// The most panels that a kernel's tile has: vectors as wide as a panel leave registers for several.
pub(crate) const MAX_TILE_PANELS: usize = if cfg!(target_arch = "x86_64") { 4 } else { 1 };

/// Sums of sixteen channels in the largest tile: no tile of more rows than [`HELD_ROWS`] has several panels.
const MAX_SUMS: usize =
    if MAX_TILE_ROWS > HELD_ROWS * MAX_TILE_PANELS { MAX_TILE_ROWS } else { HELD_ROWS * MAX_TILE_PANELS };

/// The sums of a tile: for each row and panel, its sixteen channels. Each sixteen are one cache line. They are
/// uninitialised until a tile writes them: zeroing takes time.
#[repr(C, align(64))]
pub(crate) struct Accumulators([MaybeUninit<[i32; PANEL]>; MAX_SUMS]);

impl Accumulators {
    /// Not written yet.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_SUMS])
    }

    /// The place of the sums from number `index` on.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]
    #[inline(always)]
    pub(crate) fn from(&mut self, index: usize) -> *mut i32 {
        self.0.as_mut_ptr().wrapping_add(index).cast()
    }

    /// The place of the sums of `row` and `panel`.
    #[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
    #[inline(always)]
    pub(crate) fn place(&mut self, row: usize, panel: usize) -> *mut i32 {
        self.0[row * MAX_TILE_PANELS + panel].as_mut_ptr().cast()
    }

    /// The place of the first row's sums; the next row's are [`ROW`] bytes on.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn start(&mut self) -> *mut i32 {
        self.0.as_mut_ptr().cast()
    }

    /// The sums of `row` and `panel`.
    ///
    /// # Safety
    /// A tile with such a row and panel wrote them.
    #[inline(always)]
    pub(super) unsafe fn of(&self, row: usize, panel: usize) -> &[i32; PANEL] {
        // SAFETY: the caller's promise.
        unsafe { self.0.get_unchecked(row * MAX_TILE_PANELS + panel).assume_init_ref() }
    }
}

/// Bytes from one row's sums to the next's.
#[cfg(target_arch = "aarch64")]
pub(crate) const ROW: usize = size_of::<[i32; PANEL]>() * MAX_TILE_PANELS;

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
    /// What to prefetch meanwhile; never read.
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
    #[cfg(any(feature = "scalar", not(target_arch = "aarch64")))]
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

/// Memory that will be read soon: a tile prefetches `step` bytes of it with each group.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    start: *const i8,
    step: usize,
}

impl Ahead {
    /// Nothing to prefetch.
    pub(crate) const NONE: Ahead = Ahead { start: core::ptr::null(), step: 0 };

    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// Part `part` of `parts` of the `bytes` from `start`, which may lie anywhere, over `groups` groups.
    pub(super) fn part(start: *const i8, bytes: usize, part: usize, parts: usize, groups: usize) -> Self {
        let share = bytes.div_ceil(parts);
        Self { start: start.wrapping_add(part * share), step: share.div_ceil(groups) }
    }

    /// Calls `fetch` with an address in each cache line that `groups` groups from `first` on prefetch.
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

/// An int8 matrix kernel that holds a tile's sums in vector registers: the inner loop of a linear step.
pub(crate) trait Int8Tile: Copy {
    /// Rows of a full tile.
    const ROWS: usize;
    /// Tiles begin at multiples of this many rows: 2 where codes are stored in pairs of rows.
    const ROW_STEP: usize = 1;
    /// Whether it prefetches [`TileInput::ahead`].
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
