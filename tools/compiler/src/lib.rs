//! Compiles a CLIP text encoder into a cliptext plan.

pub mod arena;
pub mod arithmetic;
pub mod calibrate;
pub mod compile;
pub mod emit;
pub mod f32_run;
mod guard;
pub mod import;
pub mod ir;
pub mod lower;
pub mod measure;
pub mod pack;
pub mod progress;
pub mod quantize;
pub mod recognise;
pub mod reference;
pub mod report;
pub mod target;
pub mod vocabulary;
