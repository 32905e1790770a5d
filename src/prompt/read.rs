//! The reading of a prompt.

use super::breaks;
use super::chunker::Chunker;
use super::chunks::Prompt;
use super::error::PromptError;
use super::options::{Chunks, Options, Weighting};
#[cfg(feature = "weights")]
use super::parts::Tokenized;
#[cfg(feature = "weights")]
use super::{a1111, comfy};
use crate::tokenizer::{Plain, Tokenizer};

impl Prompt {
    /// Reads `text`, in place of what it held before.
    ///
    /// Takes up to 10 KB of stack, whatever the text.
    ///
    /// # Errors
    /// [`PromptError`] names the limit that the options or the text exceed. Then it has no chunks.
    pub fn read(
        &mut self,
        tokenizer: &Tokenizer<'_>,
        text: &str,
        options: Options,
    ) -> Result<(), PromptError> {
        let read = self.try_read(tokenizer, text, options);
        if read.is_err() {
            (self.chunks, self.dropped) = (0, None);
        }
        read
    }

    fn try_read(
        &mut self,
        tokenizer: &Tokenizer<'_>,
        text: &str,
        options: Options,
    ) -> Result<(), PromptError> {
        let context = tokenizer.context();
        let most = Self::max_chunks(context);
        let limit = match options.chunks {
            Chunks::One => 1,
            Chunks::Auto => most,
            Chunks::Exactly(chunks) if (1..=most).contains(&chunks.into()) => chunks.into(),
            Chunks::Exactly(chunks) => return Err(PromptError::Chunks { asked: chunks.into(), limit: most }),
        };
        (self.chunks, self.context, self.dropped) = (0, context as u16, None);
        self.weighting = options.weighting;
        let mut chunker = Chunker::new(self, context - 2, limit);
        match options.weighting {
            Weighting::None if options.chunks == Chunks::One => {
                tokenizer.read(Plain::new(text), &mut chunker);
            }
            Weighting::None => {
                chunker = chunker.keeping_together().at_commas(comma(tokenizer), options.comma);
                read_sections(tokenizer, text, &mut chunker);
            }
            #[cfg(feature = "weights")]
            Weighting::A1111 => {
                chunker = chunker.keeping_together().at_commas(comma(tokenizer), options.comma);
                let mut parts = Tokenized { tokenizer, chunker: &mut chunker, together: false };
                a1111::read(text, &mut parts)?;
            }
            #[cfg(feature = "weights")]
            Weighting::Comfy => {
                chunker = chunker.keeping_together();
                let mut parts = Tokenized { tokenizer, chunker: &mut chunker, together: true };
                comfy::read(text, &mut parts)?;
            }
            #[cfg(not(feature = "weights"))]
            Weighting::A1111 | Weighting::Comfy => return Err(PromptError::Weights),
        }
        if let Some(place) = chunker.finish() {
            let rest = text.get(text.floor_char_boundary(place)..).unwrap_or("");
            let at = text.len() - rest.trim_start().len();
            if options.chunks == Chunks::Auto {
                return Err(PromptError::TooLong { limit, at });
            }
            self.dropped = Some(at..at.max(text.trim_end().len()));
        }
        if let Chunks::Exactly(chunks) = options.chunks {
            self.fill(chunks.into())?;
        }
        Ok(())
    }
}

/// The comma's id; none where a vocabulary writes it with several.
fn comma(tokenizer: &Tokenizer<'_>) -> Option<u32> {
    match tokenizer.unpadded(",").unpadded() {
        [_, comma, _] => Some(*comma),
        _ => None,
    }
}

/// The sections of a text between `BREAK`s, each in chunks of its own.
fn read_sections(tokenizer: &Tokenizer<'_>, text: &str, chunker: &mut Chunker<'_>) {
    let (mut rest, mut start) = (text, 0);
    while let Some(found) = breaks::find(rest) {
        let section = rest.get(..found.start).unwrap_or(rest);
        if !tokenizer.read(Plain::part(section, start), chunker) || !chunker.end_chunk(start + found.start) {
            return;
        }
        rest = rest.get(found.end..).unwrap_or("");
        start += found.end;
    }
    tokenizer.read(Plain::part(rest, start), chunker);
}
