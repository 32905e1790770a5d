//! What the steps compute, written once over [`Simd`](super::simd::Simd) and compiled per instruction set.
//!
//! The order of every f32 operation is part of the plan's meaning: change it and every golden hash changes.

pub(super) mod attention;
pub(crate) mod embed;
pub(crate) mod linear;
pub(super) mod linear_f32;
pub(super) mod linear_int8;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod patches;
pub(super) mod quantize;
pub(crate) mod tile;
