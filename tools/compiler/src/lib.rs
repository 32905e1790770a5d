//! Compiles a CLIP text encoder into a cliptext plan.

pub mod arena;
pub mod compile;
pub mod edit;
pub mod emit;
pub mod f32_run;
mod guard;
pub mod import;
pub mod inspect;
pub mod ir;
pub mod lower;
pub mod measure;
pub mod pack;
pub mod prepare;
pub mod preset;
pub mod progress;
pub mod prompts;
pub mod quantize;
pub mod recognise;
pub mod reference;
pub mod report;
pub mod source;
pub mod target;
pub mod tensors;
pub mod trial;
pub mod verify;
pub mod vocabulary;
