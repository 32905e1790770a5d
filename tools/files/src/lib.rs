//! Files as the programs read and write them: [whole](WholeFile) or not there; NumPy's [arrays](npy); [prompts].

pub mod npy;
pub mod prompts;
mod whole;

pub use whole::{WholeFile, write};
