//! Compiles a CLIP text encoder into a cliptext plan.
pub mod ir;
pub mod vocabulary;
