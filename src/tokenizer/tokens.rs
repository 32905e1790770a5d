//! The token ids of one text.

use core::fmt;

use super::context::MAX_CONTEXT;

/// The token ids of one text.
#[derive(Clone, Copy)]
pub struct Tokens {
    pub(super) ids: [u32; MAX_CONTEXT],
    pub(super) context: u16,
    pub(super) len: u16,
    pub(super) end_position: u16,
    pub(super) truncated: bool,
}

impl Tokens {
    /// Ids from elsewhere, none of them padding; `None` if there are none, or more than [`MAX_CONTEXT`].
    pub(crate) fn from_ids(given: &[u32], end_id: u32) -> Option<Self> {
        let mut ids = [end_id; MAX_CONTEXT];
        ids.get_mut(..given.len())?.copy_from_slice(given);
        let last = given.len().checked_sub(1)?;
        let end = given.iter().position(|&id| id == end_id).unwrap_or(last);
        let len = given.len() as u16;
        Some(Tokens { ids, context: len, len, end_position: end as u16, truncated: false })
    }

    /// All ids, padded: `[context]`.
    pub fn ids(&self) -> &[u32] {
        self.ids.get(..usize::from(self.context)).unwrap_or(&self.ids)
    }

    /// The ids without padding, start and end token included: `[len]`.
    pub fn unpadded(&self) -> &[u32] {
        self.ids.get(..self.len()).unwrap_or(&self.ids)
    }

    /// How many ids there are without padding, start and end token included: at least 2.
    #[allow(clippy::len_without_is_empty)] // there is always a start and an end
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the text had more tokens than fit.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The index of the first end token: the row that the model pools. It is before the last of
    /// [`unpadded`](Self::unpadded) if the text itself contains an end token.
    pub fn end_position(&self) -> usize {
        usize::from(self.end_position)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("unpadded", &self.unpadded())
            .field("context", &self.context)
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}
