//! Any text: the ids that Hugging Face's `tokenizers` gives, in every length of context.
#![no_main]

use std::fmt::Write as _;
use std::sync::LazyLock;

use cliptext::AlignedBytes;
use cliptext::tokenizer::{Padding, Tokenizer, Vocabulary};
use libfuzzer_sys::fuzz_target;

const TABLE: &[u8] = include_bytes!("../../models/clip.vocab");
const MERGES: &str = include_str!("../../models/vocabulary/merges.txt");

/// Contexts that are compared: the shortest, CLIP's, one that ends a chunk of 75, a long CLIP's.
const CONTEXTS: [usize; 5] = [2, 16, 75, 77, 248];

const END: u32 = 49_407;

static ALIGNED: LazyLock<AlignedBytes> = LazyLock::new(|| AlignedBytes::copy_of(TABLE));

thread_local! {
    static OURS: [Tokenizer<'static>; CONTEXTS.len()] = {
        CONTEXTS.map(|context| {
            let vocabulary = Vocabulary::load(&ALIGNED).expect("the repository's table");
            Tokenizer::new(vocabulary, context, Padding::End).expect("a context that is supported")
        })
    };
    static REFERENCE: tokenizers::Tokenizer = reference();
}

/// What transformers makes of CLIP's vocabulary (`CLIPConverter` in `convert_slow_tokenizer.py`).
fn reference() -> tokenizers::Tokenizer {
    let printable: Vec<u32> = (33..127).chain(161..173).chain(174..256).collect();
    let others = (0..256).filter(|byte| !printable.contains(byte)).count() as u32;
    let characters: Vec<String> = printable
        .iter()
        .copied()
        .chain((0..others).map(|at| 256 + at))
        .map(|code| char::from_u32(code).expect("a character").to_string())
        .collect();
    let merges: Vec<&str> =
        MERGES.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    let tokens = characters
        .iter()
        .cloned()
        .chain(characters.iter().map(|character| format!("{character}</w>")))
        .chain(merges.iter().map(|merge| merge.replace(' ', "")))
        .chain(["<|startoftext|>".to_owned(), "<|endoftext|>".to_owned()]);
    let mut vocabulary = String::new();
    for (id, token) in tokens.enumerate() {
        let comma = if id > 0 { "," } else { "" };
        write!(vocabulary, "{comma}{}:{id}", quoted(&token)).expect("a string takes all");
    }
    let merges: Vec<String> = merges.iter().map(|merge| quoted(merge)).collect();
    let json = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            {{"id": 49406, "content": "<|startoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
              "normalized": false, "special": true}},
            {{"id": 49407, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
              "normalized": false, "special": true}}],
        "normalizer": {{"type": "Sequence", "normalizers": [
            {{"type": "NFC"}},
            {{"type": "Replace", "pattern": {{"Regex": "\\s+"}}, "content": " "}},
            {{"type": "Lowercase"}}]}},
        "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [
            {{"type": "Split", "pattern": {{"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{{L}}]+|[\\p{{N}}]|[^\\s\\p{{L}}\\p{{N}}]+"}},
              "behavior": "Removed", "invert": true}},
            {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}}]}},
        "post_processor": {{"type": "RobertaProcessing", "sep": ["<|endoftext|>", 49407], "cls": ["<|startoftext|>", 49406],
            "trim_offsets": false, "add_prefix_space": false}},
        "decoder": null,
        "model": {{"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": {{{vocabulary}}}, "merges": [{}]}}}}"#,
        merges.join(",")
    );
    tokenizers::Tokenizer::from_bytes(json).expect("CLIP's tokenizer")
}

fn quoted(text: &str) -> String {
    let escaped: String = text.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| c == '"' || c == '\\').chain([c])).collect();
    format!("\"{escaped}\"")
}

// The reference takes seconds to build, which is no input's time.
fuzz_target!(init: REFERENCE.with(|_| ()), |text: &str| {
    let expected = REFERENCE.with(|reference| reference.encode(text, true).expect("ids").get_ids().to_vec());
    OURS.with(|ours| {
        for (tokenizer, context) in ours.iter().zip(CONTEXTS) {
            let mut expected = expected.clone();
            let is_truncated = expected.len() > context;
            if is_truncated {
                expected.truncate(context - 1);
                expected.push(END);
            }
            let tokens = tokenizer.encode(text);
            assert_eq!(tokens.unpadded(), expected, "{text:?} in {context}");
            assert_eq!(tokens.is_truncated(), is_truncated, "{text:?} in {context}");
            expected.resize(context, END);
            assert_eq!(tokens.ids(), expected, "{text:?} in {context}");
        }
    });
});
