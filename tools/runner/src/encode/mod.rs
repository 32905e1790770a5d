//! `encode`: prompts to hidden states.

mod arguments;
mod cached;
mod engine;
mod label_set;
mod progress;
mod run;
mod summary;
mod work;

pub(crate) use arguments::EncodeArgs;
pub(crate) use engine::{Encodes, How, Take};
pub(crate) use progress::Progress;
pub(crate) use work::encode;
