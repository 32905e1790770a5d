//! Numbers as Python's `float` reads them, since the programs whose weights are read are written in Python.

use heapless::String;

use super::decimal::decimal;

/// Characters of a number that is written with other than ASCII digits, or with underscores, at the most.
const LONGEST: usize = 64;

/// The zeros of Unicode's decimal digits: the others follow each. Unicode 14.0.0.
#[rustfmt::skip]
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0,
    0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0,
    0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce,
    0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The value of a decimal digit.
fn digit(c: char) -> Option<u8> {
    let before = ZEROS.partition_point(|&zero| zero <= u32::from(c)).checked_sub(1)?;
    let value = u32::from(c) - ZEROS.get(before)?;
    (value < 10).then_some(value as u8)
}

/// Whether a character is a decimal digit, of any script.
pub(super) fn is_digit(c: char) -> bool {
    digit(c).is_some()
}

/// The number that `text` is, white space around it left out, as Python's `float` reads it; `None` if it is none. It is the f64
/// that is nearest, of two as near the even one.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.is_ascii() && !text.contains('_') {
        return decimal(text);
    }
    let mut plain = String::<LONGEST>::new();
    let mut before = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match digit(c) {
            Some(value) => plain.push(char::from(b'0' + value)).ok()?,
            // An underscore stands between two digits.
            None if c == '_' => {
                before.and_then(digit)?;
                rest.clone().next().and_then(digit)?;
            }
            None => plain.push(c).ok()?,
        }
        before = Some(c);
    }
    decimal(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as Python 3.11's `float` takes it.
    #[test]
    fn numbers_are_python_s() {
        for (text, value) in [
            ("1.3", 1.3),
            (" 1.\u{3000}", 1.0),
            (".5\u{85}", 0.5),
            ("\u{b}.5\n", 0.5),
            ("+1e-2", 0.01),
            ("1.e1", 10.0),
            ("-Infinity", f64::NEG_INFINITY),
            ("1_000.0_1", 1000.01),
            ("\u{ff11}.\u{ff13}", 1.3),
            ("\u{661}\u{1d7db}", 13.0),
            ("\u{ff11}_\u{ff13}", 13.0),
        ] {
            assert_eq!(number(text), Some(value), "{text:?}");
        }
        assert!(number(" nan ").is_some_and(f64::is_nan));
        for text in [
            "", ".", "+", "1.2.3", "1 2", "1e", "e1", "_1", "1_", "1__0", "1_.0", "0x1", "\u{bd}",
            "\u{2460}", "1\0", "\u{1f}1",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(number(&"9".repeat(400)), Some(f64::INFINITY));
        assert!(number(&("1_".repeat(63) + "1")).is_some_and(|value| value > 1e63));
        assert_eq!(number(&("1_".repeat(64) + "1")), None);
    }
}
