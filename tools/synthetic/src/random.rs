//! Counter-based random numbers: any element of any tensor, in any order.

use crate::quantiles;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a, 64 bits.
fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// The finaliser of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The random numbers that belong to one name. It holds no place: the caller says which number it wants.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    key: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self { key: mix(fnv1a64(&format!("{seed}/{name}"))) }
    }

    fn word(self, index: usize) -> u64 {
        mix(self.key.wrapping_add((index as u64 + 1).wrapping_mul(GOLDEN)))
    }

    /// Uniform in `[0, 1)`, multiples of 2⁻⁵³.
    pub(crate) fn uniforms(self) -> impl Iterator<Item = f64> {
        (0..).map(move |index| (self.word(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64))
    }

    /// Standard normals, from the first.
    pub(crate) fn normals(self) -> impl Iterator<Item = f64> {
        self.normals_from(0)
    }

    /// Standard normals from the `first`: each the sum of two quantiles, two normals to a word, low half first.
    #[inline]
    pub(crate) fn normals_from(self, first: usize) -> impl Iterator<Item = f64> {
        let table = quantiles::table();
        (first..).map(move |index| {
            let half = (self.word(index / 2) >> (index % 2 * 32)) as u32;
            let (low, high) = (half as u16, (half >> 16) as u16);
            (table[usize::from(low)] + table[usize::from(high)]) * std::f64::consts::FRAC_1_SQRT_2
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_their_published_vectors() {
        assert_eq!(fnv1a64(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a64("a"), 0xAF63_DC4C_8601_EC8C);
        // The first output of splitmix64 seeded with 0.
        assert_eq!(mix(GOLDEN), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn a_stream_belongs_to_its_seed_and_name() {
        let stream = Stream::new(0, "text_model.final_layer_norm.weight");
        assert_eq!(stream.key, 0x9F19_D5B6_0958_6447);
        assert_eq!(
            [0, 1, 2].map(|i| stream.word(i)),
            [0x88BC_8D37_DC51_FFFA, 0x8B21_A44A_9365_45F2, 0xA3AF_4C3D_CBC9_1D44]
        );
        let normals: Vec<f64> = Stream::new(0, "sink").normals().take(3).collect();
        assert_eq!(normals, [0.08351790920087115, 2.465463567114674, -1.107113713029193]);
        let uniforms: Vec<f64> = Stream::new(5, "u").uniforms().take(2).collect();
        assert_eq!(uniforms, [0.3578657653219114, 0.46426872761223514]);
    }

    #[test]
    fn a_stream_can_start_anywhere() {
        let stream = Stream::new(3, "anything");
        let all: Vec<f64> = stream.normals().take(20).collect();
        for first in 0..20 {
            let rest: Vec<f64> = stream.normals_from(first).take(20 - first).collect();
            assert_eq!(rest, all[first..]);
        }
    }
}
