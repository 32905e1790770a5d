//! Embeddings to files, pipes and devices, in the formats that other programs read.

mod array;
mod encoded;
mod format;
mod json;
mod name;
mod outputs;
mod safetensors;
mod sink;

#[cfg(feature = "pictures")]
pub(crate) use array::ArrayFile;
pub(crate) use encoded::{About, Encoded, Kept, Options};
#[cfg(feature = "pictures")]
pub(crate) use format::Format;
pub(crate) use format::{Dtype, FormatArgs};
pub(crate) use name::Name;
pub(crate) use outputs::{Order, Outputs, Target};
pub(crate) use sink::What;
