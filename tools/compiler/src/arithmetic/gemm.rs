//! Matrix products in f32 with one order of additions.
//!
//! Each element of `C += A · B` is worked out as: for each `DEPTH` inner indices in turn, one chain of fused
//! multiply-adds from zero, added to the element. Neither tile nor thread nor instruction set shows in the result.

use super::parallel;

/// Inner indices of a chain.
const DEPTH: usize = 256;
/// Rows and columns of the tile that stays in registers.
const ROWS: usize = 6;
const COLS: usize = 16;
/// Rows of `C` in a thread's piece: a multiple of [`ROWS`].
const PIECE: usize = 16 * ROWS;

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
        (0..self.rows).flat_map(|row| (0..self.cols).map(move |col| self.at(row, col))).collect()
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        self.values[row * self.row_step + col * self.col_step]
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
    let micro = micro_kernel();
    let tiles_across = b.cols.div_ceil(COLS);
    let mut packed = vec![0.0; tiles_across * COLS * DEPTH.min(b.rows)];
    for from in (0..a.cols).step_by(DEPTH) {
        let depth = DEPTH.min(a.cols - from);
        let tiles = packed[..tiles_across * COLS * depth].chunks_mut(COLS * depth).enumerate();
        parallel::each(tiles, |(tile, out)| pack_cols(b, from, tile * COLS, out));
        let packed = &packed;
        let pieces = c.chunks_mut(PIECE * step).take(a.rows.div_ceil(PIECE)).enumerate();
        parallel::each(pieces, |(piece, c)| {
            let first = piece * PIECE;
            let mut rows_packed = vec![0.0; ROWS * depth];
            for row in (first..a.rows.min(first + PIECE)).step_by(ROWS) {
                pack_rows(a, from, row, sign, &mut rows_packed);
                let height = ROWS.min(a.rows - row);
                let across = match part {
                    Part::Whole => tiles_across,
                    Part::Lower => (row + height).div_ceil(COLS).min(tiles_across),
                };
                for (tile, columns) in packed.chunks_exact(COLS * depth).take(across).enumerate() {
                    let mut sums = [[0.0; COLS]; ROWS];
                    micro(&rows_packed, columns, &mut sums);
                    let first_col = tile * COLS;
                    let width = COLS.min(b.cols - first_col);
                    for (r, sums) in sums.iter().enumerate().take(height) {
                        let place = &mut c[(row - first + r) * step + first_col..][..width];
                        place.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
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
    let x = View::new(x, cols);
    add_product(h, cols, x.transposed(), x, 1.0, Part::Lower);
    for row in 0..cols {
        for col in row + 1..cols {
            h[row * cols + col] = h[col * cols + row];
        }
    }
}

/// [`COLS`] columns of `b` from `first`, [`COLS`] values for each inner index; zeros behind the last column.
fn pack_cols(b: View<'_>, from: usize, first: usize, out: &mut [f32]) {
    let width = COLS.min(b.cols - first);
    for (k, out) in out.chunks_exact_mut(COLS).enumerate() {
        for (j, out) in out[..width].iter_mut().enumerate() {
            *out = b.at(from + k, first + j);
        }
        out[width..].fill(0.0);
    }
}

/// [`ROWS`] rows of `a` from `first`, times `sign`, [`ROWS`] values for each inner index; zeros behind the last row.
fn pack_rows(a: View<'_>, from: usize, first: usize, sign: f32, out: &mut [f32]) {
    let height = ROWS.min(a.rows - first);
    for (k, out) in out.chunks_exact_mut(ROWS).enumerate() {
        for (i, out) in out[..height].iter_mut().enumerate() {
            *out = sign * a.at(first + i, from + k);
        }
        out[height..].fill(0.0);
    }
}

type Sums = [[f32; COLS]; ROWS];
type Micro = fn(&[f32], &[f32], &mut Sums);

/// The tile's product, compiled for the best instructions at hand: all give the same bits.
fn micro_kernel() -> Micro {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn with_fma(a: &[f32], b: &[f32], sums: &mut Sums) {
            chains(a, b, sums);
        }
        return |a, b, sums| {
            // SAFETY: the CPU was just found to have the instructions.
            unsafe { with_fma(a, b, sums) }
        };
    }
    chains
}

#[inline(always)]
fn chains(a: &[f32], b: &[f32], out: &mut Sums) {
    let mut sums = [[0f32; COLS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<COLS>().0) {
        for r in 0..ROWS {
            for c in 0..COLS {
                sums[r][c] = a[r].mul_add(b[c], sums[r][c]);
            }
        }
    }
    *out = sums;
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_portable_kernel_gives_the_same_bits() {
        let (a, b) = (numbers(ROWS * DEPTH, 4), numbers(COLS * DEPTH, 5));
        let (mut fast, mut portable) = ([[0.0; COLS]; ROWS], [[0.0; COLS]; ROWS]);
        micro_kernel()(&a, &b, &mut fast);
        chains(&a, &b, &mut portable);
        assert_eq!(fast.map(|row| row.map(f32::to_bits)), portable.map(|row| row.map(f32::to_bits)));
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
