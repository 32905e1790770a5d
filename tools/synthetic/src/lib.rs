//! Deterministic synthetic CLIP text towers.
//!
//! No trained checkpoint is needed to test or measure the compiler and the runtime: this crate makes text towers of
//! any size whose statistics look trained. Rows are heavy-tailed, some layer-norm gains are tiny, the start token
//! carries two massive channels and draws the attention, as in Stable Diffusion 1.5; plain random weights would
//! flatter int8. Nothing in them comes from a trained model.
//!
//! ```
//! use cliptext_synthetic::{Options, generate};
//!
//! let options = Options { width: 16, layers: 2, heads: 2, mlp: 64, vocab: 100, seed: 13, ..Options::default() };
//! let tower = generate(&options);
//! let gain = tower.tensor("text_model.final_layer_norm.weight").unwrap();
//! assert_eq!(gain.shape, [16]);
//! ```
//!
//! # Guarantees
//! - The same [`Options`] give the same bytes, on every machine and with any number of threads. The numbers are those
//!   of the published Python generator `make_synthetic_clip.py`; `tests/published.rs` holds the hashes of its files.
//! - A tower can be written as Hugging Face writes it ([`checkpoint`]) or as PyTorch exports it ([`onnx`]).

mod arithmetic;
pub mod checkpoint;
mod error;
mod files;
mod layer;
mod maker;
pub mod onnx;
mod options;
mod quantiles;
mod random;
mod tensor;
mod tower;

pub use error::Error;
pub use options::{Activation, Dtype, Names, Options};
pub use tensor::Tensor;
pub use tower::{Tower, generate};
