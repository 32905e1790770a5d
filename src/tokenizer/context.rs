//! How many ids a text can have.

/// The longest context, start and end token included.
pub const MAX_CONTEXT: usize = 256;

/// The context of nearly every CLIP model, which takes less stack than longer ones.
pub(super) const USUAL_CONTEXT: usize = 77;
