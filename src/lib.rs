//! CLIP's text encoder as firmware: runs a compiled plan without an allocator.
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and read in place: big-endian targets are not supported");

mod executor;
#[cfg(feature = "std")]
mod file;
#[allow(unsafe_code)] // intrinsics, and buffers shared among tasks
pub mod kernels;
pub mod plan;
pub mod threads;
pub mod tokenizer;

pub use executor::{ArenaBuf, Embedding, Encoder, EncoderError, MAX_SEQUENCES, align_arena};
#[cfg(feature = "std")]
pub use file::PlanFile;
pub use kernels::{KernelError, Kernels, PackingError};
pub use plan::{LoadError, Plan};
pub use tokenizer::{MAX_CONTEXT, Tokenizer, Tokens};
