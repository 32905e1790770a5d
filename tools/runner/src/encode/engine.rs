//! A prompt to its embedding.

use cliptext::threads::Team;
use cliptext::{Embedding, Encoder, EncoderError};

use crate::output::Encoded;

/// An encoder and how prompts are given to it.
pub(super) struct Engine<'a, T> {
    pub(super) encoder: Encoder<'a, T>,
    pub(super) no_pad: bool,
}

impl<T: Team> Engine<'_, T> {
    /// A prompt by itself.
    pub(super) fn one(&mut self, text: &str) -> Embedding<'_> {
        if self.no_pad { self.encoder.encode_unpadded(text) } else { self.encoder.encode(text) }
    }

    /// Two in one pass.
    pub(super) fn pair(&mut self, texts: [&str; 2]) -> Result<[Embedding<'_>; 2], EncoderError> {
        if self.no_pad { self.encoder.encode_pair_unpadded(texts) } else { self.encoder.encode_pair(texts) }
    }
}

/// An embedding as outputs take it.
pub(super) fn encoded<'e>(text: &'e str, is_negative: bool, embedding: &'e Embedding<'_>) -> Encoded<'e> {
    Encoded {
        text,
        is_negative,
        ids: embedding.ids(),
        hidden: embedding.hidden(),
        width: embedding.width(),
        pooled: embedding.pooled(),
    }
}
