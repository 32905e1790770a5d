//! Files as the programs read and write them: [whole](WholeFile) or not there; NumPy's [arrays](npy).

pub mod npy;
mod whole;

pub use whole::{WholeFile, write};
