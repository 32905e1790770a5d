//! How the colours of pixels are normalised, and how that goes into the weights of an image tower's patches.

use crate::ir::Matrix;

/// Mean and deviation of each colour, of values from 0 to 1: pixels are read as `(pixel / 255 - mean) / deviation`.
pub type Colours = ([f32; 3], [f32; 3]);

/// Those of OpenAI's models, which most others took over.
pub const OPENAI: Colours =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_55, 0.261_302_6, 0.275_777_1]);

/// Colours of a pixel.
pub const COLOURS: usize = 3;

/// The convolution `[width, colours, patch, patch]` over normalised pixels as a matrix over pixels of 0 to 255, in the order in
/// which they stand in an image: `w / (255 · deviation)`. What is the same for all pixels, `-Σ w · mean / deviation`, goes to the
/// patches' positions. Sums are in f64.
pub fn over_pixels(
    convolution: &[f32],
    (width, patch): (usize, usize),
    (mean, deviation): Colours,
    positions: &mut Matrix,
) -> Matrix {
    let pixels = patch * patch;
    let mut out = Matrix { rows: width, cols: COLOURS * pixels, values: vec![0.0; width * COLOURS * pixels] };
    for channel in 0..width {
        let mut constant = 0.0f64;
        for colour in 0..COLOURS {
            let (mean, deviation) = (f64::from(mean[colour]), f64::from(deviation[colour]));
            let kernel = &convolution[(channel * COLOURS + colour) * pixels..][..pixels];
            for (pixel, &weight) in kernel.iter().enumerate() {
                let weight = f64::from(weight) / deviation;
                out.values[channel * out.cols + pixel * COLOURS + colour] = (weight / 255.0) as f32;
                constant -= weight * mean;
            }
        }
        for row in positions.values.chunks_exact_mut(width).skip(1) {
            row[channel] = (f64::from(row[channel]) + constant) as f32;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_take_in_their_normalisation() {
        let (width, patch) = (2, 2);
        let convolution: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
        let (mean, deviation) = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]);
        let mut positions = Matrix { rows: 2, cols: width, values: vec![1.0, 2.0, 3.0, 4.0] };
        let matrix = over_pixels(&convolution, (width, patch), (mean, deviation), &mut positions);
        assert_eq!(positions.values[..2], [1.0, 2.0], "the class token has no pixels");
        let image: Vec<u8> = (0..12).map(|i| (i * 23 % 256) as u8).collect();
        for channel in 0..width {
            let mut wanted = [3.0f64, 4.0][channel];
            for (at, &pixel) in image.iter().enumerate() {
                let (pixel_at, colour) = (at / 3, at % 3);
                let value =
                    (f64::from(pixel) / 255.0 - f64::from(mean[colour])) / f64::from(deviation[colour]);
                wanted += value * f64::from(convolution[(channel * 3 + colour) * 4 + pixel_at]);
            }
            let row = matrix.row(channel).iter().zip(&image);
            let found: f64 = row.map(|(&weight, &pixel)| f64::from(weight) * f64::from(pixel)).sum();
            let found = found + f64::from(positions.row(1)[channel]);
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}
