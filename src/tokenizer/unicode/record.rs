//! What is known of a character.

/// What the pre-tokenizer's regular expressions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tokenizer) enum Category {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// Everything else, unassigned characters included.
    Other,
}

/// The properties of a character.
#[derive(Clone, Copy, Debug)]
pub(in crate::tokenizer) struct Record {
    pub(in crate::tokenizer) category: Category,
    /// Canonical combining class, as its rank among the classes in use: order is all that normalization asks.
    pub(in crate::tokenizer) class: u8,
    /// Its canonical decomposition is not itself.
    pub(in crate::tokenizer) decomposes: bool,
    /// Some character before it composes with it.
    pub(in crate::tokenizer) composes: bool,
}
