//! Prompts to the hidden states that the UNet reads.

use std::path::Path;

use anyhow::{Context, Result};
use cliptext::{AlignedBytes, Embedding, Encoder, Plan, PlanFile, PlanHash};
use cliptext_files::to_stderr;

/// The demonstration plan.
const BUILT_IN: &[u8] = cliptext::include_plan!("../../../models/demo.plan");

/// Where the plan is.
pub enum PlanBytes {
    /// In the program.
    BuiltIn,
    /// In memory, from the file of this name.
    File(PlanFile, String),
}

impl PlanBytes {
    /// The plan at `path`, or the built-in one.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::BuiltIn) };
        let name = path.display().to_string();
        let file = PlanFile::read(path).with_context(|| name.clone())?;
        Ok(Self::File(file, name))
    }

    /// The plan, checked.
    ///
    /// # Errors
    /// When it is no text encoder's plan, or damaged.
    pub fn load(&self) -> Result<Plan<'_>> {
        match self {
            Self::BuiltIn => Plan::load(BUILT_IN),
            Self::File(file, _) => file.plan(),
        }
        .with_context(|| self.name().to_owned())
    }

    /// What to call it in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn => "the built-in plan",
            Self::File(_, name) => name,
        }
    }

    /// The plan's hash.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn hash(&self) -> Result<PlanHash> {
        Ok(self.load()?.hash())
    }
}

/// The hidden states of one text, or of two in one pass: `[texts, context, width]`. `fits` is asked first whether the context and width
/// will do. A text that is too long is cut, which is told.
///
/// # Errors
/// Those of the plan and of `fits`.
pub fn embed(
    plan: &PlanBytes,
    texts: &[&str],
    fits: impl FnOnce(usize, usize) -> Result<()>,
) -> Result<Vec<f32>> {
    let loaded = plan.load()?;
    let program = loaded.program();
    fits(program.context(), program.width())?;
    let mut arena = AlignedBytes::zeroed(program.arena_bytes(texts.len()));
    let mut encoder = Encoder::new(&loaded, &mut arena).with_context(|| plan.name().to_owned())?;
    let mut states = Vec::new();
    let mut take = |text: &str, embedding: &Embedding<'_>| {
        if embedding.is_truncated() {
            to_stderr!("cliptext-draw: only the first {} tokens are read of {text:?}", embedding.tokens());
        }
        states.extend_from_slice(embedding.hidden());
    };
    match *texts {
        [one, other] => {
            let [first, second] = encoder.encode_pair([one, other])?;
            take(one, &first);
            take(other, &second);
        }
        _ => texts.iter().for_each(|text| take(text, &encoder.encode(text))),
    }
    Ok(states)
}
