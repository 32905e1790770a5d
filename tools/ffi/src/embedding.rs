//! What a text became.

use cliptext::Embedding;

/// What a text became: a view of the encoder's arena, good until the next call that encodes with the same encoder, and no longer
/// than the arena is there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_embedding {
    /// The hidden states, `[tokens, width]` row by row.
    pub hidden: *const f32,
    /// The pooled output, `[pooled_columns]`; null where the plan has none.
    pub pooled: *const f32,
    /// The token ids, `[tokens]`, one for each row of the hidden states, as the (first) text tower takes them.
    pub ids: *const u32,
    /// Rows of the hidden states: the context, or the text's own tokens.
    pub tokens: usize,
    /// Rows at the front that were kept from the call before, whose text began alike, and not computed again; 0 unless the plan
    /// keeps rows.
    pub kept: usize,
    /// Columns of the hidden states.
    pub width: usize,
    /// Columns of the pooled output; 0 where the plan has none.
    pub pooled_columns: usize,
    /// Whether the text had more tokens than the context, and was cut.
    pub truncated: bool,
}

impl cliptext_embedding {
    pub(crate) fn of(embedding: &Embedding<'_>) -> Self {
        let pooled = embedding.pooled();
        Self {
            hidden: embedding.hidden().as_ptr(),
            pooled: pooled.map_or(core::ptr::null(), <[f32]>::as_ptr),
            ids: embedding.ids().as_ptr(),
            tokens: embedding.tokens(),
            kept: embedding.kept(),
            width: embedding.width(),
            pooled_columns: pooled.map_or(0, <[f32]>::len),
            truncated: embedding.is_truncated(),
        }
    }
}
