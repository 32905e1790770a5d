//! Matrix products in f32 with one order of additions.
//!
//! Each element of `C += A · B` is worked out as: for each `DEPTH` inner indices in turn, one chain of fused
//! multiply-adds from zero, added to the element. Neither tile nor thread nor instruction set shows in the result.

use super::parallel;

/// Inner indices of a chain.
const DEPTH: usize = 256;
/// Tiles high that a thread's piece of rows is, at most.
const PIECE: usize = 16;
/// Pieces for each thread, at least, where there are rows for them.
const PIECES_PER_THREAD: usize = 4;
/// Tiles beside one another that are gone through row by row.
const STRIP: usize = 16;
/// The most values that a tile holds.
const MOST: usize = 12 * 32;

/// A matrix, or a part of one, or one turned over: element `(i, j)` stands at `i · row_step + j · col_step`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a> View<'a> {
    /// All of a row-major matrix with `cols` columns.
    pub fn new(values: &'a [f32], cols: usize) -> Self {
        let rows = values.len().checked_div(cols).unwrap_or(0);
        Self::strided(values, rows, cols, cols)
    }

    /// `rows` rows of `cols` values, which begin `step` apart.
    pub fn strided(values: &'a [f32], rows: usize, cols: usize, step: usize) -> Self {
        assert!(rows == 0 || cols == 0 || values.len() >= (rows - 1) * step + cols);
        Self { values, rows, cols, row_step: step, col_step: 1 }
    }

    /// Its transpose.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }

    /// Its elements, row after row.
    pub fn to_vec(self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            let row = self.values[row * self.row_step..].iter().step_by(self.col_step);
            values.extend(row.take(self.cols));
        }
        values
    }
}

/// What a product is done with besides its factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Only elements on and below the diagonal are sure to be right; others may be left out.
    Lower,
}

/// `C += sign · A · B`; row `i` of `C` begins at `i · step` of `c`, which may hold more columns than `B` has.
pub fn add_product(c: &mut [f32], step: usize, a: View<'_>, b: View<'_>, sign: f32, part: Part) {
    assert!(a.cols == b.rows && (a.rows == 0 || c.len() >= (a.rows - 1) * step + b.cols));
    let Tile { rows, cols, product } = *fastest();
    let pieces = PIECES_PER_THREAD * parallel::threads();
    let piece_rows = a.rows.div_ceil(rows).div_ceil(pieces).clamp(1, PIECE) * rows;
    let mut packed = vec![0.0; b.cols.next_multiple_of(cols) * DEPTH.min(b.rows)];
    for from in (0..a.cols).step_by(DEPTH) {
        let depth = DEPTH.min(a.cols - from);
        let packed = &mut packed[..b.cols.next_multiple_of(cols) * depth];
        let tiles = packed.chunks_mut(cols * depth).enumerate();
        parallel::each(tiles, |(tile, out)| pack(b.transposed(), tile * cols, from, cols, 1.0, out));
        let packed = &*packed;
        let pieces = c.chunks_mut(piece_rows * step).take(a.rows.div_ceil(piece_rows)).enumerate();
        // Of a lower triangle the last pieces have the most to do: they come first.
        parallel::each(pieces.rev(), |(piece, c)| {
            let first = piece * piece_rows;
            let height = piece_rows.min(a.rows - first);
            let mut rows_packed = vec![0.0; height.next_multiple_of(rows) * depth];
            for (tile, out) in rows_packed.chunks_mut(rows * depth).enumerate() {
                pack(a, first + tile * rows, from, rows, sign, out);
            }
            let mut sums = [0.0; MOST];
            let sums = &mut sums[..rows * cols];
            // A tile's rows stay in the first-level cache, the columns of a strip in the second.
            for (strip, packed) in packed.chunks(STRIP * cols * depth).enumerate() {
                for (tile, rows_packed) in rows_packed.chunks_exact(rows * depth).enumerate() {
                    let row = tile * rows;
                    let high = rows.min(height - row);
                    for (tile, packed) in packed.chunks_exact(cols * depth).enumerate() {
                        let first_col = (strip * STRIP + tile) * cols;
                        let width = cols.min(b.cols - first_col);
                        if part == Part::Lower && first_col >= first + row + high {
                            continue;
                        }
                        let place = &mut c[row * step + first_col..];
                        if high == rows && width == cols {
                            product(rows_packed, packed, place, step);
                            continue;
                        }
                        sums.fill(0.0);
                        product(rows_packed, packed, sums, cols);
                        for (place, sums) in place.chunks_mut(step).zip(sums.chunks_exact(cols)).take(high) {
                            place.iter_mut().zip(sums).take(width).for_each(|(c, sum)| *c += sum);
                        }
                    }
                }
            }
        });
    }
}

/// `A · B`, row-major.
pub fn product(a: View<'_>, b: View<'_>) -> Vec<f32> {
    let mut c = vec![0.0; a.rows * b.cols];
    add_product(&mut c, b.cols, a, b, 1.0, Part::Whole);
    c
}

/// `Xᵀ · X` of a matrix with `cols` columns added to the symmetric `[cols, cols]` matrix `h`.
pub fn add_gram(h: &mut [f32], x: &[f32], cols: usize) {
    /// Rows and columns that are mirrored together: two such blocks fit the first-level cache.
    const BLOCK: usize = 32;
    let x = View::new(x, cols);
    add_product(h, cols, x.transposed(), x, 1.0, Part::Lower);
    for first_row in (0..cols).step_by(BLOCK) {
        for first_col in (first_row..cols).step_by(BLOCK) {
            for row in first_row..cols.min(first_row + BLOCK) {
                for col in first_col.max(row + 1)..cols.min(first_col + BLOCK) {
                    h[row * cols + col] = h[col * cols + row];
                }
            }
        }
    }
}

/// `count` rows of `a` from `first`, times `sign`, at the inner indices from `from` on: `count` values for each index that `out` has
/// room for, zeros behind the last row.
fn pack(a: View<'_>, first: usize, from: usize, count: usize, sign: f32, out: &mut [f32]) {
    let height = count.min(a.rows - first);
    let start = first * a.row_step + from * a.col_step;
    if a.row_step == 1 {
        for (k, out) in out.chunks_exact_mut(count).enumerate() {
            let values = &a.values[start + k * a.col_step..][..height];
            out[..height].iter_mut().zip(values).for_each(|(out, x)| *out = sign * x);
            out[height..].fill(0.0);
        }
    } else {
        let depth = out.len() / count;
        for i in 0..height {
            let values = a.values[start + i * a.row_step..].iter().step_by(a.col_step).take(depth);
            out[i..].iter_mut().step_by(count).zip(values).for_each(|(out, x)| *out = sign * x);
        }
        for i in height..count {
            out[i..].iter_mut().step_by(count).for_each(|out| *out = 0.0);
        }
    }
}

/// The part of a product that stays in registers.
struct Tile {
    rows: usize,
    cols: usize,
    /// Of packed rows and columns: adds the `rows · cols` sums to values whose rows begin so far apart as the last argument says.
    product: fn(&[f32], &[f32], &mut [f32], usize),
}

/// A tile for any machine, and for those with 256 bits.
const PORTABLE: Tile = Tile { rows: 6, cols: 16, product: chains::<6, 16> };

/// The tile for the best instructions at hand: all give the same bits.
fn fastest() -> &'static Tile {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_fma(a: &[f32], b: &[f32], c: &mut [f32], step: usize) {
            chains::<6, 16>(a, b, c, step);
        }
        const FMA: Tile = Tile {
            product: |a, b, c, step| {
                // SAFETY: the tile is given only to a CPU that has the instructions.
                unsafe { with_fma(a, b, c, step) }
            },
            ..PORTABLE
        };
        const AVX512: Tile = Tile {
            rows: 12,
            cols: 32,
            product: |a, b, c, step| {
                // SAFETY: the tile is given only to a CPU that has the instructions.
                unsafe { with_avx512(a, b, c, step) }
            },
        };
        if std::is_x86_feature_detected!("avx512f") {
            return &AVX512;
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return &FMA;
        }
    }
    &PORTABLE
}

#[inline(always)]
fn chains<const ROWS: usize, const COLS: usize>(a: &[f32], b: &[f32], c: &mut [f32], step: usize) {
    let mut sums = [[0f32; COLS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<COLS>().0) {
        for r in 0..ROWS {
            for c in 0..COLS {
                sums[r][c] = a[r].mul_add(b[c], sums[r][c]);
            }
        }
    }
    for (c, sums) in c.chunks_mut(step).zip(&sums) {
        c[..COLS].iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
    }
}

/// [`chains`] of 12 rows and 32 columns: 24 of 32 registers hold sums, which the compiler by itself does not manage.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512(a: &[f32], b: &[f32], c: &mut [f32], step: usize) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; 12];
    for (a, b) in a.as_chunks::<12>().0.iter().zip(b.as_chunks::<32>().0) {
        // SAFETY: both lie in the 32 values.
        let b = unsafe { [_mm512_loadu_ps(b.as_ptr()), _mm512_loadu_ps(b.as_ptr().add(16))] };
        for (sums, a) in sums.iter_mut().zip(a) {
            let a = _mm512_set1_ps(*a);
            sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
        }
    }
    for (c, sums) in c.chunks_mut(step).zip(sums) {
        for (c, sum) in c[..32].as_chunks_mut::<16>().0.iter_mut().zip(sums) {
            // SAFETY: these are 16 values.
            unsafe { _mm512_storeu_ps(c.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(c.as_ptr()), sum)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl View<'_> {
        fn at(&self, row: usize, col: usize) -> f32 {
            self.values[row * self.row_step + col * self.col_step]
        }
    }

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The order that the module promises, plainly.
    fn expected(a: View<'_>, b: View<'_>, sign: f32, c: f32, row: usize, col: usize) -> f32 {
        let mut c = c;
        for from in (0..a.cols).step_by(DEPTH) {
            let depth = DEPTH.min(a.cols - from);
            c += (from..from + depth).fold(0.0, |sum, k| (sign * a.at(row, k)).mul_add(b.at(k, col), sum));
        }
        c
    }

    #[test]
    fn products_have_the_promised_bits() {
        for (rows, inner, cols) in [(1, 1, 1), (7, 300, 17), (100, 520, 33), (97, 64, 130)] {
            let (a, b) = (numbers(rows * inner, 1), numbers(inner * cols, 2));
            let step = cols + 3;
            let before = numbers(rows * step, 3);
            let (a, b) = (View::new(&a, inner), View::new(&b, cols));
            for part in [Part::Whole, Part::Lower] {
                let mut c = before.clone();
                add_product(&mut c, step, a, b, -1.0, part);
                for row in 0..rows {
                    for col in 0..step {
                        let at = row * step + col;
                        if col >= cols {
                            assert_eq!(c[at].to_bits(), before[at].to_bits());
                        } else if part == Part::Whole || col <= row {
                            let wanted = expected(a, b, -1.0, before[at], row, col);
                            assert_eq!(
                                c[at].to_bits(),
                                wanted.to_bits(),
                                "{rows} {inner} {cols} {row} {col}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_fastest_tile_gives_the_bits_of_plain_chains() {
        let Tile { rows, cols, product } = *fastest();
        let (a, b) = (numbers(rows * DEPTH, 4), numbers(cols * DEPTH, 5));
        let mut sums = vec![0.0; rows * cols];
        product(&a, &b, &mut sums, cols);
        for (at, sum) in sums.iter().enumerate() {
            let (row, col) = (at / cols, at % cols);
            let wanted = (0..DEPTH).fold(0f32, |sum, k| a[k * rows + row].mul_add(b[k * cols + col], sum));
            assert_eq!(sum.to_bits(), wanted.to_bits(), "{row} {col}");
        }
    }

    #[test]
    fn transposes_and_grams() {
        let x = numbers(90 * 20, 6);
        let mut h = vec![0.0; 400];
        add_gram(&mut h, &x, 20);
        let plain = product(View::new(&x, 20).transposed(), View::new(&x, 20));
        for row in 0..20 {
            for col in 0..20 {
                assert_eq!(h[row * 20 + col], plain[row.max(col) * 20 + row.min(col)]);
                let wanted: f64 =
                    (0..90).map(|k| f64::from(x[k * 20 + row]) * f64::from(x[k * 20 + col])).sum();
                assert!((f64::from(h[row * 20 + col]) - wanted).abs() < 1e-4);
            }
        }
    }
}
