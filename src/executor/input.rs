//! What a pass reads.

use super::error::IdsError;
use crate::plan::Program;
use crate::tokenizer::Tokens;

/// What is encoded: one sequence of a pass.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Input<'i> {
    /// A text, in the whole context: filled up as the model's tokenizer does.
    Text(&'i str),
    /// A text without the padding: only the rows of its own tokens, start and end included.
    Unpadded(&'i str),
    /// Token ids from elsewhere, start and end token included: a row for each, in the order given. The first end token is the
    /// one that is pooled; without one, the last.
    ///
    /// Padding among them counts as text, for every text tower; only
    /// [`Padding::ZeroAfterEnd`](crate::tokenizer::Padding::ZeroAfterEnd) replaces what stands behind the first end token.
    ///
    /// There are 1 to [`Program::context`], all below [`Program::token_rows`].
    Ids(&'i [u32]),
    /// Token ids of a text, without start and end token: they get both, and fill up the context as each text tower does. A chunk of a
    /// [`Prompt`](crate::prompt::Prompt) is given so.
    ///
    /// There are up to two less than [`Program::context`], all below [`Program::token_rows`].
    Content(&'i [u32]),
}

/// A sequence of a pass: its tokens, before any padding, since each text tower has its own.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    pub(super) tokens: Tokens,
    /// How many of the tokens, with their padding, are computed.
    pub(super) computed: usize,
    /// The rows at the front that are wanted.
    pub(super) wanted: usize,
}

impl Sequence {
    /// A text with all its padding.
    pub(super) fn padded(program: &Program<'_>, text: &str) -> Self {
        let context = program.context();
        Self { tokens: program.tokenizer().unpadded(text), computed: context, wanted: context }
    }

    /// A text's own tokens. Where no causal mask keeps the padding from them it is computed with them, so that they are the
    /// first rows of the padded text either way.
    pub(super) fn unpadded(program: &Program<'_>, text: &str) -> Self {
        let padded = Self::padded(program, text);
        let wanted = padded.tokens.len();
        Self { computed: if program.is_causal() { wanted } else { padded.computed }, wanted, ..padded }
    }

    /// Token ids, all of which are text.
    pub(super) fn ids(program: &Program<'_>, ids: &[u32]) -> Result<Self, IdsError> {
        let (given, context) = (ids.len(), program.context());
        check_range(program, ids)?;
        match Tokens::from_ids(ids, program.tokenizer().vocabulary().end_id()) {
            Some(tokens) if given <= context => Ok(Self { tokens, computed: given, wanted: given }),
            _ => Err(IdsError::Count { given, context }),
        }
    }

    /// Token ids of a text, with all its padding.
    fn content(program: &Program<'_>, ids: &[u32]) -> Result<Self, IdsError> {
        let (given, context) = (ids.len(), program.context());
        check_range(program, ids)?;
        let tokens = program.tokenizer().unpadded_around(ids);
        if tokens.is_truncated() {
            return Err(IdsError::Content { given, room: context - 2 });
        }
        Ok(Self { tokens, computed: context, wanted: context })
    }

    #[inline(never)]
    pub(super) fn of(program: &Program<'_>, input: Input<'_>) -> Result<Self, IdsError> {
        match input {
            Input::Text(text) => Ok(Self::padded(program, text)),
            Input::Unpadded(text) => Ok(Self::unpadded(program, text)),
            Input::Ids(ids) => Self::ids(program, ids),
            Input::Content(ids) => Self::content(program, ids),
        }
    }
}

/// Whether all ids have a row in the embedding table.
fn check_range(program: &Program<'_>, ids: &[u32]) -> Result<(), IdsError> {
    let rows = program.token_rows();
    match ids.iter().find(|&&id| id >= rows) {
        Some(&id) => Err(IdsError::Range { id, rows }),
        None => Ok(()),
    }
}
