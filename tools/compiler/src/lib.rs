//! Compiles a CLIP text encoder into a cliptext plan.
pub mod arena;
pub mod emit;
pub mod ir;
pub mod lower;
pub mod pack;
pub mod quantize;
pub mod target;
pub mod vocabulary;
