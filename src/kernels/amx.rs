//! x86-64 with AMX: `tdpbusd` multiplies tiles, sixteen rows of 64 codes by the 64 inputs of a panel's sixteen channels. Everything else
//! is AVX-512's.
//!
//! A panel in groups of four inputs is made of such tiles as it stands: sixteen groups are sixteen rows of 64 bytes. So few
//! instructions do the products that two other things decide: how soon weights come from memory, and what is done with the sums.
//! Weights are read once for up to eighty rows and prefetched well ahead; the sums of the panels before are scaled and stored between
//! the products of the next, which leave the vector units free.
//!
//! Tile registers are configured by each task and released in its end: no state is left to a thread, or to its next owner.

use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::Range;

use super::avx512vnni::Avx512Vnni;
use super::layout::{PANEL, Piece};
use super::ops::linear::{Task, TaskSize};
use super::ops::linear_int8::{ANY, IDENTITY, Int8Product, LinearInt8, QUICK_GELU, RowSums, scale_rows};
use super::ops::math::Activation;
use super::ops::quantize::QuantParams;
use super::ops::tile::{Accumulators, TileInput};

/// The instructions are there, and the operating system keeps the tiles: see [`Simd`](super::simd::Simd).
#[derive(Clone, Copy)]
pub(super) struct Amx(pub(super) ());

/// Rows of a tile.
const ROWS: usize = 16;
/// Tiles of rows that go through a panel together: with one of weights and two of codes they are the eight registers.
const TILES: usize = 5;
/// Bytes of a tile's row, and inputs in a tile of codes or weights.
const DEPTH: usize = 64;
/// Groups of four inputs in a tile of weights.
const GROUPS: usize = DEPTH / 4;
/// Bytes of a tile.
const TILE: usize = ROWS * DEPTH;
/// Panels between the one at work and the one that is prefetched.
const AHEAD: usize = 2;

// The registers: accumulators from 0 on, then these.
const WEIGHTS: u8 = 5;
const CODES: u8 = 6;
/// The codes of the last tile, which may have fewer rows.
const LAST_CODES: u8 = 7;

/// What LDTILECFG reads: palette 1, and for each register its rows and their bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Configured tile registers.
struct Tiles {
    rows: usize,
}

impl Tiles {
    /// None yet.
    const NONE: Self = Self { rows: 0 };

    /// For `rows` rows, at most [`TILES`] tiles; returns their number. Registers' contents are lost where it was another number.
    #[inline(always)]
    fn configure(&mut self, rows: usize) -> usize {
        let tiles = rows.div_ceil(ROWS);
        if self.rows == rows {
            return tiles;
        }
        self.rows = rows;
        let last = (rows - (tiles - 1) * ROWS) as u8;
        let mut to =
            Configuration { palette: 1, start_row: 0, reserved: [0; _], row_bytes: [0; _], rows: [0; _] };
        for (register, (row_bytes, rows)) in to.row_bytes.iter_mut().zip(&mut to.rows).enumerate().take(8) {
            let accumulates_last = register < TILES && (register + 1).is_multiple_of(tiles);
            let short = accumulates_last || register == LAST_CODES as usize;
            (*row_bytes, *rows) = (DEPTH as u16, if short { last } else { ROWS as u8 });
        }
        // SAFETY: an `Amx` exists only where the instruction may be used; the configuration is one that palette 1 allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const to, options(nostack, preserves_flags, readonly)) };
        tiles
    }
}

impl Drop for Tiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

// The registers live from one of these to the next: nothing else in the program touches them, and the compiler does not know them.

#[inline(always)]
unsafe fn zero<const REGISTER: u8>() {
    // SAFETY: the caller configured the register.
    unsafe { asm!("tilezero tmm{}", const REGISTER, options(nostack, preserves_flags, nomem)) };
}

#[inline(always)]
unsafe fn load<const REGISTER: u8>(from: *const u8, row_to_row: usize) {
    // SAFETY: the caller configured the register, whose rows can be read.
    unsafe {
        asm!("tileloadd tmm{}, [{} + {}*1]", const REGISTER, in(reg) from, in(reg) row_to_row,
            options(nostack, preserves_flags, readonly));
    }
}

#[inline(always)]
unsafe fn store<const REGISTER: u8>(to: *mut i32) {
    // SAFETY: the caller configured the register, whose rows can be written.
    unsafe {
        asm!("tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) DEPTH, const REGISTER,
            options(nostack, preserves_flags));
    }
}

/// Adds the products of unsigned codes with the weights.
#[inline(always)]
unsafe fn multiply<const SUMS: u8, const CODES: u8>() {
    // SAFETY: the caller configured the registers, so that they fit one another.
    unsafe {
        asm!("tdpbusd tmm{}, tmm{}, tmm{}", const SUMS, const CODES, const WEIGHTS,
            options(nostack, preserves_flags, nomem));
    }
}

/// Calls `$body` with `$number` a literal for each accumulator of `$count`.
macro_rules! for_accumulators {
    ($count:expr, $number:ident => $body:block) => {
        for_accumulators!(@ $count, $number => $body, 0 1 2 3 4)
    };
    (@ $count:expr, $number:ident => $body:block, $($literal:literal)*) => {
        $(if $literal < $count {
            const $number: usize = $literal;
            $body
        })*
    };
}

/// What the codes of `T` tiles of rows and the weights of `P` panels sum up to, over `groups` groups of inputs and without the zero points:
/// panel by panel, tile by tile. `codes` are the first row's and the bytes from one row to the next, `panels` the same of panels.
/// As many bytes from `ahead` on are prefetched, and what is pending is finished.
///
/// # Safety
/// The CPU has the instructions, the tiles are configured for so many rows, codes and panels can be read, `out` has room.
#[inline(always)]
unsafe fn sum_up<const T: usize, const P: usize>(
    codes: (*const u8, usize),
    panels: (*const i8, usize),
    groups: usize,
    ahead: Option<*const i8>,
    mut pending: Option<&mut Pending<'_>>,
    out: &mut Accumulators,
) {
    const {
        assert!(T * P <= TILES);
    }
    let turns = groups.div_ceil(GROUPS).max(1);
    let finish = pending.as_ref().map_or(0, |pending| pending.left()).div_ceil(turns);
    // SAFETY: the caller's promise.
    unsafe {
        for_accumulators!(T * P, NUMBER => { zero::<{ NUMBER as u8 }>() });
        let mut rest = Rest([0; TILE]);
        for turn in 0..turns {
            let codes_at = codes.0.add(turn * DEPTH);
            let short = groups - turn * GROUPS;
            for_accumulators!(T * P, NUMBER => {
                let (tile, panel) = (NUMBER % T, NUMBER / T);
                if tile == 0 {
                    let weights = panels.0.add(panel * panels.1 + turn * TILE);
                    if short >= GROUPS {
                        load::<WEIGHTS>(weights.cast(), DEPTH);
                    } else {
                        // Less than a tile.
                        core::ptr::copy_nonoverlapping(weights.cast(), rest.0.as_mut_ptr(), short * DEPTH);
                        load::<WEIGHTS>(rest.0.as_ptr(), DEPTH);
                    }
                }
                let from = codes_at.wrapping_add(tile * ROWS * codes.1);
                if tile + 1 == T {
                    // A single tile of codes stays for all panels.
                    if T > 1 || panel == 0 {
                        load::<LAST_CODES>(from, codes.1);
                    }
                    multiply::<{ NUMBER as u8 }, LAST_CODES>();
                } else {
                    load::<CODES>(from, codes.1);
                    multiply::<{ NUMBER as u8 }, CODES>();
                }
                if let Some(ahead) = ahead {
                    let (from, to) = (NUMBER * GROUPS / T, (NUMBER + 1) * GROUPS / T);
                    for line in from..to {
                        _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add((turn * GROUPS * P + line) * DEPTH));
                    }
                }
            });
            if let Some(pending) = &mut pending {
                pending.finish(finish);
            }
        }
        for_accumulators!(T * P, NUMBER => { store::<{ NUMBER as u8 }>(out.from(NUMBER * ROWS)) });
    }
}

/// Weights of fewer groups than a tile has, with zeros behind them.
#[repr(align(64))]
struct Rest([u8; TILE]);

/// Sums that wait to be scaled and stored.
struct Pending<'a> {
    step: &'a LinearInt8<'a>,
    sums: *const [i32; PANEL],
    rows: Range<usize>,
    /// Rows between a panel's sums and the next's.
    height: usize,
    panels: Range<usize>,
    /// How many rows of the first panel are done.
    done: usize,
}

impl<'a> Pending<'a> {
    /// Rows of panels that are left.
    #[inline(always)]
    fn left(&self) -> usize {
        self.rows.len() * self.panels.len() - self.done
    }

    /// Scales and stores `count` rows of panels, or what is left.
    ///
    /// # Safety
    /// As [`linear`]; a tile wrote the sums.
    #[inline(always)]
    unsafe fn finish(&mut self, count: usize) {
        let mut count = count;
        while count > 0 && !self.panels.is_empty() {
            let part = count.min(self.rows.len() - self.done);
            // SAFETY: the caller's promise.
            unsafe {
                scale(self.step, self.panels.start, self.rows.start, self.done..self.done + part, self.sums)
            };
            (self.done, count) = (self.done + part, count - part);
            if self.done == self.rows.len() {
                self.done = 0;
                self.panels.start += 1;
                self.sums = self.sums.wrapping_add(self.height);
            }
        }
    }
}

/// A panel's sums without the zero points.
struct Products {
    sums: *const [i32; PANEL],
    first_row: usize,
    /// The sum of each channel's weights.
    weights: __m512i,
}

impl RowSums<Avx512Vnni> for Products {
    #[inline(always)]
    unsafe fn at(&self, _: Avx512Vnni, row: usize, params: &QuantParams) -> __m512 {
        // SAFETY: the caller's promise; as they stand the codes are 128 too large.
        unsafe {
            let sums = _mm512_load_si512(self.sums.add(row - self.first_row).cast());
            let zero_point = _mm512_set1_epi32(params.neg_zero_point - 128);
            _mm512_cvtepi32_ps(_mm512_add_epi32(sums, _mm512_mullo_epi32(self.weights, zero_point)))
        }
    }
}

/// Scales and stores the sums of `part` of the rows from `first_row` on, in the channels of `panel`.
///
/// # Safety
/// As [`linear`]; a tile wrote the sums.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn scale(
    step: &LinearInt8<'_>,
    panel: usize,
    first_row: usize,
    part: Range<usize>,
    sums: *const [i32; PANEL],
) {
    let (s, rows) = (Avx512Vnni(()), first_row + part.start..first_row + part.end);
    // SAFETY: the caller's promise.
    unsafe {
        let trailer =
            step.weights.bytes.as_ptr().add(step.panels.sum_at((panel - step.weights.first) * PANEL));
        let sums = Products { sums, first_row, weights: _mm512_load_si512(trailer.cast()) };
        match step.epilogue.activation {
            Activation::Identity => scale_rows::<_, IDENTITY>(s, step, rows, panel, &sums),
            Activation::QuickGelu => scale_rows::<_, QUICK_GELU>(s, step, rows, panel, &sums),
            _ => scale_rows::<_, ANY>(s, step, rows, panel, &sums),
        }
    }
}

impl Int8Product<Avx512Vnni> for Amx {
    const FLIP: u8 = 0x80;
    const ROWS: usize = ROWS * TILES;
    const PANELS: usize = 1;
    const TASK: TaskSize = TaskSize { least_panels: 1, panels: 24, rows: ROWS * TILES, per_worker: 3 };

    #[inline(always)]
    unsafe fn linear(self, _: Avx512Vnni, step: &LinearInt8<'_>, task: Task) {
        // SAFETY: the caller's promise.
        unsafe { linear(step, task) }
    }

    #[inline(always)]
    unsafe fn full_tile(self, input: &TileInput, out: &mut Accumulators) {
        let mut tiles = Tiles::NONE;
        tiles.configure(<Self as Int8Product<Avx512Vnni>>::ROWS);
        // SAFETY: the caller's promise.
        unsafe {
            sum_up::<TILES, 1>(
                (input.codes, input.stride),
                (input.panel, input.panel_stride),
                input.groups,
                None,
                None,
                out,
            );
        }
    }
}

/// `rows` of `panels`, which are at hand; see [`linear_int8`](super::ops::linear_int8::linear_int8).
///
/// # Safety
/// As there; the CPU has the instructions.
#[inline(always)]
unsafe fn linear(step: &LinearInt8<'_>, task: Task) {
    let Task { panels, rows, next } = task;
    let Piece { first, bytes } = step.weights;
    let stride = step.panels.panel_bytes();
    let start = |panel: usize| {
        bytes.as_ptr().wrapping_add(panel.wrapping_sub(first).wrapping_mul(stride)).cast::<i8>()
    };
    // Sums of two passes: those that are scaled and those that are written.
    let mut buffers = [Accumulators::new(), Accumulators::new()];
    let [mut free, mut full] = buffers.each_mut();
    let none = Pending { step, sums: core::ptr::null(), rows: 0..0, height: 0, panels: 0..0, done: 0 };
    let mut pending = none;
    let mut tiles = Tiles::NONE;
    // Blocks of nearly equal numbers of tiles.
    let all = rows.len().div_ceil(ROWS);
    let blocks = all.div_ceil(TILES);
    let mut row = rows.start;
    for block in 0..blocks {
        let height = (all * (block + 1) / blocks - all * block / blocks) * ROWS;
        let height = height.min(rows.end - row);
        let count = tiles.configure(height);
        // SAFETY: the row is one of the step's.
        let codes = unsafe { (step.codes.as_ptr().add(row * step.stride), step.stride) };
        let mut panel = panels.start;
        while panel < panels.end {
            let left = panels.end - panel;
            // Weights come once for all blocks.
            let ahead = match next {
                _ if block > 0 => None,
                _ if panel + AHEAD < panels.end => Some(start(panel + AHEAD)),
                Some(next) => Some(start(next + panel + AHEAD - panels.end)),
                None => None,
            };
            macro_rules! pass {
                ($tiles:literal, $panels:literal) => {{
                    let panels = (start(panel), stride);
                    // SAFETY: the caller's promise.
                    unsafe {
                        sum_up::<$tiles, $panels>(
                            codes,
                            panels,
                            step.panels.groups(),
                            ahead,
                            Some(&mut pending),
                            free,
                        )
                    };
                    $panels
                }};
            }
            let done = match count {
                1 if left >= 4 => pass!(1, 4),
                1 => pass!(1, 1),
                2 if left >= 2 => pass!(2, 2),
                2 => pass!(2, 1),
                3 => pass!(3, 1),
                4 => pass!(4, 1),
                _ => pass!(5, 1),
            };
            pending = Pending {
                step,
                sums: free.from(0).cast(),
                rows: row..row + height,
                height: count * ROWS,
                panels: panel..panel + done,
                done: 0,
            };
            (free, full) = (full, free);
            panel += done;
        }
        row += height;
    }
    let left = pending.left();
    // SAFETY: the caller's promise.
    unsafe { pending.finish(left) };
}
