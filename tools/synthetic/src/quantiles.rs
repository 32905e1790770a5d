//! Quantiles of the standard normal distribution.

use std::sync::LazyLock;

/// Entries of the quantile table, one for each 16-bit number.
const ENTRIES: usize = 1 << 16;

/// Standard normal quantiles at `(i + 1/2) / 65536`, rounded to multiples of 2⁻³⁰.
pub(crate) fn table() -> &'static [f64; ENTRIES] {
    static TABLE: LazyLock<Box<[f64; ENTRIES]>> = LazyLock::new(|| {
        let unit = (1u64 << 30) as f64;
        let mut table = vec![0.0; ENTRIES];
        for upper in ENTRIES / 2..ENTRIES {
            let quantile = (quantile((upper as f64 + 0.5) / ENTRIES as f64) * unit).round_ties_even() / unit;
            table[upper] = quantile;
            table[ENTRIES - 1 - upper] = -quantile;
        }
        table.into_boxed_slice().try_into().expect("the table was made with this length")
    });
    &TABLE
}

/// The quantile at `p`, inside `(0, 1)` and not nearer to its ends than e⁻²⁵.
///
/// Algorithm AS 241 (Wichura 1988, *The Percentage Points of the Normal Distribution*, Applied Statistics 37),
/// PPND16, with its operations in the order of Python's `statistics.NormalDist.inv_cdf`.
fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return polynomial(r, &CENTRE_ABOVE) * q / polynomial(r, &CENTRE_BELOW);
    }
    let r = (-libm::log(if q <= 0.0 { p } else { 1.0 - p })).sqrt() - 1.6;
    let x = polynomial(r, &TAIL_ABOVE) / polynomial(r, &TAIL_BELOW);
    if q < 0.0 { -x } else { x }
}

/// Horner's rule, highest power first.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

const CENTRE_ABOVE: [f64; 8] = [
    2509.0809287301227,
    33430.57558358813,
    67265.7709270087,
    45921.95393154987,
    13731.69376550946,
    1971.5909503065513,
    133.14166789178438,
    3.3871328727963665,
];
const CENTRE_BELOW: [f64; 8] = [
    5226.495278852854,
    28729.085735721943,
    39307.89580009271,
    21213.794301586597,
    5394.196021424751,
    687.1870074920579,
    42.31333070160091,
    1.0,
];
const TAIL_ABOVE: [f64; 8] = [
    0.0007745450142783414,
    0.022723844989269184,
    0.2417807251774506,
    1.2704582524523684,
    3.6478483247632045,
    5.769497221460691,
    4.630337846156546,
    1.4234371107496835,
];
const TAIL_BELOW: [f64; 8] = [
    1.0507500716444169e-09,
    0.0005475938084995345,
    0.015198666563616457,
    0.14810397642748008,
    0.6897673349851,
    1.6763848301838038,
    2.053191626637759,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_match_python() {
        for (p, x) in [
            (0.5, 0.0),
            (0.5000076293945312, 1.9124056051512083e-05),
            (0.6, 0.2533471031357998),
            (0.925, 1.439531470938456),
            (0.95, 1.6448536269514715),
            (0.9999, 3.7190164854557084),
            (0.9999923706054688, 4.324919040826044),
        ] {
            let error = (quantile(p) - x).abs();
            assert!(error <= f64::EPSILON * x, "{p}: {} is not {x}", quantile(p));
        }
        assert_eq!(quantile(0.0625), -quantile(0.9375));
    }

    #[test]
    fn the_table_is_odd_and_rises() {
        let table = table();
        assert!(table.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((0..ENTRIES).all(|i| table[i] == -table[ENTRIES - 1 - i]));
        assert!(table.iter().all(|x| (x * (1u64 << 30) as f64).fract() == 0.0));
    }
}
