//! Arithmetic that gives the same bits on every machine.
//!
//! Only operations that IEEE 754 rounds exactly are used, and `libm`'s `exp` where its last bit cannot matter; never
//! the platform's mathematical library.

/// A heavy-tailed map of a standard normal; its variance is one, its kurtosis about seven.
#[inline]
pub(crate) fn heavy(z: f64) -> f64 {
    (z + 0.05 * (z * z * z)) * (1.0 / 1.3375f64.sqrt())
}

/// `exp`, rounded to single precision.
pub(crate) fn f32exp(x: f64) -> f64 {
    f64::from(libm::exp(x) as f32)
}

/// `1 / sqrt(n)`, correctly rounded: the reciprocal of the root, and one step towards the truth in twice the precision.
pub(crate) fn inverse_sqrt(n: usize) -> f64 {
    let n = n as f64;
    let y = 1.0 / n.sqrt();
    let square = y * y;
    let square_low = y.mul_add(y, -square);
    let residual = (-n).mul_add(square, 1.0) - n * square_low;
    (y * 0.5).mul_add(residual, y)
}

/// The exact sum, rounded once (Shewchuk's partial sums, as Python's `math.fsum`). The values must be finite.
pub(crate) fn exact_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut partials: Vec<f64> = Vec::new();
    for mut x in values {
        let mut kept = 0;
        for read in 0..partials.len() {
            let mut y = partials[read];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            x = high;
        }
        partials.truncate(kept);
        if x != 0.0 {
            partials.push(x);
        }
    }
    // The partials do not overlap: their sum from the largest down is right once a step is inexact.
    let mut high = partials.pop().unwrap_or(0.0);
    let mut low = 0.0;
    while let Some(y) = partials.pop() {
        let before = high;
        high = before + y;
        low = y - (high - before);
        if low != 0.0 {
            break;
        }
    }
    // A tie that was rounded to even goes the other way if anything is left beyond it.
    if let Some(&beyond) = partials.last()
        && low * beyond.signum() > 0.0
    {
        let twice = low * 2.0;
        let other = high + twice;
        if twice == other - high {
            high = other;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        assert_eq!(exact_sum([]), 0.0);
        assert_eq!(exact_sum([0.1; 10]), 1.0);
        assert_eq!(exact_sum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(exact_sum([1e16, 1.0, 1e-16]), 1e16 + 2.0); // a tie that something beyond breaks upwards
        assert_eq!(exact_sum([1e16, 1.0, -1e-16]), 1e16); // and downwards
        assert_eq!(exact_sum([1e16, 1.0]), 1e16); // and one that goes to even
        assert_eq!(exact_sum([-1e16, -1.0, -1e-16]), -1e16 - 2.0);
    }

    #[test]
    fn sums_do_not_depend_on_order() {
        let values: Vec<f64> =
            (1..500).map(|i| f64::from(i * i % 97 - 48) * 1.1f64.powi(i % 61 - 30)).collect();
        let sum = exact_sum(values.iter().copied());
        assert_eq!(sum, exact_sum(values.iter().rev().copied()));
    }

    #[test]
    fn inverse_roots_are_correctly_rounded() {
        for (n, root) in [
            (1, 1.0),
            (2, f64::from_bits(0x3FE6_A09E_667F_3BCD)),
            (24, f64::from_bits(0x3FCA_20BD_700C_2C3E)),
            (768, f64::from_bits(0x3FA2_79A7_4590_331C)),
            (1024, 0.03125),
            (1280, f64::from_bits(0x3F9C_9F25_C5BF_EDD9)),
        ] {
            assert_eq!(inverse_sqrt(n), root, "{n}");
        }
    }

    #[test]
    fn the_scales_in_use_are_correctly_rounded() {
        // Matrix scales multiply by exp(-sigma²) at full precision; these are the sigmas that occur.
        for (sigma, scale) in [
            (0.2, 0.9607894391523232),
            (0.25, 0.9394130628134758),
            (0.3, 0.9139311852712282),
            (0.35, 0.8847059049434836),
        ] {
            assert_eq!(libm::exp(-sigma * sigma), scale);
        }
    }
}
