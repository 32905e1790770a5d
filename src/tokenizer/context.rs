//! How many ids a text can have.

/// The longest context, start and end token included.
pub const MAX_CONTEXT: usize = 256;
