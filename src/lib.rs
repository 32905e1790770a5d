//! CLIP's text encoder as firmware.
#![no_std]
#[cfg(feature = "std")]
extern crate std;
#[cfg(target_endian = "big")]
compile_error!("plans are little-endian and read in place: big-endian targets are not supported");
pub mod tokenizer;
