//! How prompts are read: weights, chunks, and what of a text is told.

use std::cell::Cell;
use std::path::Path;

use clap::Args;
use cliptext::prompt::{Chunks, Options, Prompt, PromptError, USUAL_COMMA, Weighting};
use cliptext::{Program, Tokenizer};

use crate::arguments::PadArgs;
use crate::failure::{Failure, Outcome, work};
use crate::output::Options as Told;
use crate::prompts::{name_of, shown};

#[derive(Args)]
pub(crate) struct ReadingArgs {
    /// Read the weights in prompts as a program does: a1111 as AUTOMATIC1111's, (word:1.3), [word] and BREAK; comfy as ComfyUI,
    /// (word:1.3); \( is a bracket that is text. none: all of it is text [default: none]. Embeddings (textual inversion) are
    /// part of the plan: cliptext compile --embedding; their words stand in prompts as they are
    #[arg(long, value_name = "PROGRAM")]
    weights: Option<Weighting>,
    /// Read prompts of more tokens than the context into N chunks, or as many as the longest of all needs (auto), each with
    /// its own start and end: the hidden states are [N · tokens, width]. BREAK begins a chunk, but with --weights comfy.
    /// Empty chunks fill up shorter prompts, the negative one too; the pooled output is the first chunk's
    #[arg(long, value_name = "N | auto")]
    chunks: Option<Chunks>,
    /// End a full chunk behind its last comma, if at most N tokens come behind it; 20 without N, as AUTOMATIC1111's program does
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        default_missing_value = "20",
        requires = "chunks",
        value_parser = clap::value_parser!(u8).range(1..=74)
    )]
    comma_backtrack: Option<u8>,
}

impl ReadingArgs {
    /// The first of the options that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let options = [
            ("--weights", self.weights.is_some()),
            ("--chunks", self.chunks.is_some()),
            ("--comma-backtrack", self.comma_backtrack.is_some()),
        ];
        options.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// How prompts are read; the chunks of all together are not counted yet.
    ///
    /// # Errors
    /// When an option has no effect, or contradicts `--no-pad`.
    pub(crate) fn with_padding(&self, pad: &PadArgs) -> Outcome<Reading> {
        match self.given().filter(|_| pad.no_pad) {
            Some(option) => Err(Failure::Usage(format!(
                "--no-pad: {option} is about whole contexts, padding included: leave out one of them"
            ))),
            None => self.reading(),
        }
    }

    /// [`with_padding`](Self::with_padding) of prompts that may go without.
    ///
    /// # Errors
    /// When an option has no effect.
    pub(crate) fn reading(&self) -> Outcome<Reading> {
        let weighting = self.weights.unwrap_or_default();
        if weighting == Weighting::Comfy && self.comma_backtrack.is_some() {
            return Err(Failure::Usage(
                "--comma-backtrack: ComfyUI's chunks end wherever they are full: the option has no effect"
                    .into(),
            ));
        }
        let options = Options {
            weighting,
            chunks: self.chunks.unwrap_or_default(),
            comma: self.comma_backtrack.unwrap_or(0),
        };
        Ok(Reading { options, is_told: Cell::new(false) })
    }
}

/// How prompts are read.
pub(crate) struct Reading {
    options: Options,
    /// Whether it was said what of a prompt is read as text.
    is_told: Cell<bool>,
}

impl Reading {
    /// All of a prompt is text, in one chunk.
    pub(crate) fn plain() -> Self {
        Self { options: Options::default(), is_told: Cell::new(false) }
    }

    /// Whether all of a prompt is text, in one chunk, which needs no reading.
    pub(crate) fn is_plain(&self) -> bool {
        self.options == Options::default()
    }

    /// Whether the chunks of all prompts have to be counted beforehand.
    pub(crate) fn is_open(&self) -> bool {
        self.options.chunks == Chunks::Auto
    }

    /// How many chunks each prompt has.
    pub(crate) fn chunks(&self) -> usize {
        match self.options.chunks {
            Chunks::Exactly(chunks) => chunks.into(),
            _ => 1,
        }
    }

    /// The options by name, as outputs tell them, and all that changes values or shapes, as the cache asks.
    pub(crate) fn told(&self, pad: &PadArgs) -> Told {
        let Options { weighting, chunks, comma } = self.options;
        let all = [
            ("no_pad", "true".into(), pad.no_pad),
            ("weights", weighting.to_string(), weighting != Weighting::None),
            ("chunks", chunks.to_string(), chunks != Chunks::One),
            ("comma_backtrack", comma.to_string(), comma > 0),
        ];
        let told = all.into_iter().filter(|(.., is_told)| *is_told);
        Told(told.map(|(name, value, _)| (name.to_owned(), value)).collect())
    }

    /// Gives all prompts the chunks that the longest of them needs: those of the command line, and those in `file`.
    pub(crate) fn count<'t>(
        &mut self,
        plan: &Program<'_>,
        listed: impl Iterator<Item = &'t str>,
        file: Option<&Path>,
    ) -> Outcome {
        if !self.is_open() {
            return Ok(());
        }
        let (mut least, mut most) = (usize::MAX, 0);
        let mut count = |text: &str| {
            let chunks = self.prompt(plan.tokenizer(), text)?.chunks();
            (least, most) = (least.min(chunks), most.max(chunks));
            Ok::<_, Failure>(())
        };
        listed.into_iter().try_for_each(&mut count)?;
        if let Some(path) = file {
            if !path.is_file() {
                return Err(Failure::Usage(format!(
                    "--chunks auto: {} can't be read twice, once to count the chunks: give --chunks N",
                    name_of(path)
                )));
            }
            let prompts = cliptext_files::prompts::Prompts::open(path);
            for prompt in prompts.map_err(|error| work(name_of(path), error))? {
                count(&prompt.map_err(|error| work(name_of(path), error))?)?;
            }
        }
        if least < most {
            cliptext_files::to_stderr!(
                "cliptext-run: --chunks auto: all get {most} chunks, as the longest needs: empty ones fill up the others"
            );
        }
        self.options.chunks = Chunks::Exactly(most.max(1) as u8);
        Ok(())
    }

    /// What of a prompt is text and looks like something else: the first time, for one line on standard error.
    pub(crate) fn note(&self, text: &str) -> Option<String> {
        let note = note(text, self.options).filter(|_| !self.is_told.replace(true))?;
        Some(format!("cliptext-run: {}: {note}", shown(text)))
    }

    /// Reads a prompt.
    pub(crate) fn prompt(&self, tokenizer: &Tokenizer<'_>, text: &str) -> Outcome<Box<Prompt>> {
        let mut prompt = Box::new(Prompt::new());
        prompt.read(tokenizer, text, self.options).map_err(|error| match error {
            PromptError::Chunks { .. } => Failure::Usage(format!("--chunks: {error}")),
            PromptError::TooLong { .. } => {
                Failure::Work(format!("{}: {error} (--chunks N cuts it)", shown(text)))
            }
            error => work(shown(text), error),
        })?;
        Ok(prompt)
    }
}

/// The part of a text, from and to which byte, that does not fit.
pub(crate) fn dropped(tokenizer: &Tokenizer<'_>, text: &str) -> Option<(usize, usize)> {
    let prompt = Reading::plain().prompt(tokenizer, text).ok()?;
    prompt.dropped().map(|range| (range.start, range.end))
}

/// What of a text is read as text and looks like something else.
fn note(text: &str, options: Options) -> Option<&'static str> {
    let has_word = |word| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word);
    match options.weighting {
        Weighting::None if has_weight(text) => {
            Some("(…:1.3) is text here: --weights a1111 or comfy reads weights")
        }
        Weighting::None if options.chunks == Chunks::One && has_word("BREAK") => {
            Some("BREAK is text here: --chunks begins a chunk there")
        }
        Weighting::Comfy if has_word("BREAK") => {
            Some("BREAK is text here, as in ComfyUI: --weights a1111 begins a chunk there")
        }
        Weighting::Comfy if text.contains("embedding:") => Some(
            "embedding: is text here: words of embeddings are part of the plan (cliptext compile --embedding)",
        ),
        Weighting::A1111 if text.contains("<lora:") => {
            Some("<lora:…> is text here: LoRAs are part of the plan (cliptext compile --lora)")
        }
        Weighting::A1111 if has_word("AND") || has_alternatives(text) => {
            Some("AND, [a|b] and [a:b:0.5] are text here: they say how to sample, not how to encode")
        }
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    cliptext::prompt::number(text).is_some()
}

/// Bytes of a number in a weight, at the most.
const NUMBER: usize = 15;

/// Whether a text has a number between a colon and a bracket that closes, as weights have it. Behind each colon few bytes are looked at:
/// in a text of colons the next bracket is far for all of them.
fn has_weight(text: &str) -> bool {
    let Some((_, behind)) = text.split_once('(') else { return false };
    behind.match_indices(':').any(|(at, _)| {
        let rest = &behind[at + 1..];
        let closes = rest.bytes().take(NUMBER + 1).position(|byte| byte == b')');
        closes.is_some_and(|end| is_number(&rest[..end]))
    })
}

/// Whether a text has square brackets with alternatives or steps in them, as prompts have it that change while an image is made.
fn has_alternatives(text: &str) -> bool {
    text.split('[').skip(1).any(|rest| {
        let inside = rest.split(']').next().unwrap_or("");
        let step = inside.rsplit_once(':').is_some_and(|(_, number)| is_number(number));
        inside.len() < rest.len() && (inside.contains('|') || step)
    })
}

/// What stands for commas in `--comma-backtrack` without a number.
const _: () = assert!(USUAL_COMMA == 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_markup_is_noted_and_nothing_else() {
        let note = |text: &str, weighting, chunks| note(text, Options { weighting, chunks, comma: 0 });
        let none = |text: &str| note(text, Weighting::None, Chunks::One);
        for text in ["(cat:1.3)", "a ((b) c : -.5 ) d", "(a:b:1)", "a BREAK b"] {
            assert!(none(text).is_some(), "{text}");
        }
        for text in ["a cat (small), 16:9", "12:30)", "(a: b)", "BREAKFAST", "", ":)", "(:", "(note: see 3)"]
        {
            assert_eq!(none(text), None, "{text}");
        }
        assert_eq!(note("a BREAK b", Weighting::None, Chunks::Auto), None);
        assert_eq!(note("a BREAK (b:1.2)", Weighting::A1111, Chunks::One), None);
        for text in ["a BREAK b", "embedding:x"] {
            assert!(note(text, Weighting::Comfy, Chunks::Auto).is_some());
        }
        for text in ["<lora:x:1>", "a AND b", "[a|b]", "[a:b:0.5]", "[a:10]"] {
            assert!(note(text, Weighting::A1111, Chunks::Auto).is_some(), "{text}");
        }
        for text in ["[a]", "a|b", "[a", "BAND", "[a: b]"] {
            assert_eq!(note(text, Weighting::A1111, Chunks::Auto), None, "{text}");
        }
    }
}
