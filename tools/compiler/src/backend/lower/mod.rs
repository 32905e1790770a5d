//! The intermediate representation to the plan's steps.

mod builder;
mod image;
mod text;

pub use builder::{Constants, Lowered};
pub use image::lower_image;
pub use text::{Tower, lower};
