//! Noise from a seed, the same bits on every CPU.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// `count` values of the standard normal distribution.
///
/// ChaCha's numbers by the transform of Box and Muller. `libm` computes in Rust, without the system's library, whose last bits differ.
pub fn normals(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha20Rng::seed_from_u64(seed);
    // 53 bits in the middle of their steps: never 0, whose logarithm is infinite, nor 1.
    let mut uniform = move || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = libm::sqrt(-2.0 * libm::log(uniform()));
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * uniform());
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_normal() {
        let values = normals(1, 100_000);
        let moment = |power: i32| values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / 1e5;
        for (power, expected, tolerance) in [(1, 0.0, 0.02), (2, 1.0, 0.02), (3, 0.0, 0.05), (4, 3.0, 0.1)] {
            assert!((moment(power) - expected).abs() < tolerance, "moment {power}: {}", moment(power));
        }
        // What stands beside each other has nothing in common.
        let beside: f64 = values.windows(2).map(|pair| f64::from(pair[0] * pair[1])).sum::<f64>() / 1e5;
        assert!(beside.abs() < 0.02, "{beside}");
    }
}
