//! A prompt to its embedding.

use cliptext::prompt::{Prompt, Weighting};
use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Embedding, Encoder, Input, Kernels, PassError, Source, Tokenizer};

use std::fmt::Display;

use crate::failure::{Failure, Outcome, work};
use crate::opened::{Constants, Loaded};
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
struct Engine<'a, S> {
    encoder: Encoder<'a, &'a Threads, S>,
    plan: &'a Loaded<'a>,
    no_pad: bool,
    reading: &'a Reading,
    /// The hidden states of the empty prompt, once ComfyUI's weights have needed them.
    empty: Option<Vec<f32>>,
}

impl<S: Source<Error: Display>> Engine<'_, S> {
    /// Encodes texts with weights, or in chunks: of all as many.
    fn encode_chunks(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        let (plan, program) = (self.plan, &self.plan.program);
        let tokenizer = program.tokenizer();
        let mut prompts =
            texts.iter().map(|text| self.reading.prompt(tokenizer, text)).collect::<Outcome<Vec<_>>>()?;
        let chunks = prompts.iter().map(|prompt| prompt.chunks()).max().unwrap_or(1);
        let width = program.width();
        let mut states = Vec::new();
        for (prompt, text) in prompts.iter_mut().zip(texts) {
            prompt.fill(chunks).map_err(|error| work(shown(text), error))?;
            if prompt.weighting() == Weighting::Comfy && prompt.is_weighted() && self.empty.is_none() {
                let empty = self.encoder.encode_from(Input::Text(""), &mut ());
                self.empty = Some(empty.map_err(|error| plan.failed(error, ""))?.hidden().to_vec());
            }
            let mut hidden = vec![0.0; chunks * program.context() * width];
            let mut pooled = program.manifest().pooled.map(|rows| vec![0.0; rows.columns as usize]);
            self.encoder
                .encode_prompt(prompt, self.empty.as_deref(), &mut hidden, pooled.as_deref_mut())
                .map_err(|error| plan.failed(error, text))?;
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

impl Loaded<'_> {
    /// A pass over `text` that failed: by its constants, or by what it was asked for.
    fn failed<E: Display>(&self, error: PassError<E>, text: &str) -> Failure {
        match error {
            PassError::Source(error) => work(self.name, error),
            error => work(shown(text), error),
        }
    }
}

/// An id for each row of all chunks.
fn row_ids(tokenizer: &Tokenizer<'_>, prompt: &Prompt) -> Vec<u32> {
    (0..prompt.chunks()).flat_map(|chunk| tokenizer.around(prompt.ids(chunk)).ids().to_vec()).collect()
}

impl<S: Source<Error: Display>> Encodes for Engine<'_, S> {
    /// Two texts go in one pass.
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        if !self.reading.is_plain() {
            return self.encode_chunks(texts, take);
        }
        let plan = self.plan;
        let tokenizer = plan.program.tokenizer();
        let input = if self.no_pad { Input::Unpadded } else { Input::Text };
        if let [prompt, negative] = *texts {
            let pair = self.encoder.encode_pair_from([prompt, negative].map(input), &mut ());
            let [first, second] = &pair.map_err(|error| plan.failed(error, prompt))?;
            return take(&[
                encoded(tokenizer, prompt, false, first),
                encoded(tokenizer, negative, true, second),
            ]);
        }
        for text in texts {
            let embedding = self.encoder.encode_from(input(text), &mut ());
            let embedding = embedding.map_err(|error| plan.failed(error, text))?;
            take(&[encoded(tokenizer, text, false, &embedding)])?;
        }
        Ok(())
    }
}

/// How prompts are encoded.
pub(crate) struct How<'h> {
    pub(crate) plan: &'h Loaded<'h>,
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
        let program = &self.plan.program;
        match self.plan.constants {
            Constants::Resident(constants) => self.with_constants(constants, is_pair, use_engine),
            Constants::Streamed(streamed) => {
                let mut buffer = streamed.buffer(program)?;
                let constants = streamed.constants(program, &mut buffer)?;
                self.with_constants(constants, is_pair, use_engine)
            }
        }
    }

    /// [`with_engine`](Self::with_engine), given the constants.
    fn with_constants<R, S: Source<Error: Display>>(
        &self,
        constants: S,
        is_pair: bool,
        use_engine: impl FnOnce(&mut dyn Encodes) -> Outcome<R>,
    ) -> Outcome<R> {
        let (plan, no_pad, reading) = (self.plan, self.no_pad, self.reading);
        // Two chunks go in one pass as a prompt and its negative do.
        let is_pair = is_pair || reading.chunks() > 1;
        let mut memory = AlignedBytes::zeroed(plan.program.arena_bytes(1 + usize::from(is_pair)));
        let threads = self.threads.map(usize::from).or_else(|| plan.constants.threads());
        let team = team(threads)?;
        let encoder = Encoder::over(plan.program, constants, &mut memory, self.kernels, &team);
        let encoder = encoder.map_err(cannot_encode)?;
        use_engine(&mut Engine { encoder, plan, no_pad, reading, empty: None })
    }

    /// The rows that a text will have, and what of it does not fit.
    pub(crate) fn extent(&self, text: &str) -> Outcome<(usize, Option<(usize, usize)>)> {
        let tokenizer = self.plan.program.tokenizer();
        let prompt = self.reading.prompt(tokenizer, text)?;
        let rows = match self.no_pad {
            true => tokenizer.encode(text).len(),
            false => prompt.chunks() * self.plan.program.context(),
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
