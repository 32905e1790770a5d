//! What a prompt became.

/// What a prompt became: a view into the arena.
#[derive(Clone, Debug)]
pub struct Embedding<'e> {
    pub(super) ids: &'e [u32],
    pub(super) truncated: bool,
    pub(super) rows: usize,
    pub(super) kept: usize,
    pub(super) width: usize,
    pub(super) hidden: &'e [f32],
    pub(super) pooled: Option<&'e [f32]>,
}

impl<'e> Embedding<'e> {
    /// The hidden states, `[tokens, width]` row by row; those of several text towers side by side.
    pub fn hidden(&self) -> &'e [f32] {
        self.hidden
    }

    /// How many rows the hidden states have: the context, or the prompt's own tokens.
    pub fn tokens(&self) -> usize {
        self.rows
    }

    /// How many of the rows at the front were not computed, but stood in the arena since the pass before: where the plan
    /// [keeps them](crate::Program::keeps_rows).
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Columns of the hidden states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The pooled output, `[columns]`, where the plan has one.
    pub fn pooled(&self) -> Option<&'e [f32]> {
        self.pooled
    }

    /// The token ids, one per row of the hidden states, as the first text tower takes them: others may pad otherwise.
    pub fn ids(&self) -> &'e [u32] {
        self.ids
    }

    /// Whether the prompt had more tokens than the context.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }
}
