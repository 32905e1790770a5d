//! CLIP's text encoder as firmware: prompts to the embeddings that a diffusion UNet reads, from a compiled plan,
//! without an allocator.
//!
//! ```
//! use cliptext::{ArenaBuf, Encoder, Plan};
//!
//! let plan = Plan::load(cliptext::include_plan!("../models/demo.plan"))?;
//! let mut arena = ArenaBuf::<{ 160 * 1024 }>::new(); // plan.arena_bytes(1) of it are used
//! let mut encoder = Encoder::new(&plan, arena.bytes())?;
//!
//! let embedding = encoder.encode("a running dog"); // cannot fail
//! assert_eq!(embedding.ids()[..5], [49406, 320, 2761, 1929, 49407]);
//! assert_eq!(embedding.hidden().len(), 77 * embedding.width());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! What is promised, and the tests that hold it:
//!
//! - nothing is allocated, by the whole crate: it does not link `alloc` (`tests/no_alloc.rs`);
//! - the RAM is known beforehand: [`Graph::arena_bytes`];
//! - after [`Plan::load`] nothing fails, whatever the text (`tests/hostile.rs`, `tests/tokenizer.rs`);
//! - there is no panic path: a program that can't panic links (`.ci/panic-free`);
//! - the same plan and text give the same bytes on every CPU (`tests/one_tower.rs`, [`kernels`]).
//!
//! The feature `std`, on by default, adds what needs an operating system: a team of threads, CPU detection by the
//! system on aarch64, and mapped plan files.
#![no_std]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and read in place: big-endian targets are not supported");

mod copy;
mod executor;
#[cfg(feature = "std")]
mod file;
mod frame;
#[allow(unsafe_code)] // intrinsics, and buffers shared among tasks
pub mod kernels;
mod memory;
pub mod pack;
pub mod plan;
pub mod prompt;
pub mod serve;
pub mod stream;
pub mod threads;
pub mod tokenizer;

pub use executor::{
    Embedding, Encoder, EncoderError, IdsError, ImageEmbedding, ImageEncoder, Input, PassError, Sink,
    StepOutput,
};
#[cfg(feature = "std")]
pub use file::PlanFile;
pub use kernels::set::{KernelSet, MixError};
pub use kernels::{KernelError, Kernels, PackingError};
#[cfg(feature = "std")]
pub use memory::AlignedBytes;
pub use memory::{Aligned, ArenaBuf, align_arena};
pub use pack::{Pack, PackEntry, PackError};
pub use plan::{Graph, ImagePlan, LoadError, MAX_SEQUENCES, Plan, PlanHash, Program, Source};
pub use tokenizer::{MAX_CONTEXT, Tokenizer, Tokens};
