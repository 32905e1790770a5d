//! A prompt to its embedding.

use cliptext::prompt::{Prompt, Weighting};
use cliptext::threads::Team;
use cliptext::{AlignedBytes, Embedding, Encoder, Kernels, Plan, Tokenizer};

use crate::failure::{Outcome, work};
use crate::output::Encoded;
use crate::prompts::shown;
use crate::reading::{Reading, dropped};
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
    plan: &'a Plan<'a>,
    no_pad: bool,
    reading: &'a Reading,
    /// The hidden states of the empty prompt, once ComfyUI's weights have needed them.
    empty: Option<Vec<f32>>,
}

impl<T: Team> Engine<'_, T> {
    /// Encodes texts with weights, or in chunks: of all as many.
    fn encode_chunks(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        let tokenizer = self.plan.tokenizer();
        let mut prompts =
            texts.iter().map(|text| self.reading.prompt(tokenizer, text)).collect::<Outcome<Vec<_>>>()?;
        let chunks = prompts.iter().map(|prompt| prompt.chunks()).max().unwrap_or(1);
        let width = self.plan.width();
        let mut states = Vec::new();
        for (prompt, text) in prompts.iter_mut().zip(texts) {
            prompt.fill(chunks).map_err(|error| work(shown(text), error))?;
            if prompt.weighting() == Weighting::Comfy && prompt.is_weighted() && self.empty.is_none() {
                self.empty = Some(self.encoder.encode("").hidden().to_vec());
            }
            let mut hidden = vec![0.0; chunks * self.plan.context() * width];
            let mut pooled = self.plan.manifest().pooled.map(|rows| vec![0.0; rows.columns as usize]);
            self.encoder
                .encode_prompt(prompt, self.empty.as_deref(), &mut hidden, pooled.as_deref_mut())
                .map_err(|error| work(shown(text), error))?;
            states.push((row_ids(tokenizer, prompt), hidden, pooled));
        }
        let all = texts.iter().zip(&prompts).zip(&states).enumerate();
        let all = all.map(|(index, ((text, prompt), (ids, hidden, pooled)))| Encoded {
            text,
            is_negative: index > 0,
            ids,
            hidden,
            width,
            pooled: pooled.as_deref(),
            dropped: prompt.dropped().map(|range| (range.start, range.end)),
        });
        take(&all.collect::<Vec<_>>())
    }
}

/// An id for each row of all chunks.
fn row_ids(tokenizer: &Tokenizer<'_>, prompt: &Prompt) -> Vec<u32> {
    (0..prompt.chunks()).flat_map(|chunk| tokenizer.around(prompt.ids(chunk)).ids().to_vec()).collect()
}

impl<T: Team> Encodes for Engine<'_, T> {
    /// Two texts go in one pass.
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        if !self.reading.is_plain() {
            return self.encode_chunks(texts, take);
        }
        let tokenizer = self.plan.tokenizer();
        if let [prompt, negative] = *texts {
            let texts = [prompt, negative];
            let pair = match self.no_pad {
                true => self.encoder.encode_pair_unpadded(texts),
                false => self.encoder.encode_pair(texts),
            };
            let [first, second] = &pair.map_err(cannot_encode)?;
            return take(&[
                encoded(tokenizer, prompt, false, first),
                encoded(tokenizer, negative, true, second),
            ]);
        }
        for text in texts {
            let embedding =
                if self.no_pad { self.encoder.encode_unpadded(text) } else { self.encoder.encode(text) };
            take(&[encoded(tokenizer, text, false, &embedding)])?;
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
    pub(crate) reading: &'h Reading,
}

impl How<'_> {
    /// Makes an encoder, with room for a prompt and its negative where `is_pair`, for `use_engine` to use.
    pub(crate) fn with_engine<R>(
        &self,
        is_pair: bool,
        use_engine: impl FnOnce(&mut dyn Encodes) -> Outcome<R>,
    ) -> Outcome<R> {
        // Two chunks go in one pass as a prompt and its negative do.
        let is_pair = is_pair || self.reading.chunks() > 1;
        let mut memory = AlignedBytes::zeroed(self.plan.arena_bytes(1 + usize::from(is_pair)));
        let team = team(self.threads.map(usize::from))?;
        let encoder = Encoder::with(self.plan, &mut memory, self.kernels, &team).map_err(cannot_encode)?;
        let (plan, no_pad, reading) = (self.plan, self.no_pad, self.reading);
        use_engine(&mut Engine { encoder, plan, no_pad, reading, empty: None })
    }

    /// The rows that a text will have, and what of it does not fit.
    pub(crate) fn extent(&self, text: &str) -> Outcome<(usize, Option<(usize, usize)>)> {
        let tokenizer = self.plan.tokenizer();
        let prompt = self.reading.prompt(tokenizer, text)?;
        let rows = match self.no_pad {
            true => tokenizer.encode(text).len(),
            false => prompt.chunks() * self.plan.context(),
        };
        Ok((rows, prompt.dropped().map(|range| (range.start, range.end))))
    }
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
