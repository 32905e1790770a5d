//! The messages: what a client asks, and what it is answered. All are postcard values, whose fields and variants stand on the line
//! in the order in which they stand here: new ones come last, or [`VERSION`](super::VERSION) changes.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::statistics::Statistics;
use crate::plan::MAX_SEQUENCES;
use crate::prompt::{Chunks, Weighting};

/// Kinds of requests.
pub(super) const REQUESTS: u8 = 4;

/// What a client asks.
#[allow(clippy::large_enum_variant)] // there is no heap for the large one
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Who is there? Answered by [`Answer::Hello`].
    Hello,
    /// A text's token ids. Answered by [`Answer::Tokens`].
    Tokenize {
        /// The text.
        text: &'a str,
    },
    /// Texts' embeddings. Answered by an [`Answer::Text`] for each, its rows behind it, and [`Answer::Done`].
    #[serde(borrow)]
    Encode(Encode<'a>),
    /// What was done so far. Answered by [`Answer::Statistics`].
    Statistics,
}

/// Texts to be encoded, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encode<'a> {
    /// 1 to 16 texts, mostly a prompt or a prompt and its negative prompt. As many as the arena has room for go through one pass; how
    /// many changes no bit.
    #[serde(borrow)]
    pub texts: Vec<&'a str, MAX_SEQUENCES>,
    /// How numbers stand in the answer.
    pub numbers: Numbers,
    /// What is sent.
    pub parts: Parts,
    /// Only the rows of a text's own tokens, start and end included.
    pub unpadded: bool,
    /// Only these rows of the hidden states are sent: all are computed.
    pub rows: Option<Rows>,
    /// Whose weights the texts have.
    pub weights: Weighting,
    /// How many chunks each text takes.
    pub chunks: Chunks,
    /// A full chunk ends behind its last comma, if no more than so many tokens come behind; 0 for never.
    pub comma: u8,
}

/// How numbers stand in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Numbers {
    /// IEEE 754 binary32, little-endian: the values as they are.
    #[default]
    F32,
    /// IEEE 754 binary16, little-endian: the nearest.
    F16,
    /// Each row is its scale, binary32, and a signed byte for each value, which is that byte times the scale. The scale is the row's largest
    /// magnitude by 127.
    Int8,
}

/// What is sent of an embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parts {
    /// Hidden states and pooled row.
    #[default]
    Both,
    /// The hidden states.
    Hidden,
    /// The pooled row.
    Pooled,
}

/// Rows one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The first.
    pub first: u16,
    /// How many.
    pub count: u16,
}

/// What a server answers. `V` are the values of a row: bytes, where an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer<'a, V = &'a [u8]> {
    /// Who is there.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// A text's ids.
    Tokens {
        /// The ids without padding, start and end token included: four bytes each, little-endian.
        ids: &'a [u8],
        /// Whether the text had more than fit.
        truncated: bool,
    },
    /// An embedding begins.
    Text(Text),
    /// A row of hidden states.
    Row {
        /// The text that it is of.
        text: u8,
        /// Its number in the embedding.
        row: u16,
        /// Its values.
        values: V,
    },
    /// A pooled row.
    Pooled {
        /// The text that it is of.
        text: u8,
        /// Its values.
        values: V,
    },
    /// All was sent.
    Done {
        /// Rows that were, pooled ones among them.
        rows: u32,
        /// From the request's last byte to the end of computing; 0 without a clock.
        micros: u32,
    },
    /// What was done so far.
    Statistics(Statistics),
    /// What was asked can't be done, or not to its end: the rows before are not to be used.
    Problem(Problem),
}

/// A server, its plan and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// The program and its version.
    pub server: &'a str,
    /// The model that the plan was made from.
    pub plan: &'a str,
    /// The plan's hash, as `inspect` prints it.
    pub hash: [u8; 32],
    /// Tokens of a text, padding included.
    pub context: u16,
    /// Columns of the hidden states.
    pub width: u32,
    /// Columns of the pooled row; 0 without one.
    pub pooled: u32,
    /// Bytes of the arena.
    pub arena: u64,
    /// Texts that go through one pass.
    pub at_once: u8,
    /// Texts of a request, at the most.
    pub texts: u8,
    /// Chunks of a text, at the most.
    pub chunks: u8,
    /// Chunks of a text with weights, at the most; 0 where the server has no memory for them.
    pub weighted_chunks: u8,
    /// The longest frame that it takes, in bytes before they are stuffed.
    pub frame: u32,
    /// The instruction set.
    pub kernels: &'a str,
}

/// An embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Which of the request's texts it is of.
    pub text: u8,
    /// Rows that it has, whether they are sent or not.
    pub rows: u16,
    /// Columns of its rows.
    pub columns: u32,
    /// Whether the text had more tokens than fit.
    pub truncated: bool,
}
