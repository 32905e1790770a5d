//! Elementary functions as fixed polynomials: the platform's libm is never asked.

use crate::kernels::simd::Simd;

/// `a · b + c`, rounded once.
#[inline(always)]
pub(crate) fn fused(a: f32, b: f32, c: f32) -> f32 {
    // Miri cannot ask the CPU for the instruction, as libm does.
    #[cfg(all(miri, feature = "std"))]
    return a.mul_add(b, c);
    #[cfg(not(all(miri, feature = "std")))]
    libm::fmaf(a, b, c)
}

/// The square root, rounded once.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    #[cfg(all(miri, feature = "std"))]
    return x.sqrt();
    #[cfg(not(all(miri, feature = "std")))]
    libm::sqrtf(x)
}

/// The nearest integer, ties to even, for `|x| < 2^22`: adding 1.5 · 2^23 leaves no bits for a fraction.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    (x + WHOLE) - WHOLE
}

/// The largest argument of [`exp2`], and with a minus the smallest: neither its result nor one over it is subnormal.
pub(crate) const EXP2_LIMIT: f32 = 126.0;

/// `2^x` for `|x| ≤` [`EXP2_LIMIT`], within 2 units in the last place.
///
/// `x = n + r` with `|r| ≤ 1/2`, both exact; `2^r` by a polynomial with the constant term 1 and the smallest relative
/// error, 9.4e-8 before rounding.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    #[allow(clippy::approx_constant)] // fitted with the others: near ln 2, and not it
    const P: [f32; 5] = [0.693_147, 0.240_222_47, 0.055_507_11, 0.009_671_292, 0.001_326_953_5];
    let n = s.round(x);
    let r = s.sub(x, n);
    let p = s.mul_add(s.constant(P[4]), r, s.constant(P[3]));
    let p = s.mul_add(p, r, s.constant(P[2]));
    let p = s.mul_add(p, r, s.constant(P[1]));
    let p = s.mul_add(p, r, s.constant(P[0]));
    // At the lower limit the remainder is 0: nothing is subnormal.
    s.mul_pow2(s.mul_add(p, r, s.constant(1.0)), n)
}

/// `x / (1 + 2^y)`, `y` limited to what [`exp2`] takes: `x · sigmoid(z)` for `y = -z · log2 e`.
#[inline(always)]
fn x_sigmoid<S: Simd>(s: S, x: S::V, y: S::V) -> S::V {
    s.div(x, s.add(exp2(s, s.clamp(y, EXP2_LIMIT)), s.constant(1.0)))
}

/// `x · sigmoid(1.702 x)`: the "quick GELU" of OpenAI's CLIP.
#[inline(always)]
pub(crate) fn quick_gelu<S: Simd>(s: S, x: S::V) -> S::V {
    const MINUS_1_702_LOG2_E: f32 = -2.455_467;
    x_sigmoid(s, x, s.mul(x, s.constant(MINUS_1_702_LOG2_E)))
}

/// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³)))`, by `(1 + tanh u)/2 = sigmoid(2u)`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const MINUS_2_SQRT_2_OVER_PI_LOG2_E: f32 = -2.302_208_2;
    let inner = s.mul_add(s.mul(x, x), s.constant(0.044_715), s.constant(1.0));
    x_sigmoid(s, x, s.mul(s.mul(x, inner), s.constant(MINUS_2_SQRT_2_OVER_PI_LOG2_E)))
}

/// `x/2 · (1 + erf(x/√2))`, absolute error below 4e-7 for |x| ≤ 8.
///
/// With `t = |x|/√2` and `h = erfc(t)/2` it is `max(x, 0) - |x|·h`; `erfc` by formula 7.1.26 of Abramowitz and
/// Stegun, Handbook of Mathematical Functions: a polynomial in `1/(1 + 0.3275911 t)` times `e^(-t²)`, |error| ≤ 1.5e-7.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    const A: [f32; 5] = [0.254_829_6, -0.284_496_74, 1.421_413_8, -1.453_152, 1.061_405_4];
    let a = s.abs(x);
    let t = s.mul(a, s.constant(core::f32::consts::FRAC_1_SQRT_2));
    let u = s.div(s.constant(1.0), s.mul_add(t, s.constant(0.327_591_1), s.constant(1.0)));
    let p = s.mul_add(s.constant(A[4]), u, s.constant(A[3]));
    let p = s.mul_add(p, u, s.constant(A[2]));
    let p = s.mul_add(p, u, s.constant(A[1]));
    let p = s.mul_add(p, u, s.constant(A[0]));
    // e^(-t²) = 2^(-a²/2 · log2 e)
    let e = s.mul(s.mul(a, a), s.constant(-0.5 * core::f32::consts::LOG2_E));
    let e = exp2(s, s.max(e, s.constant(-EXP2_LIMIT)));
    let h = s.mul(s.mul(p, u), s.mul(e, s.constant(-0.5)));
    s.mul_add(a, h, s.max(x, s.constant(0.0)))
}

/// The nonlinearity of a linear step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// None: `x`.
    Identity,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
    /// `x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³)))`.
    GeluTanh,
}

/// Applies `activation` to sixteen lanes.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    match activation {
        Activation::Identity => x,
        Activation::QuickGelu => quick_gelu(s, x),
        Activation::Gelu => gelu(s, x),
        Activation::GeluTanh => gelu_tanh(s, x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar::Scalar;
    use crate::kernels::simd::{Block, LANES};

    /// The largest error of `f` against `reference` over a fine grid, relative to `scale(reference)`.
    fn worst(
        f: impl Fn(Block) -> Block,
        reference: impl Fn(f64) -> f64,
        scale: impl Fn(f64) -> f64,
        range: f64,
    ) -> f64 {
        let steps = 200_000;
        (-steps..=steps)
            .map(|i| {
                let x = (f64::from(i) / f64::from(steps) * range) as f32;
                let (got, want) = (f64::from(f([x; LANES])[0]), reference(f64::from(x)));
                (got - want).abs() / scale(want)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp2_is_within_two_units_in_the_last_place() {
        let error = worst(|x| exp2(Scalar, x), libm::exp2, f64::abs, f64::from(EXP2_LIMIT));
        assert!(error < 2.0 / f64::from(1 << 23), "{error:e}");
        let smallest = exp2(Scalar, [-EXP2_LIMIT; LANES])[0];
        assert!(smallest.is_normal() && (1.0 / smallest).is_normal());
    }

    #[test]
    fn activations_match_their_definitions() {
        let phi = |x: f64| 0.5 * libm::erfc(-x / core::f64::consts::SQRT_2);
        let cases: [(Activation, &dyn Fn(f64) -> f64); 3] = [
            (Activation::QuickGelu, &|x| x / (1.0 + libm::exp(-1.702 * x))),
            (Activation::Gelu, &|x| x * phi(x)),
            (Activation::GeluTanh, &|x| {
                0.5 * x
                    * (1.0 + libm::tanh((2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)))
            }),
        ];
        for (activation, reference) in cases {
            let error = worst(|x| activate(Scalar, activation, x), reference, |y| y.abs().max(1.0), 12.0);
            assert!(error < 5e-7, "{activation:?}: {error:e}");
        }
    }

    #[test]
    fn far_arguments_stay_finite() {
        for x in [-1e30f32, -200.0, 200.0, 1e30] {
            for activation in [Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh] {
                let y = activate(Scalar, activation, [x; LANES])[0];
                assert!((y - x.max(0.0)).abs() <= x.abs() * 1e-6, "{activation:?} of {x}: {y}");
            }
        }
    }
}
