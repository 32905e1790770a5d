//! `encode`: prompts to hidden states.

mod arguments;
mod engine;
mod label_set;
mod progress;
mod run;
mod summary;

pub(crate) use arguments::EncodeArgs;
pub(crate) use run::encode;
