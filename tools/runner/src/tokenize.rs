//! `tokenize`: prompts to token ids.

use std::fmt::Write as _;

use clap::Args;

use crate::arguments::{PadArgs, PromptArgs};
use crate::failure::Outcome;
use crate::plan::{Access, Source};
use crate::prompts::warn_of_truncation;

#[derive(Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    pad: PadArgs,
}

/// Prints a line of ids for each prompt.
pub(crate) fn tokenize(args: &TokenizeArgs, access: Access) -> Outcome {
    let (path, prompts) = args.prompts.open()?;
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let tokenizer = plan.tokenizer();
    for prompt in prompts {
        let prompt = prompt?;
        let tokens = tokenizer.encode(&prompt);
        warn_of_truncation(&prompt, tokens.is_truncated(), plan.context());
        let ids = if args.pad.no_pad { tokens.unpadded() } else { tokens.ids() };
        let mut line = String::new();
        for (index, id) in ids.iter().enumerate() {
            let _ = write!(line, "{}{id}", if index == 0 { "" } else { " " });
        }
        sayln!("{line}");
    }
    Ok(())
}
