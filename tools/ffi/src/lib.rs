//! CLIP's text encoder for C and C++: `include/cliptext.h` is made of this crate, and `docs/c.md` tells how to use it.
//!
//! The one room besides the runtime's `kernels` and `threads` that has `unsafe`: here C's pointers become references. What every
//! function asks of its pointers stands once, at the top of the header (`cbindgen.toml`), and is checked as far as a
//! pointer can be checked (`pointers`). Nothing here unwinds into C: a panic ends the program, as it does in any
//! `extern "C"` function.
//!
//! Without the feature `std` there are no files, no threads and no heap: the caller gives all memory.
#![no_std]
#![allow(non_camel_case_types)] // the names that C sees
#![allow(clippy::missing_safety_doc)] // it stands once, see above

#[cfg(feature = "std")]
extern crate std;

mod arrays;
mod batch;
mod embedding;
mod encode;
mod encoder;
#[cfg(feature = "std")]
mod file;
#[cfg(feature = "std")]
mod heap;
mod message;
mod object;
#[cfg(feature = "std")]
mod open;
mod pack;
#[cfg(feature = "std")]
mod pack_file;
#[cfg(all(feature = "panic-handler", not(feature = "std")))]
mod panic;
mod plan;
mod pointers;
mod prompt;
mod status;
mod team;
mod tokenize;

pub use arrays::cliptext_arrays;
pub use batch::*;
pub use embedding::*;
pub use encode::*;
pub use encoder::*;
#[cfg(feature = "std")]
pub use file::{CLIPTEXT_MAP, CLIPTEXT_READ};
#[cfg(feature = "std")]
pub use open::*;
pub use pack::*;
#[cfg(feature = "std")]
pub use pack_file::*;
pub use plan::*;
pub use prompt::*;
pub use status::*;
pub use team::*;
pub use tokenize::*;
