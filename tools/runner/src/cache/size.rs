//! Sizes on the command line.

use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Default for Size {
    fn default() -> Self {
        Self(256 << 20)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number: Option<u64> = digits.parse().ok().filter(|&number| is_number && number > 0);
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or("a number of bytes above 0, such as 64M")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("1", 1), ("10K", 10 << 10), ("64M", 64 << 20), ("3g", 3 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for wrong in ["", "0", "0M", "M", "-1", "+1", "1.5G", "1T", "1 M", "99999999999G", "1é", "１"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
