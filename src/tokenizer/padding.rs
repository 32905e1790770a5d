//! What fills the context behind a text.

use core::fmt;
use core::str::FromStr;

use super::error::TokenizerError;

/// What fills the context behind the end token.
///
/// As text it is `eot`, `zero`, a token id, or `zero-after-eos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The end token, as Stable Diffusion 1 and OpenAI's models have it.
    End,
    /// This id: 0 for Stable Diffusion 2 and the second text encoder of SDXL.
    Id(u32),
    /// 0 instead of everything behind the *first* end token: differs from `Id(0)` where the text itself holds an end
    /// token, or where ids from elsewhere are padded already.
    ZeroAfterEnd,
}

impl Padding {
    /// Whether it is made of ids of a vocabulary of `size` ids.
    ///
    /// # Errors
    /// [`TokenizerError::Padding`] if not.
    pub(crate) fn check(self, size: u32) -> Result<(), TokenizerError> {
        match self {
            Padding::Id(id) if id >= size => Err(TokenizerError::Padding { id, size }),
            _ => Ok(()),
        }
    }

    /// The index from which it replaces the ids of a text with `len` ids of its own, the first end token at `end`, and the id
    /// that replaces them.
    pub(crate) fn replaces(self, len: usize, end: usize, end_id: u32) -> (usize, u32) {
        match self {
            Padding::End => (len, end_id),
            Padding::Id(id) => (len, id),
            Padding::ZeroAfterEnd => (end + 1, 0),
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Padding::End => f.write_str("eot"),
            Padding::Id(0) => f.write_str("zero"),
            Padding::Id(id) => id.fmt(f),
            Padding::ZeroAfterEnd => f.write_str("zero-after-eos"),
        }
    }
}

impl FromStr for Padding {
    type Err = UnknownPadding;

    fn from_str(text: &str) -> Result<Self, UnknownPadding> {
        match text {
            "eot" => Ok(Padding::End),
            "zero" => Ok(Padding::Id(0)),
            "zero-after-eos" => Ok(Padding::ZeroAfterEnd),
            id => id.parse().map(Padding::Id).map_err(|_| UnknownPadding),
        }
    }
}

/// A text that names no [`Padding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPadding;

impl fmt::Display for UnknownPadding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected `eot`, `zero`, `zero-after-eos` or a token id")
    }
}

impl core::error::Error for UnknownPadding {}
