//! Maxima and minima that keep a NaN: `f32::max` drops it, and a comparison with it is false, so that a value that is
//! no number would count as a small one.

use std::ops::Add;

/// The larger of two numbers; NaN if either is.
#[inline(always)]
pub fn larger<F: Copy + PartialOrd + Add<Output = F>>(a: F, b: F) -> F {
    if a >= b {
        a
    } else if a < b {
        b
    } else {
        a + b
    }
}

/// The smaller of two numbers; NaN if either is.
#[inline(always)]
pub fn smaller<F: Copy + PartialOrd + Add<Output = F>>(a: F, b: F) -> F {
    if a <= b {
        a
    } else if a > b {
        b
    } else {
        a + b
    }
}

/// `step` from `start` over `values`, in sixteen chains side by side, which `join` puts together in the end: for extremes, which do
/// not depend on the order.
#[inline(always)]
pub fn fold<T: Copy>(values: &[f32], start: T, step: impl Fn(T, f32) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, &value)| *lane = step(*lane, value));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &value)| *lane = step(*lane, value));
    lanes.into_iter().fold(start, join)
}

/// The largest magnitude of `values`, 0 where there are none; NaN if one of them is.
#[inline(always)]
pub fn largest_magnitude(values: &[f32]) -> f32 {
    // Magnitudes are ordered as their bits are, and NaN's are above infinity's.
    f32::from_bits(fold(values, 0, |largest, value| value.abs().to_bits().max(largest), u32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_stays_wherever_it_stands() {
        for at in 0..40 {
            let mut values = [1.0, -5.0, 3.0, 2.0].repeat(10);
            assert_eq!(largest_magnitude(&values), 5.0);
            values[at] = f32::NAN;
            assert!(largest_magnitude(&values).is_nan(), "{at}");
            let values = values.into_iter().map(f64::from);
            assert!(values.clone().reduce(larger).is_some_and(f64::is_nan));
            assert!(values.reduce(smaller).is_some_and(f64::is_nan));
        }
        assert_eq!((larger(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
        assert_eq!((larger(f32::INFINITY, 2.0), largest_magnitude(&[])), (f32::INFINITY, 0.0));
    }
}
