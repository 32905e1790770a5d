//! What is encoded.

/// 77 tokens with its padding.
pub(super) const PROMPT: &str = "a photograph of an astronaut riding a horse";
pub(super) const NEGATIVE: &str = "low quality, blurry";
/// 7 tokens, start and end included.
pub(super) const SHORT_PROMPT: &str = "a photo of a cat";
