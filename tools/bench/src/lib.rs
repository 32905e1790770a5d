//! The full-size model in the forms that the runtimes read: CLIP ViT-L/14's text tower as Stable Diffusion 1.5 has it,
//! with synthetic weights. Speed does not depend on their values.

use std::path::Path;

use anyhow::Result;
use cliptext_compiler::backend::emit::Emitted;
use cliptext_compiler::output;
use cliptext_synthetic::onnx::{self, Axes};
use cliptext_synthetic::{Options, generate};

/// Our int8 plan of the model.
///
/// # Errors
/// When a part of the model or the vocabulary is missing: a mistake in the tools.
pub fn plan() -> Result<Emitted> {
    cliptext_fixtures::compile(&Options::default(), "synthetic ViT-L/14, seed 0".into())
}

/// Writes [`plan`] to `path`.
///
/// # Errors
/// When the file can't be written.
pub fn write_plan(path: &Path) -> Result<()> {
    output::write(path, &plan()?.bytes)
}

/// Writes the f32 ONNX export of the model, with its input fixed to `[1, 77]`, to `path`.
///
/// # Errors
/// When the file can't be written.
pub fn write_onnx(path: &Path) -> Result<()> {
    Ok(onnx::write(generate(&Options::default()), Axes::Static, path)?)
}

#[cfg(test)]
mod tests {
    use cliptext::{AlignedBytes, Plan};

    #[test]
    fn the_full_size_model_needs_less_than_two_megabytes_a_prompt() {
        let bytes = AlignedBytes::copy_of(&super::plan().unwrap().bytes);
        let arena = Plan::load(&bytes).unwrap().arena_bytes(1);
        assert!(arena <= 2_000_000, "{arena} bytes; a pair has twice that");
    }
}
