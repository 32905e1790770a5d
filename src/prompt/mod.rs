//! Prompts as people write them: weights, and more tokens than the context.
//!
//! [`Prompt::read`] reads a text as [`Options`] say into *chunks*: the ids of so many tokens as stand between a start and an
//! end token, each with a weight. [`Encoder::encode_prompt`](crate::Encoder::encode_prompt) encodes the chunks one by one and
//! joins their hidden states along the tokens.
//!
//! ```
//! use cliptext::prompt::{Chunks, Options, Prompt};
//!
//! let plan = cliptext::Plan::load(cliptext::include_plan!("../../models/demo.plan"))?;
//! let mut prompt = Prompt::new(); // some kilobytes, for a `static` or a board's start-up
//! let options = Options { chunks: Chunks::Auto, ..Options::default() };
//! prompt.read(plan.tokenizer(), "a running dog BREAK at night", options)?;
//! assert_eq!((prompt.chunks(), prompt.ids(0)), (2, &[320, 2761, 1929][..]));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Weights are read with the feature `weights`, on by default.
//!
//! Nothing is allocated. A text of any length takes time linear in it.

#[cfg(feature = "weights")]
mod a1111;
mod breaks;
mod chunker;
mod chunks;
#[cfg(feature = "weights")]
mod comfy;
#[cfg(feature = "weights")]
mod decimal;
mod error;
#[cfg(feature = "weights")]
mod number;
mod options;
#[cfg(feature = "weights")]
mod parts;
mod read;

#[cfg(feature = "weights")]
pub use a1111::MAX_SPANS;
pub use chunks::{MAX_CHUNKS, MAX_TOKENS, Prompt};
#[cfg(feature = "weights")]
pub use comfy::MAX_DEPTH;
pub use error::PromptError;
#[cfg(feature = "weights")]
pub use number::number;
#[cfg(all(test, feature = "weights"))]
mod tests;

pub use options::{Chunks, Options, USUAL_COMMA, UnknownOption, Weighting};
