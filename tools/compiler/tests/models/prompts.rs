//! Weighted prompts meet what the programs' own code makes of transformers' hidden states.

use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
use cliptext::{AlignedBytes, Encoder};
use cliptext_compiler::compile::Job;
use cliptext_compiler::reference::relative_error;
use cliptext_test_support::{Array, Scratch, fixtures};

use super::common::*;
use super::folders::{tiny_proj, written};

/// As in `make_prompts.py`, which kept so many rows of each chunk.
const PROMPT: &str = "((masterpiece)), a (fox:1.4) and a (dog:0.3) BREAK (night:-0.5), blurry (trees:1.1)";

#[test]
fn weighted_states_meet_their_goldens() {
    let scratch = Scratch::new();
    let model = written(&tiny_proj(), &scratch);
    let compiled = compiled(&Job { vocabulary: None, ..job(&model, &scratch) });
    let plan = compiled.plan();
    let goldens = Array::read(&fixtures().join("prompts/states.npy"));
    let [chunks, rows, width] = goldens.shape[..] else { panic!("{:?}", goldens.shape) };
    assert_eq!((chunks, width), (3, plan.width()));
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let mut found = Vec::new();
    for (weighting, chunks) in [(Weighting::A1111, 2), (Weighting::Comfy, 1)] {
        let mut prompt = Prompt::new();
        prompt.read(plan.tokenizer(), PROMPT, Options { weighting, chunks: Chunks::Auto, comma: 0 }).unwrap();
        assert_eq!(prompt.chunks(), chunks);
        let mut hidden = vec![0.0; chunks * plan.context() * width];
        encoder.encode_prompt(&prompt, None, &mut hidden, None).unwrap();
        found.extend(hidden.chunks(plan.context() * width).map(|chunk| chunk[..rows * width].to_vec()));
    }
    for (index, (found, want)) in found.iter().zip(goldens.f32().chunks(rows * width)).enumerate() {
        let error = relative_error(found, want);
        assert!(error <= 1e-4, "chunk {index}: {error:e}");
    }
}
