//! The full-size model in the forms that the runtimes read: CLIP ViT-L/14's text tower as Stable Diffusion 1.5 has it,
//! with synthetic weights. Speed does not depend on their values.

use std::path::Path;

use anyhow::Result;
use cliptext::tokenizer::Padding;
use cliptext_compiler::emit::{self, Emitted, Precision};
use cliptext_compiler::ir::{Outputs, Pooled};
use cliptext_compiler::target::Target;
use cliptext_compiler::vocabulary::{self, VocabularySource};
use cliptext_synthetic::onnx::{self, Axes};
use cliptext_synthetic::{Options, generate};

/// Our int8 plan of the model.
///
/// # Errors
/// When a part of the model or the vocabulary is missing: a mistake in the tools.
pub fn plan() -> Result<Emitted> {
    let model = cliptext_demo::model(&generate(&Options::default()))?;
    let vocabulary = vocabulary::build(VocabularySource::Standard)?;
    let outputs = Outputs {
        hidden_layer: model.layers.len(),
        hidden_norm: true,
        pooled: Pooled::EndToken,
        normalized: false,
        end_token: vocabulary.end_id,
    };
    let source = "synthetic ViT-L/14, seed 0".into();
    let options = emit::Options {
        precision: Precision::Int8,
        target: Target::default(),
        padding: Padding::End,
        source,
    };
    emit::emit(&model, &outputs, &vocabulary.bytes, &options)
}

/// Writes [`plan`] to `path`.
///
/// # Errors
/// When the file can't be written.
pub fn write_plan(path: &Path) -> Result<()> {
    emit::write(path, &plan()?.bytes)
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
    #[test]
    fn the_full_size_model_needs_less_than_two_megabytes_a_prompt() {
        let arena = super::plan().unwrap().arena;
        assert!(arena <= 2_000_000, "{arena} bytes; a pair has twice that");
    }
}
