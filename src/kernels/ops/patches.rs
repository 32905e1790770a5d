//! Pixels of images as rows for the product with the patch embedding.

use super::quantize::QuantParams;

/// Images of one size, row after row, of each pixel its colours, and how they are cut into patches.
#[derive(Clone, Copy)]
pub(crate) struct Patches<'a> {
    pub(crate) images: &'a [&'a [u8]],
    /// Bytes of a row of pixels, and of a patch's part of it.
    pub(crate) line: usize,
    pub(crate) part: usize,
    /// Rows of pixels of a patch.
    pub(crate) lines: usize,
    /// Patches along a side.
    pub(crate) across: usize,
}

impl<'a> Patches<'a> {
    /// Rows of an image: the class token's, and one for each patch.
    pub(crate) fn tokens(self) -> usize {
        1 + self.across * self.across
    }

    /// The lines of pixels of row `row` of all images; `None` of a class token's.
    #[inline]
    pub(crate) fn of_row(self, row: usize) -> Option<impl Iterator<Item = &'a [u8]>> {
        let (tokens, across) = (self.tokens().max(1), self.across.max(1));
        let (image, patch) = (row / tokens, (row % tokens).checked_sub(1)?);
        let image = self.images.get(image).copied().unwrap_or(&[]);
        let start = patch / across * self.lines * self.line + patch % across * self.part;
        Some((0..self.lines).map(move |line| {
            let start = start + line * self.line;
            image.get(start..start + self.part).unwrap_or(&[])
        }))
    }
}

/// The parameters of a row of pixels, whose codes are `pixel - 128`.
const PIXELS: QuantParams = QuantParams { scale: 1.0, neg_zero_point: 128 };

/// A row of pixels as codes, each xor `flip`; zeros of scale zero for a class token.
#[inline]
pub(crate) fn row_to_codes(patches: Patches<'_>, row: usize, flip: u8, codes: &mut [u8]) -> QuantParams {
    let Some(lines) = patches.of_row(row) else {
        codes.fill(flip);
        return QuantParams { scale: 0.0, neg_zero_point: 0 };
    };
    let mut rest = codes;
    for line in lines {
        let (part, behind) = rest.split_at_mut_checked(line.len()).unwrap_or((&mut [], &mut []));
        for (code, pixel) in part.iter_mut().zip(line) {
            // As signed bytes, 128 less.
            *code = pixel ^ 0x80 ^ flip;
        }
        rest = behind;
    }
    PIXELS
}

/// A row of pixels as they are; zeros for a class token.
pub(crate) fn row_to_f32(patches: Patches<'_>, row: usize, out: &mut [f32]) {
    let Some(lines) = patches.of_row(row) else { return out.fill(0.0) };
    let mut rest = out;
    for line in lines {
        let (part, behind) = rest.split_at_mut_checked(line.len()).unwrap_or((&mut [], &mut []));
        part.iter_mut().zip(line).for_each(|(value, pixel)| *value = f32::from(*pixel));
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_rows_from_the_top_left() {
        // Two images of 4 by 4 pixels, patches of 2 by 2; each byte is its own number.
        let bytes: std::vec::Vec<u8> = (0..96).collect();
        let images = [&bytes[..48], &bytes[48..]];
        let patches = Patches { images: &images, line: 12, part: 6, lines: 2, across: 2 };
        assert_eq!(patches.tokens(), 5);
        let row = |row| {
            let mut out = [0.0; 12];
            row_to_f32(patches, row, &mut out);
            out
        };
        assert_eq!(row(0), [0.0; 12]);
        assert_eq!(row(1), [0., 1., 2., 3., 4., 5., 12., 13., 14., 15., 16., 17.]);
        assert_eq!(row(4), [30., 31., 32., 33., 34., 35., 42., 43., 44., 45., 46., 47.]);
        assert_eq!(row(6), [48., 49., 50., 51., 52., 53., 60., 61., 62., 63., 64., 65.]);
        for flip in [0, 0x80] {
            let mut codes = [7; 12];
            assert_eq!(row_to_codes(patches, 6, flip, &mut codes), PIXELS);
            let plain = codes.map(|code| i32::from((code ^ flip) as i8) + PIXELS.neg_zero_point);
            assert_eq!(plain, [48, 49, 50, 51, 52, 53, 60, 61, 62, 63, 64, 65]);
            assert_eq!(row_to_codes(patches, 5, flip, &mut codes).scale, 0.0);
            assert_eq!(codes, [flip; 12]);
        }
    }
}
