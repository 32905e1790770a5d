//! Which plan it is.

use core::fmt;
use core::str::FromStr;

use sha2::{Digest, Sha256};

use super::error::LoadError;
use super::format::Header;

/// Which plan it is: the SHA-256 of its header and block checksums.
///
/// The checksums cover all that follows them, so every byte of the plan has a part in the hash, though only some kilobytes are
/// hashed. Plans that differ by accident or by how they were compiled have different hashes, but for one chance in 2³² where
/// they differ in one block of 64 KiB alone. Who wants to can make two plans of one hash, as with any CRC: it is a name, and
/// no protection against an attacker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanHash([u8; 32]);

impl PlanHash {
    /// Of a plan of which only the front was read: the first [`Header::body`] bytes, or more. They need not be aligned.
    ///
    /// # Errors
    /// [`LoadError`] where they are not the front of a plan of this version, are too few, or do not fit their own checksum. The
    /// rest of the plan may still be damaged.
    pub fn of_front(front: &[u8]) -> Result<Self, LoadError> {
        let header = Header::read(front)?;
        Ok(Self::of_checked(header.verify_front(front)?))
    }

    /// Of a header and checksums that fit.
    pub(super) fn of_checked(front: &[u8]) -> Self {
        Self(Sha256::digest(front).into())
    }

    /// A hash out of its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 hexadecimal digits in lower case.
impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanHash({self})")
    }
}

/// A text is no [`PlanHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanHashError;

impl fmt::Display for PlanHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a plan's hash is 64 hexadecimal digits in lower case, as `cliptext-run inspect` prints them",
        )
    }
}

impl core::error::Error for PlanHashError {}

impl FromStr for PlanHash {
    type Err = PlanHashError;

    fn from_str(text: &str) -> Result<Self, PlanHashError> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(PlanHashError),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(PlanHashError) };
        let pairs: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| PlanHashError)?;
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_is_printed_is_read() {
        let hash = PlanHash(core::array::from_fn(|at| (at * 37) as u8));
        let text = hash.to_string();
        assert_eq!((text.len(), text.parse()), (64, Ok(hash)));
        for wrong in ["", &text[1..], &text.to_uppercase(), &text.replace('f', "g"), &(text.clone() + "00")] {
            assert_eq!(wrong.parse::<PlanHash>(), Err(PlanHashError), "{wrong}");
        }
        assert_eq!("é".repeat(32).parse::<PlanHash>(), Err(PlanHashError));
    }
}
