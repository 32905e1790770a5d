//! What outputs take.

use cliptext::plan::PlanHash;

/// A prompt and what it became.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'e> {
    pub(crate) text: &'e str,
    pub(crate) is_negative: bool,
    /// An id for each row, as the first text tower takes them.
    pub(crate) ids: &'e [u32],
    /// `[tokens, width]`
    pub(crate) hidden: &'e [f32],
    pub(crate) width: usize,
    /// `[columns]`
    pub(crate) pooled: Option<&'e [f32]>,
}

impl Encoded<'_> {
    /// Rows of the hidden states.
    pub(crate) fn tokens(&self) -> usize {
        self.hidden.len() / self.width
    }
}

/// An [`Encoded`] that outlives the pass.
pub(crate) struct Kept {
    text: String,
    is_negative: bool,
    ids: Vec<u32>,
    hidden: Vec<f32>,
    width: usize,
    pooled: Option<Vec<f32>>,
}

impl Kept {
    pub(crate) fn of(encoded: &Encoded<'_>) -> Self {
        Self {
            text: encoded.text.to_owned(),
            is_negative: encoded.is_negative,
            ids: encoded.ids.to_vec(),
            hidden: encoded.hidden.to_vec(),
            width: encoded.width,
            pooled: encoded.pooled.map(<[f32]>::to_vec),
        }
    }

    pub(crate) fn encoded(&self) -> Encoded<'_> {
        Encoded {
            text: &self.text,
            is_negative: self.is_negative,
            ids: &self.ids,
            hidden: &self.hidden,
            width: self.width,
            pooled: self.pooled.as_deref(),
        }
    }
}

/// What is true of all embeddings of a run: formats with room for it say so.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) plan: PlanHash,
    /// Options that change values or shapes, as they were given: `("no_pad", "true")`.
    pub(crate) options: Vec<(&'static str, String)>,
}

impl About {
    /// The version of this program.
    pub(crate) const VERSION: &'static str = env!("CARGO_PKG_VERSION");
}
