//! LoRA: changes of a text encoder's weights, merged before they are quantized.
//!
//! `W += weight · alpha / rank · up · down`, with `down` of `[rank, inputs]` and `up` of `[outputs, rank]` (Hu et al.,
//! arXiv:2106.09685). A file may also hold whole differences of weights and biases, which are added as they are, times `weight`.
//! [`layout`] lists the names that programs give to all of these; what it does not list is refused.

mod change;
mod file;
mod keys;
pub mod layout;
mod settings;

pub use file::LoraFile;
