//! Compiles a CLIP text encoder into a cliptext plan.
pub mod f32_run;
mod guard;
pub mod import;
pub mod ir;
pub mod recognise;
pub mod reference;
