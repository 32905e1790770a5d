//! Prompts one after the other to the outputs, whatever gives their embeddings.

use std::path::PathBuf;

use super::arguments::EncodeArgs;
use super::engine::Encodes;
use super::progress::Progress;
use super::summary::summary;
use crate::failure::{Failure, Outcome};
use crate::output::{About, Encoded, Kept, Outputs, Target};
use crate::prompts::{Prompts, warn_of_dropped};
use crate::reading::Reading;

/// What comes out, and how far it is.
pub(super) struct Run<'r> {
    outputs: Outputs,
    /// How prompts are read; `None` of what was encoded before.
    reading: Option<&'r Reading>,
    negative: Option<&'r str>,
    /// The negative prompt's embedding, once it is there.
    kept: Option<Kept>,
    /// Whether pooled outputs are asked for by themselves.
    is_pooled: bool,
    /// Whether a summary is printed: where no hidden states are written, and no pooled ones go to standard output.
    is_summarised: bool,
    progress: Progress,
}

impl<'r> Run<'r> {
    /// Starts the outputs, none of which may be one of `inputs`.
    pub(super) fn begin(
        args: &'r EncodeArgs,
        reading: Option<&'r Reading>,
        targets: Vec<Target>,
        inputs: Vec<PathBuf>,
        about: About,
        total: Option<usize>,
    ) -> Outcome<Self> {
        let negative = args.negative.as_deref();
        let with_negative = total.map(|total| total + usize::from(negative.is_some()));
        let is_summarised =
            args.output.is_none() && !args.pooled.as_deref().is_some_and(cliptext_files::is_stdout);
        Ok(Self {
            outputs: Outputs::create(targets, about, args.order(), inputs, with_negative)?,
            reading,
            negative,
            kept: None,
            is_pooled: args.pooled.is_some(),
            is_summarised,
            progress: Progress::new("prompts", total, !is_summarised),
        })
    }

    /// The texts to encode for `prompt`: with the first one the negative prompt.
    pub(super) fn texts<'t>(&self, prompt: &'t str) -> Vec<&'t str>
    where
        'r: 't,
    {
        let negative = self.negative.filter(|_| self.kept.is_none());
        [prompt].into_iter().chain(negative).collect()
    }

    /// Writes what [`texts`](Self::texts) became, and tells of it.
    pub(super) fn take(&mut self, all: &[Encoded<'_>]) -> Outcome {
        for encoded in all {
            if self.is_pooled && encoded.pooled.is_none() {
                return Err(Failure::Usage("--pooled: the plan has no pooled output".into()));
            }
            let note = self.reading.and_then(|reading| reading.note(encoded.text));
            if encoded.dropped.is_some() || note.is_some() {
                self.progress.clear();
            }
            if let Some(note) = note {
                cliptext_files::to_stderr!("{note}");
            }
            warn_of_dropped(encoded.text, encoded.dropped, encoded.tokens());
        }
        let [prompt, negative @ ..] = all else { return Ok(()) };
        let kept = self.kept.as_ref().map(Kept::encoded);
        self.outputs.write(prompt, negative.first().or(kept.as_ref()))?;
        if self.is_summarised {
            sayln!("{}", summary(prompt));
        }
        if let Some(negative) = negative.first() {
            self.kept = Some(Kept::of(negative));
        }
        self.progress.step();
        Ok(())
    }

    /// Encodes a prompt, the first one with the negative prompt.
    pub(super) fn next(&mut self, engine: &mut dyn Encodes, prompt: &str) -> Outcome {
        engine.encode(&self.texts(prompt), &mut |all| self.take(all))
    }

    /// Encodes all prompts that are left, and gives the outputs their names.
    pub(super) fn all(&mut self, engine: &mut dyn Encodes, prompts: &mut Prompts) -> Outcome {
        for prompt in prompts {
            self.next(engine, &prompt?)?;
        }
        self.finish()
    }

    /// Gives the outputs their names.
    pub(super) fn finish(&mut self) -> Outcome {
        self.progress.clear();
        let kept = self.kept.as_ref().map(Kept::encoded);
        if let Some(negative) = kept.as_ref().filter(|_| self.is_summarised) {
            sayln!("{}", summary(negative));
        }
        self.outputs.finish(kept.as_ref())
    }

    /// `failure`, with the files that are not written because of it.
    pub(super) fn missing(&mut self, failure: Failure) -> Failure {
        self.progress.clear();
        self.outputs.missing(failure)
    }
}
