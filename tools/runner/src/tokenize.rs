//! `tokenize`: prompts to token ids.

use std::fmt::Write as _;

use clap::Args;
use cliptext::Tokenizer;
use cliptext::prompt::Prompt;

use crate::arguments::{PadArgs, PromptArgs};
use crate::failure::Outcome;
use crate::plan::{Access, Source};
use crate::prompts::warn_of_dropped;
use crate::reading::ReadingArgs;

#[derive(Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    pad: PadArgs,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// Prints a line of ids for each prompt; between chunks stands a `|`.
pub(crate) fn tokenize(args: &TokenizeArgs, access: Access) -> Outcome {
    let (path, prompts) = args.prompts.open()?;
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let tokenizer = plan.tokenizer();
    let reading = args.reading.reading()?;
    for prompt in prompts {
        let prompt = prompt?;
        if let Some(note) = reading.note(&prompt) {
            cliptext_files::to_stderr!("{note}");
        }
        let read = reading.prompt(tokenizer, &prompt)?;
        let dropped = read.dropped().map(|range| (range.start, range.end));
        warn_of_dropped(&prompt, dropped, read.chunks() * plan.context());
        let chunks: Vec<String> =
            (0..read.chunks()).map(|chunk| line(tokenizer, &read, chunk, args.pad.no_pad)).collect();
        sayln!("{}", chunks.join(" | "));
    }
    Ok(())
}

/// The ids of a chunk, those that have a weight with it: `2368:1.3`.
fn line(tokenizer: &Tokenizer<'_>, prompt: &Prompt, chunk: usize, no_pad: bool) -> String {
    let tokens = tokenizer.around(prompt.ids(chunk));
    let ids = if no_pad { tokens.unpadded() } else { tokens.ids() };
    let weights = std::iter::once(&1.0).chain(prompt.weights(chunk)).chain(std::iter::repeat(&1.0));
    let mut line = String::new();
    for (index, (id, weight)) in ids.iter().zip(weights).enumerate() {
        let _ = write!(line, "{}{id}", if index == 0 { "" } else { " " });
        if *weight != 1.0 {
            let _ = write!(line, ":{weight}");
        }
    }
    line
}
