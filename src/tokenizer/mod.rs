//! Text to token ids, exactly as Hugging Face's tokenizer for CLIP does it.
//!
//! The text is read in one pass, character by character, without copying it:
//!
//! 1. added tokens such as `<|endoftext|>` are cut out of the text before it is normalized,
//! 2. `normalize`: NFC, white space runs to one space, lower case,
//! 3. `pretokenize`: the normalized text is split into words (and added tokens that are matched in normalized text),
//! 4. `bpe`: each word becomes tokens,
//! 5. start and end token are added; the ids are truncated or padded to the context's length.
//!
//! ```
//! use cliptext::tokenizer::{Padding, Tokenizer, Vocabulary};
//!
//! #[repr(align(64))]
//! struct Aligned<T: ?Sized>(T);
//! static TABLE: &Aligned<[u8]> =
//!     &Aligned(*include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/clip.vocab")));
//!
//! let vocabulary = Vocabulary::load(&TABLE.0)?;
//! let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End)?;
//! assert_eq!(tokenizer.encode("a running dog").unpadded(), [49406, 320, 2761, 1929, 49407]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A text of any length takes the same memory (on the stack: see `Tokenizer::encode`) and time linear in its length;
//! text behind the last token that fits is read only to search for added tokens.

mod bpe;
mod characters;
mod context;
mod encode;
mod error;
mod normalize;
mod padding;
mod pretokenize;
pub mod table;
mod tokens;
mod unicode;
mod vocabulary;

#[cfg(feature = "weights")]
pub(crate) use characters::Characters;
pub(crate) use characters::Plain;
pub use context::MAX_CONTEXT;
pub(crate) use encode::Ids;
pub use encode::Tokenizer;
pub use error::TokenizerError;
pub use padding::{Padding, UnknownPadding};
pub use tokens::Tokens;
pub(crate) use vocabulary::is_word;
pub use vocabulary::{Vocabulary, VocabularyError};

#[cfg(test)]
mod tests;
