//! Compiles a CLIP text encoder into a cliptext plan.

pub mod arithmetic;
pub mod backend;
pub mod colours;
pub mod compile;
pub mod edit;
pub mod embed;
pub mod import;
pub mod ir;
pub mod output;
pub mod page;
pub mod pictures;
pub mod preset;
pub mod progress;
pub mod prompts;
pub mod quantize;
pub mod recognise;
pub mod reference;
pub mod source;
pub mod tensors;
pub mod tract;
pub mod verify;
pub mod vocabulary;
