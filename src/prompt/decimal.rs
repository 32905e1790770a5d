//! Decimal numbers to the nearest f64, ties to even: what core's reader gives, without a panic path.

/// Significant digits that are kept: a number half way between two f64 has up to 767, and one more tells whether it is above.
const DIGITS: u32 = 768;
/// Numbers of 32 bits in a [`Big`]: room for the digits, and for ten to the power of as many and what f64's exponents reach.
const LIMBS: usize = 128;
/// The significand's bits, the first one included.
const BITS: u32 = 53;
/// The exponent of the last bit of the smallest numbers.
const LEAST: i32 = -1074;
/// The exponent of the first bit of the largest numbers.
const MOST: i32 = 1023;

/// A decimal number: `digits · 10^exponent`, its digits in a text.
#[derive(Clone, Copy)]
struct Decimal<'t> {
    /// With a point in it, perhaps.
    digits: &'t [u8],
    /// Of the last digit.
    exponent: i64,
}

/// The number that `text` is: an optional sign, then digits with an optional point and exponent, `inf`, `infinity` or `nan`.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let (negative, text) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let size = if [&b"inf"[..], b"infinity"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        f64::INFINITY
    } else if text.eq_ignore_ascii_case(b"nan") {
        f64::NAN
    } else {
        Decimal::of(text)?.nearest()
    };
    Some(if negative { -size } else { size })
}

impl<'t> Decimal<'t> {
    fn of(text: &'t [u8]) -> Option<Self> {
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (digits, power) = text.split_at_checked(end.unwrap_or(text.len()))?;
        let point = digits.iter().position(|&byte| byte == b'.');
        let behind = point.map_or(0, |point| digits.len() - point - 1);
        let known = digits.iter().enumerate().all(|(at, byte)| byte.is_ascii_digit() || Some(at) == point);
        if !known || digits.len() == usize::from(point.is_some()) {
            return None;
        }
        let power = if end.is_some() { whole(power.get(1..)?)? } else { 0 };
        Some(Self { digits, exponent: power.saturating_sub_unsigned(behind as u64) })
    }

    /// Its digits from the first that is not zero on.
    fn significant(self) -> impl Iterator<Item = u32> + Clone {
        let digits = self.digits.iter().filter(|byte| **byte != b'.').map(|byte| u32::from(byte & 0xf));
        digits.skip_while(|&digit| digit == 0)
    }

    fn nearest(self) -> f64 {
        let count = self.significant().count() as i64;
        // The number lies below ten to the power of this.
        let above = self.exponent.saturating_add(count);
        if count == 0 || above < -330 {
            return 0.0;
        }
        if above > 310 {
            return f64::INFINITY;
        }
        let exponent = self.exponent as i32;
        // Both exact, so rounded once.
        if count <= 15 && exponent.unsigned_abs() <= 22 {
            let digits = self.significant().fold(0u64, |value, digit| value * 10 + u64::from(digit)) as f64;
            let power = (0..exponent.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
            return if exponent < 0 { digits / power } else { digits * power };
        }
        let (mut numerator, mut denominator) = (Big::of(0), Big::of(1));
        let kept = count.min(DIGITS.into());
        for digit in self.significant().take(kept as usize) {
            numerator.multiply(10, digit);
        }
        if self.significant().skip(kept as usize).any(|digit| digit != 0) {
            // A little more: only on which side of a tie it lies counts now.
            numerator.multiply(10, 1);
        } else if count > kept {
            numerator.multiply(10, 0);
        }
        let dropped = if count > kept { count - kept - 1 } else { 0 };
        let exponent = exponent + dropped as i32;
        let scaled = if exponent < 0 { &mut denominator } else { &mut numerator };
        (0..exponent.unsigned_abs()).for_each(|_| scaled.multiply(10, 0));
        quotient(numerator, denominator)
    }
}

/// A whole number with an optional sign, as large as fits.
fn whole(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits
        .iter()
        .fold(0i64, |size, digit| size.saturating_mul(10).saturating_add(i64::from(digit & 0xf)))
        .min(1 << 40);
    Some(if negative { -size } else { size })
}

/// A whole number, the lowest 32 bits first.
struct Big([u32; LIMBS]);

impl Big {
    fn of(low: u32) -> Self {
        let mut limbs = [0; LIMBS];
        limbs[0] = low;
        Self(limbs)
    }

    /// `self · factor + more`.
    fn multiply(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
    }

    /// `self · 2^bits`.
    fn shift(&mut self, bits: u32) {
        (0..bits / 31).for_each(|_| self.multiply(1 << 31, 0));
        self.multiply(1 << (bits % 31), 0);
    }

    /// Bits up to the highest that is set.
    fn bits(&self) -> u32 {
        let zeros = self.0.iter().rev().take_while(|limb| **limb == 0).count();
        let highest = self.0.iter().rev().find(|limb| **limb != 0);
        highest.map_or(0, |limb| 32 * (LIMBS - zeros) as u32 - limb.leading_zeros())
    }

    /// Whether it is as large as `other`, or larger.
    fn reaches(&self, other: &Self) -> bool {
        self.0.iter().rev().ge(other.0.iter().rev())
    }

    /// `self - other`, which is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            let (less, first) = limb.overflowing_sub(other);
            let (less, second) = less.overflowing_sub(borrow.into());
            (*limb, borrow) = (less, first || second);
        }
    }
}

/// The f64 next to `numerator / denominator`, none of them 0: by long division, bit by bit.
fn quotient(mut numerator: Big, mut denominator: Big) -> f64 {
    let ahead = numerator.bits() as i32 - denominator.bits() as i32;
    let behind = if ahead < 0 { &mut numerator } else { &mut denominator };
    behind.shift(ahead.unsigned_abs());
    // As many bits in both now: the quotient is below 2 and above 1/2, times `2^ahead`.
    let mut exponent = ahead;
    if !numerator.reaches(&denominator) {
        numerator.multiply(2, 0);
        exponent -= 1;
    }
    // Bits that the significand has: fewer where the number is subnormal, none where it is below half of the smallest.
    let bits = (exponent - LEAST + 1).clamp(0, BITS as i32);
    if exponent < LEAST - 1 {
        return 0.0;
    }
    if exponent > MOST {
        return f64::INFINITY;
    }
    let mut significand = 0u64;
    for _ in 0..bits {
        significand *= 2;
        if numerator.reaches(&denominator) {
            numerator.subtract(&denominator);
            significand += 1;
        }
        numerator.multiply(2, 0);
    }
    // What is left is compared with half of the last bit.
    if numerator.reaches(&denominator) {
        numerator.subtract(&denominator);
        significand += u64::from(numerator.bits() > 0 || significand % 2 == 1);
    }
    // As bits: a significand that is rounded up to the next power of two takes the next exponent by itself, infinity at last.
    let biased = (exponent - bits + 1 - LEAST) as u64;
    f64::from_bits(if bits == BITS as i32 { (biased << 52) + significand } else { significand })
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    /// Fewer where the CPU is emulated.
    const ROUNDS: usize = match () {
        _ if cfg!(miri) => 20,
        _ if cfg!(target_arch = "x86_64") => 20_000,
        _ => 1000,
    };

    #[track_caller]
    fn same(text: &str) {
        let (ours, core) = (decimal(text), text.parse::<f64>().ok());
        assert_eq!(ours.map(f64::to_bits), core.map(f64::to_bits), "{text}: {ours:?} {core:?}");
    }

    /// xorshift64.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn what_is_a_number_is_one_for_core_too() {
        for text in [
            "",
            "+",
            "-",
            ".",
            "-.",
            "1",
            "1.",
            ".1",
            "1.1",
            "1..1",
            "1.1.",
            "e1",
            "1e",
            "1e+",
            "1e-",
            "1e1",
            "1E+1",
            ".e1",
            "1.e1",
            "1e1.0",
            "1e 1",
            " 1",
            "1 ",
            "inf",
            "-Infinity",
            "+INF",
            "infinit",
            "nan",
            "+NaN",
            "-nan",
            "nano",
            "0x1",
            "1_0",
            "--1",
            "+-1",
            "00012",
            "-0",
            "0e999999999999999999999",
            "1e999999999999999999999",
            "1e-999999999999999999999",
            "1e",
            "é",
            "1é",
        ] {
            same(text);
        }
    }

    #[test]
    fn every_size_is_rounded_as_core_does() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..ROUNDS {
            let x = f64::from_bits(next(&mut state));
            if x.is_finite() {
                same(&format!("{x:e}"));
                same(&format!("{x:.17e}"));
            }
            let digits = next(&mut state) >> (next(&mut state) % 64);
            same(&format!("{digits}e{}", next(&mut state) as i64 % 350));
            same(&format!("{}.{digits}", next(&mut state) % 1000));
        }
    }

    #[test]
    fn ties_go_to_even() {
        let mut state = 88_172_645_463_325_252;
        for _ in 0..ROUNDS / 20 {
            let bits = next(&mut state) >> 1;
            // The smallest, and those near the largest, too.
            let bits = match next(&mut state) % 4 {
                0 => bits % (1 << 53),
                1 => f64::MAX.to_bits() - bits % 8,
                _ => bits,
            };
            let (low, high) = (f64::from_bits(bits), f64::from_bits(bits + 1));
            if !high.is_finite() {
                continue;
            }
            // Exact: both have up to 1074 places behind the point, the middle one more.
            let tie = middle(&format!("{low:.1080}"), &format!("{high:.1080}"));
            same(&tie);
            same(&format!("{tie}0000000000000000001"));
            same(&format!("{}4{}", &tie[..tie.len() - 1], "9".repeat(50)));
        }
        same(
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
        );
        same("2.4703282292062327208e-324");
        same("2.4703282292062328e-324");
    }

    /// The middle between two numbers that are written with as many places behind the point.
    fn middle(low: &str, high: &str) -> String {
        let width = low.len().max(high.len());
        let (low, high) = (format!("{low:0>width$}"), format!("{high:0>width$}"));
        let mut carry = 0;
        let mut sum: std::vec::Vec<u8> = low
            .bytes()
            .zip(high.bytes())
            .rev()
            .map(|(low, high)| {
                if low == b'.' {
                    return b'.';
                }
                let sum = low - b'0' + (high - b'0') + carry;
                carry = sum / 10;
                b'0' + sum % 10
            })
            .collect();
        sum.push(b'0' + carry);
        sum.reverse();
        let mut rest = 0;
        let half = sum.iter().map(|&digit| {
            if digit == b'.' {
                return '.';
            }
            let value = rest * 10 + (digit - b'0');
            rest = value % 2;
            char::from(b'0' + value / 2)
        });
        let mut half: String = half.collect();
        half.push(if rest == 1 { '5' } else { '0' });
        half
    }
}
