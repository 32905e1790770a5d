//! Tokenizers beside models: words that were added to both, and what is told where they do not agree.

use std::path::Path;
use std::process::Command;

use cliptext::tokenizer::{Padding, Tokenizer};
use cliptext_compiler::compile::Job;
use cliptext_compiler::preset::Preset;
use cliptext_compiler::source::Source;
use cliptext_compiler::vocabulary::{self, VocabularySource};
use cliptext_synthetic::{Options, generate};
use cliptext_test_support::{Scratch, fixtures};

use super::common::*;

/// The small vocabulary as a tokenizer's folder, with words added as older transformers wrote it.
fn write_tokenizer(folder: &Path, added: &str) {
    write_padded_tokenizer(folder, added, "<|endoftext|>");
}

fn write_padded_tokenizer(folder: &Path, added: &str, pad: &str) {
    let read = |name: &str| std::fs::read_to_string(fixtures().join("tokenizer").join(name)).unwrap();
    write_text(&folder.join("merges.txt"), &read("merges-86.txt"));
    write_text(&folder.join("vocab.json"), &read("vocab-86.json"));
    write_text(&folder.join("added_tokens.json"), added);
    write_text(&folder.join("tokenizer_config.json"), &format!(r#"{{"pad_token": "{pad}"}}"#));
}

/// A pipeline and a checkpoint of the same weights differ in bigG's padding, which the pipeline's tokenizer says, and in
/// nothing that comes out of a prompt without an end token in it.
#[test]
fn a_pipeline_and_a_checkpoint_of_stable_diffusion_xl() {
    let scratch = Scratch::new();
    let pipeline = scratch.path().join("xl");
    write_component(&pipeline.join("text_encoder"), &like_l());
    write_component(&pipeline.join("text_encoder_2"), &like_big_g());
    write_padded_tokenizer(&pipeline.join("tokenizer"), "{}", "<|endoftext|>");
    write_padded_tokenizer(&pipeline.join("tokenizer_2"), "{}", "!");
    let (l, g) = (like_l(), like_big_g());
    let both = [
        hugging_face(&l, "conditioner.embedders.0.transformer."),
        open_clip(&g, "conditioner.embedders.1.model."),
    ]
    .concat();
    let checkpoint = write(&scratch.path().join("xl.safetensors"), &both);
    let folder = Job { vocabulary: None, ..job(&pipeline, &scratch) };
    let folder = compiled(&with_choice(folder, preset(Preset::Sdxl)));
    let single = compiled(&job(&checkpoint, &scratch));
    let paddings = |plan: &Compiled| -> Vec<String> {
        plan.report.towers.iter().map(|tower| tower.padding.clone()).collect()
    };
    assert_eq!(paddings(&folder), ["eot", "zero"]);
    assert_eq!(paddings(&single), ["eot", "zero-after-eos"]);
    for prompt in ["", "a cat on a hat, art!"] {
        assert_eq!(folder.encode(prompt), single.encode(prompt), "{prompt}");
    }
    let spelled = "a cat <|endoftext|> on a hat";
    assert!(folder.encode(spelled) != single.encode(spelled));
}

/// A pipeline as diffusers saves it after `load_textual_inversion` of a word of two vectors.
#[test]
fn a_pipeline_with_a_word_of_several_vectors() {
    let scratch = Scratch::new();
    let pipeline = scratch.path().join("pipeline");
    let options = Options { vocab: VOCABULARY + 2, eos_token_id: VOCABULARY as u32 - 1, ..small(64, 1, 3) };
    write_component(&pipeline.join("text_encoder"), &generate(&options));
    write_tokenizer(&pipeline.join("tokenizer"), r#"{"<cat-toy>": 600, "<cat-toy>_1": 601}"#);
    write_text(
        &pipeline.join("model_index.json"),
        r#"{"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}"#,
    );
    let from = |model: &Path| compiled(&Job { vocabulary: None, ..job(model, &scratch) });
    for model in [&pipeline, &pipeline.join("text_encoder")] {
        assert_eq!(from(model).ids("a <cat-toy> on"), [598, 320, 600, 601, 525, 599]);
    }
    // Without the pipeline it is transformers' tokenizer, which knows nothing of vectors.
    std::fs::remove_file(pipeline.join("model_index.json")).unwrap();
    assert_eq!(from(&pipeline.join("text_encoder")).ids("a <cat-toy> on"), [598, 320, 600, 525, 599]);
}

/// A tokenizer's folder that was copied in part is not left aside silently.
#[test]
fn a_tokenizer_without_vocabulary_is_told() {
    let scratch = Scratch::new();
    let folder = write_component(&scratch.path().join("text_encoder"), &like_l());
    let notes = || Source::open(&folder).unwrap().notes.concat();
    assert_eq!(notes(), "");
    write_tokenizer(&scratch.path().join("tokenizer"), "{}");
    assert_eq!(notes(), "");
    std::fs::remove_file(scratch.path().join("tokenizer/merges.txt")).unwrap();
    assert!(notes().contains("without its vocabulary"), "{}", notes());
}

/// A word of the most vectors that A1111 trains, as a pipeline keeps it.
#[test]
fn a_word_of_75_vectors_in_a_pipeline() {
    let scratch = Scratch::new();
    let tokenizer = scratch.path().join("pipeline/tokenizer");
    let tokens: Vec<String> = (0..75)
        .map(|at| format!(r#""<w>{}": {}"#, if at == 0 { String::new() } else { format!("_{at}") }, 600 + at))
        .collect();
    write_tokenizer(&tokenizer, &format!("{{{}}}", tokens.join(", ")));
    write_text(&scratch.path().join("pipeline/model_index.json"), "{}");
    let table = vocabulary::build(VocabularySource::Path(tokenizer), &[]).unwrap();
    let ids = table.read(|vocabulary| {
        Tokenizer::new(vocabulary, 77, Padding::End).unwrap().encode("<w>").unpadded().to_vec()
    });
    let expected: Vec<u32> = [598].into_iter().chain(600..675).chain([599]).collect();
    assert_eq!(ids.unwrap(), expected);
}

#[test]
fn rows_without_a_word_and_other_notes_are_told() {
    let scratch = Scratch::new();
    let options = Options { vocab: VOCABULARY + 3, eos_token_id: VOCABULARY as u32 - 1, ..small(64, 1, 3) };
    let model = write_component(&scratch.path().join("model"), &generate(&options));
    write_tokenizer(&model, r#"{"<cat-toy>": 601}"#);
    let told = |vocab: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_cliptext"))
            .args(["compile".as_ref(), model.as_os_str(), "--precision".as_ref(), "f32".as_ref()])
            .args(["-o".as_ref(), scratch.path().join("x.plan").as_os_str()])
            .args(["--vocab".as_ref(), vocab.as_os_str()])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told
    };
    let notes = told(&model);
    assert!(notes.contains("has 603 rows, the vocabulary 602 words: the last 1 rows"), "{notes}");
    assert!(notes.contains("\"<cat-toy>\" (601, not 600)"), "{notes}");
    let notes = told(&merges());
    assert!(notes.contains("has 603 rows, the vocabulary 600 words: the last 3 rows"), "{notes}");
}
