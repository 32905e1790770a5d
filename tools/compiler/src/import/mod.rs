//! Front ends: each reads one file format. Safetensors' names say what each tensor is, so that front end ends in the
//! intermediate representation; ONNX ends in a decluttered tract [`TypedModel`](tract_core::prelude::TypedModel), which
//! [`recognise`](crate::recognise) reads.
//!
//! The ONNX front end fixes the batch, at 1 where the file leaves it free, and the sequence at the model's number of positions, gives every input other
//! than the token ids the value that makes it say nothing (an attention mask of ones), and turns every
//! half-precision tensor into f32, which is exact.

pub mod onnx;
pub mod safetensors;
