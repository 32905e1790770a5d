//! Elementary functions by their polynomials, without fused operations: every machine has those at full speed.

use crate::arithmetic::vectors::vectorized;
use crate::ir::Activation;

/// The nearest integer, ties to even, for `|x| < 2^22`: neither a call nor an instruction that not every CPU has.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    // 1.5 · 2^23: added to something small it leaves no bits for a fraction.
    const WHOLE: f32 = 12_582_912.0;
    (x + WHOLE) - WHOLE
}

/// `e^x`, within 3 units in the last place for -87 ≤ x ≤ 88; arguments beyond are clamped to that range.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`; the polynomial is the one of the runtime's kernels.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_145_75;
    const LN2_LO: f32 = 1.428_606_8e-6;
    let x = x.clamp(-87.0, 88.0);
    let n = round(x * std::f32::consts::LOG2_E);
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let p = (((0.001_393_368_8 * r + 0.008_363_205) * r + 0.041_666_463) * r + 0.166_665_76) * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    // In two steps: 2^128 has no f32.
    let half = (n as i32) >> 1;
    let pow2 = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    y * pow2(half) * pow2(n as i32 - half)
}

vectorized! {
/// `activation` of each value.
pub fn activate(activation: Activation, values: &mut [f32]) {
    // A loop each: the compiler makes vectors of it.
    match activation {
        Activation::QuickGelu => values.iter_mut().for_each(|x| *x /= 1.0 + exp(-1.702 * *x)),
        Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| {
            const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
            let inner = *x * *x * 0.044_715 + 1.0;
            *x /= 1.0 + exp(-TWICE_SQRT_2_OVER_PI * (*x * inner));
        }),
    }
}
}

/// `x/2 · (1 + erf(x/√2))`, absolute error below 4e-7 for |x| ≤ 8: formula 7.1.26 of Abramowitz and Stegun, Handbook of
/// Mathematical Functions.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let a = x.abs();
    let u = 1.0 / (1.0 + 0.327_591_1 * (a * std::f32::consts::FRAC_1_SQRT_2));
    let p = (((1.061_405_4 * u - 1.453_152) * u + 1.421_413_8) * u - 0.284_496_74) * u + 0.254_829_6;
    x.max(0.0) - a * (0.5 * (p * u) * exp(-0.5 * (a * a)))
}

/// `erf` by its Maclaurin series, to about 1e-7; 1 beyond 5, where it is within 2e-12.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// Values beside one another in [`sum`].
const LANES: usize = 16;

/// The sum of `value` over `row`: sixteen running sums in f32, `i` taking every sixteenth value, then added in order.
#[inline(always)]
pub fn sum(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += value(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += value(x);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_three_units_in_the_last_place() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let (found, expected) = (exp(x), f64::from(x).exp());
            assert!((f64::from(found) / expected - 1.0).abs() < 3.6e-7, "{x}: {found} {expected}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1.7e-38 && exp(1e9).is_finite());
    }

    #[test]
    fn activations_are_near_their_definitions() {
        for i in -800..800 {
            let x = i as f32 * 0.01;
            let wide = f64::from(x);
            let tanh = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            for (activation, expected) in [
                (Activation::QuickGelu, wide / (1.0 + (-1.702 * wide).exp())),
                (Activation::Gelu, 0.5 * wide * (1.0 + erf(wide / std::f64::consts::SQRT_2))),
                (Activation::GeluTanh, 0.5 * wide * (1.0 + tanh.tanh())),
            ] {
                let mut values = [x];
                activate(activation, &mut values);
                let error = (f64::from(values[0]) - expected).abs();
                assert!(error < 1e-6 + 1e-6 * wide.abs(), "{activation:?} {x}: {error}");
            }
        }
    }

    #[test]
    fn sums_take_every_value() {
        let row: Vec<f32> = (0..77).map(|x| x as f32).collect();
        assert_eq!(sum(&row, |x| 2.0 * x), 77.0 * 76.0);
    }
}
