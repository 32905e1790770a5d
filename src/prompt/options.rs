//! How a prompt is read.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Tokens from a chunk's end in which AUTOMATIC1111's program looks for a comma: its default.
pub const USUAL_COMMA: u8 = 20;

/// How a prompt is read. By default as text, in one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whose weights it has.
    pub weighting: Weighting,
    /// How many chunks it takes.
    pub chunks: Chunks,
    /// A chunk that is full ends behind its last comma instead, if no more than so many tokens come behind; 0 for never. AUTOMATIC1111's
    /// program has 20. It changes nothing where [`Weighting::Comfy`] reads, or [`Weighting::None`] in [`Chunks::One`].
    pub comma: u8,
}

/// Whose weights a prompt has. As text it is `none`, `a1111` or `comfy`; the order of the variants is part of the
/// [protocol](crate::serve).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Weighting {
    /// None: all of it is text.
    #[default]
    None,
    /// As AUTOMATIC1111's program reads it: `(word)`, `(word:1.3)`, `[word]`; `BREAK` ends a chunk. The hidden states are multiplied by their
    /// tokens' weights, and each chunk's mean is restored.
    A1111,
    /// As ComfyUI reads it: `(word)`, `(word:1.3)`. The hidden states go from those of the empty prompt, at weight 0, over their
    /// own, at 1.
    Comfy,
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weighting::None => "none",
            Weighting::A1111 => "a1111",
            Weighting::Comfy => "comfy",
        })
    }
}

impl FromStr for Weighting {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        match text {
            "none" => Ok(Weighting::None),
            "a1111" => Ok(Weighting::A1111),
            "comfy" => Ok(Weighting::Comfy),
            _ => Err(UnknownOption { expected: "`none`, `a1111` or `comfy`" }),
        }
    }
}

/// How many chunks a prompt takes. As text it is `auto` or a number; the order of the variants is part of the
/// [protocol](crate::serve).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chunks {
    /// One: what does not fit is cut off, as the tokenizer does it.
    #[default]
    One,
    /// As many as it needs, up to the [most](super::Prompt::max_chunks).
    Auto,
    /// So many: what does not fit is cut off, and empty ones fill up.
    Exactly(u8),
}

impl fmt::Display for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chunks::One => f.write_str("1"),
            Chunks::Auto => f.write_str("auto"),
            Chunks::Exactly(chunks) => chunks.fmt(f),
        }
    }
}

impl FromStr for Chunks {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        match text {
            "auto" => Ok(Chunks::Auto),
            number => match number.parse() {
                Ok(chunks) if chunks > 0 => Ok(Chunks::Exactly(chunks)),
                _ => Err(UnknownOption { expected: "`auto` or a number of chunks from 1" }),
            },
        }
    }
}

/// A text that names no option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOption {
    expected: &'static str,
}

impl fmt::Display for UnknownOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl core::error::Error for UnknownOption {}
