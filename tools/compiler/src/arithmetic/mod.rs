//! Linear algebra and elementary functions that give the same bits on every machine and for every number of threads.
//!
//! Quantization decides by rounding: a last bit that differs makes another plan. So every sum here has one order, fused
//! multiply-adds stand where they are written and nowhere else, and the platform's libm is not asked.

pub mod cholesky;
pub mod extremes;
pub mod functions;
pub mod gemm;
pub mod parallel;
pub mod vectors;
