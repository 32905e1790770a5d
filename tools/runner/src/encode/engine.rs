//! A prompt to its embedding.

use cliptext::prompt::{Options, Prompt};
use cliptext::threads::Team;
use cliptext::{AlignedBytes, Embedding, Encoder, Kernels, Plan, Tokenizer};

use crate::failure::Outcome;
use crate::output::Encoded;
use crate::setup::{cannot_encode, team};

/// Is given embeddings, which are only lent.
pub(crate) type Take<'t> = dyn FnMut(&[Encoded<'_>]) -> Outcome + 't;

/// What gives prompts their embeddings.
pub(crate) trait Encodes {
    /// Gives `take` the embeddings of a prompt, and of the negative prompt, where it is a second text.
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome;
}

/// An encoder and how prompts are given to it.
struct Engine<'a, T> {
    encoder: Encoder<'a, T>,
    tokenizer: Tokenizer<'a>,
    no_pad: bool,
}

impl<T: Team> Encodes for Engine<'_, T> {
    /// Two texts go in one pass.
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        if let [prompt, negative] = *texts {
            let texts = [prompt, negative];
            let pair = match self.no_pad {
                true => self.encoder.encode_pair_unpadded(texts),
                false => self.encoder.encode_pair(texts),
            };
            let [first, second] = &pair.map_err(cannot_encode)?;
            return take(&[
                encoded(&self.tokenizer, prompt, false, first),
                encoded(&self.tokenizer, negative, true, second),
            ]);
        }
        for text in texts {
            let embedding =
                if self.no_pad { self.encoder.encode_unpadded(text) } else { self.encoder.encode(text) };
            take(&[encoded(&self.tokenizer, text, false, &embedding)])?;
        }
        Ok(())
    }
}

/// How prompts are encoded.
pub(crate) struct How<'h> {
    pub(crate) plan: &'h Plan<'h>,
    pub(crate) kernels: Kernels,
    pub(crate) threads: Option<u16>,
    pub(crate) no_pad: bool,
}

impl How<'_> {
    /// Makes an encoder, with room for a prompt and its negative where `is_pair`, for `work` to use.
    pub(crate) fn with_engine<R>(
        &self,
        is_pair: bool,
        work: impl FnOnce(&mut dyn Encodes) -> Outcome<R>,
    ) -> Outcome<R> {
        let mut memory = AlignedBytes::zeroed(self.plan.arena_bytes(1 + usize::from(is_pair)));
        let team = team(self.threads.map(usize::from))?;
        let encoder = Encoder::with(self.plan, &mut memory, self.kernels, &team).map_err(cannot_encode)?;
        work(&mut Engine { encoder, tokenizer: *self.plan.tokenizer(), no_pad: self.no_pad })
    }

    /// The rows that a text will have, and what of it does not fit.
    pub(crate) fn extent(&self, text: &str) -> (usize, Option<(usize, usize)>) {
        let tokens = self.plan.tokenizer().encode(text);
        let rows = if self.no_pad { tokens.len() } else { self.plan.context() };
        (rows, if tokens.is_truncated() { dropped(self.plan.tokenizer(), text) } else { None })
    }
}

/// The part of a text, from and to which byte, that did not fit.
fn dropped(tokenizer: &Tokenizer<'_>, text: &str) -> Option<(usize, usize)> {
    let mut prompt = Prompt::new();
    prompt.read(tokenizer, text, Options::default()).ok()?;
    prompt.dropped().map(|range| (range.start, range.end))
}

/// An embedding as outputs take it.
fn encoded<'e>(
    tokenizer: &Tokenizer<'_>,
    text: &'e str,
    is_negative: bool,
    embedding: &'e Embedding<'_>,
) -> Encoded<'e> {
    Encoded {
        text,
        is_negative,
        ids: embedding.ids(),
        hidden: embedding.hidden(),
        width: embedding.width(),
        pooled: embedding.pooled(),
        dropped: if embedding.is_truncated() { dropped(tokenizer, text) } else { None },
    }
}
