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

/// The largest magnitude of `values`, 0 where there are none; NaN if one of them is.
#[inline(always)]
pub fn largest_magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| larger(largest, value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_stays_wherever_it_stands() {
        for at in 0..3 {
            let mut values = [1.0, -5.0, 3.0];
            assert_eq!(largest_magnitude(&values), 5.0);
            values[at] = f32::NAN;
            assert!(largest_magnitude(&values).is_nan(), "{at}");
            let (most, least) = (values.map(f64::from), values.map(f64::from));
            assert!(most.into_iter().reduce(larger).is_some_and(f64::is_nan));
            assert!(least.into_iter().reduce(smaller).is_some_and(f64::is_nan));
        }
        assert_eq!((larger(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
        assert_eq!((larger(f32::INFINITY, 2.0), largest_magnitude(&[])), (f32::INFINITY, 0.0));
    }
}
