//! Prompt packs: made of prompts with `pack`, and taken in the place of a plan by `encode`.

mod make;
mod names;
mod take;

pub(crate) use make::{PackArgs, pack};
pub(crate) use take::FromPack;
