//! Scaling as PIL does it, bit for bit: its bicubic convolution, in whole numbers
//! ([Pillow's `Resample.c`](https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c)).

/// Colours of a pixel.
pub(super) const COLOURS: usize = 3;

/// Bits behind the point of a weight: eight are a pixel's, two are left for sums beyond its range.
const BITS: u32 = 32 - 8 - 2;

/// Pixels to each side on which a pixel of a picture that is not made smaller depends.
const SUPPORT: f64 = 2.0;

/// Keys' cubic with `a = -1/2`.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// What a line of pixels is made of: for each pixel the first that counts, and the weight of it and those behind it.
struct Weights {
    first: Vec<usize>,
    weights: Vec<Vec<i64>>,
}

impl Weights {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        // Where the picture becomes smaller each pixel is a mean over all that it stands for.
        let stretch = scale.max(1.0);
        let support = SUPPORT * stretch;
        let (mut first, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to));
        for pixel in 0..to {
            let centre = (pixel as f64 + 0.5) * scale;
            let low = ((centre - support + 0.5).max(0.0)) as usize;
            let high = ((centre + support + 0.5) as usize).min(from);
            let raw: Vec<f64> =
                (low..high).map(|at| bicubic((at as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = raw.iter().sum();
            let whole = raw.iter().map(|weight| {
                let weight = if sum == 0.0 { *weight } else { weight / sum } * f64::from(1u32 << BITS);
                // Away from zero.
                (weight + if weight < 0.0 { -0.5 } else { 0.5 }) as i64
            });
            first.push(low);
            weights.push(whole.collect());
        }
        Self { first, weights }
    }

    /// Pixel `to` of a line whose pixel `at` has the value `line(at)`.
    fn pixel(&self, to: usize, line: impl Fn(usize) -> u8) -> u8 {
        let (first, weights) = (self.first[to], &self.weights[to]);
        let half = 1 << (BITS - 1);
        let sum = weights.iter().enumerate().map(|(at, weight)| weight * i64::from(line(first + at)));
        ((sum.sum::<i64>() + half) >> BITS).clamp(0, 255) as u8
    }
}

/// The pixels of a picture of `width` by `height` pixels, scaled to `across` by `down`.
///
/// In between pixels are rounded to eight bits, so the order counts: Pillow (13) goes across first, but down first where a picture more
/// than twice as tall as wide becomes smaller.
pub(super) fn scale(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let ((width, height), (across, down)) = (from, to);
    if height > 2 * width && down < height {
        let pixels = vertical(pixels, width, (height, down));
        horizontal(&pixels, down, (width, across))
    } else {
        let pixels = horizontal(pixels, height, (width, across));
        vertical(&pixels, across, (height, down))
    }
}

/// Lines of `from` pixels, each scaled to `to`.
fn horizontal(pixels: &[u8], height: usize, (from, to): (usize, usize)) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let weights = Weights::new(from, to);
    let mut out = Vec::with_capacity(to * height * COLOURS);
    for row in pixels.chunks_exact(from * COLOURS) {
        for pixel in 0..to {
            out.extend((0..COLOURS).map(|colour| weights.pixel(pixel, |at| row[at * COLOURS + colour])));
        }
    }
    out
}

/// `from` lines of `width` pixels, scaled to `to` lines.
fn vertical(pixels: &[u8], width: usize, (from, to): (usize, usize)) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let weights = Weights::new(from, to);
    let line = width * COLOURS;
    let mut out = Vec::with_capacity(to * line);
    for row in 0..to {
        out.extend((0..line).map(|column| weights.pixel(row, |at| pixels[at * line + column])));
    }
    out
}
