//! Why a request is not answered.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::format::VERSION;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Problem {
    /// A frame was damaged or cut. Its id can't be known: the answer has id 0.
    Damaged,
    /// A frame is longer than the server takes.
    TooLong {
        /// Bytes that it takes, before they are stuffed.
        limit: u32,
    },
    /// The request has another version.
    Version {
        /// The one that the server speaks.
        speaks: u8,
    },
    /// There is no request of this kind.
    Unknown,
    /// The request ends early, has something behind its end, or a field with a value that it can't have.
    Malformed,
    /// A text is not UTF-8.
    NotUtf8,
    /// There is no text, or more than a request has.
    Texts {
        /// The most.
        limit: u8,
    },
    /// No chunk was asked for, or more than a text has here.
    Chunks {
        /// The most.
        limit: u8,
    },
    /// A text takes more chunks than there can be.
    TextTooLong {
        /// The text.
        text: u8,
        /// Its byte from which on there is no room.
        at: u32,
    },
    /// Several chunks, or weights, and no padding: each chunk fills the context.
    Unpadded,
    /// The server does not read weights, or has no memory for texts with weights.
    Weights,
    /// A row range that reaches behind the rows that there are.
    Rows {
        /// Rows that there are.
        rows: u16,
    },
    /// A pooled row is asked for that the plan does not have.
    NoPooled,
    /// A value for which the numbers asked for have none: too large for f16, or not finite for int8. Ask for f32.
    Value {
        /// The text.
        text: u8,
        /// The row; none of the pooled row.
        row: Option<u16>,
        /// The column.
        column: u32,
    },
    /// The plan's constants could not be read from their storage.
    Storage,
    /// There are too many clients: come back later.
    Busy,
    /// A text's weights can't be read.
    Reading {
        /// The text.
        text: u8,
        /// Its byte where what can't be read begins.
        at: u32,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Damaged => f.write_str("a frame was damaged on the line: send it again"),
            Problem::TooLong { limit } => {
                write!(f, "the request is too long: the server takes frames of {limit} bytes")
            }
            Problem::Version { speaks } => {
                write!(f, "the server speaks version {speaks} of the protocol, this client {VERSION}")
            }
            Problem::Unknown => f.write_str("the server does not know this kind of request"),
            Problem::Malformed => f.write_str("the request is not as the protocol has it"),
            Problem::NotUtf8 => f.write_str("a text is not UTF-8"),
            Problem::Texts { limit } => write!(f, "a request has 1 to {limit} texts"),
            Problem::Chunks { limit } => write!(f, "a text has 1 to {limit} chunks here"),
            Problem::TextTooLong { text, at } => {
                write!(
                    f,
                    "text {text} takes more chunks than there can be: there is no room from byte {at} on"
                )
            }
            Problem::Unpadded => {
                f.write_str("chunks and weights fill the context: they can't be had without padding")
            }
            Problem::Weights => f.write_str(
                "the server takes no texts with weights: it does not read them, or has no memory for them",
            ),
            Problem::Rows { rows } => write!(f, "the hidden states have {rows} rows"),
            Problem::NoPooled => f.write_str("the plan has no pooled output"),
            Problem::Value { text, row, column } => {
                write!(f, "text {text}, ")?;
                match row {
                    Some(row) => write!(f, "row {row}")?,
                    None => f.write_str("the pooled row")?,
                }
                write!(f, ", column {column}: a value that these numbers don't have: ask for f32")
            }
            Problem::Storage => f.write_str("the server can't read its plan"),
            Problem::Reading { text, at } => write!(
                f,
                "text {text}: the weights can't be read from byte {at} on: a bracket that is text is written \\("
            ),
            Problem::Busy => f.write_str("the server has too many clients: come back later"),
        }
    }
}

impl core::error::Error for Problem {}
