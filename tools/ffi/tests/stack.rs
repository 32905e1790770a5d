//! No call takes more stack than the header says.

// Without optimization frames are larger than on any board.
#![cfg(not(debug_assertions))]

mod common;

use std::ptr::{null, null_mut};

use cliptext::AlignedBytes;
use cliptext_ffi::cliptext_status::*;
use cliptext_ffi::*;
use common::*;

/// What the header promises.
const STACK: usize = 32 << 10;
/// What a thread has besides: its start, and its thread-local values.
const THREAD: usize = 8 << 10;

/// Every call that computes, in a thread whose stack ends the program where it is not enough.
fn calls(name: &'static str) {
    let bytes = bytes(name);
    let mut memory = AlignedBytes::zeroed(CLIPTEXT_PLAN_BYTES);
    let mut prompt_memory = AlignedBytes::zeroed(CLIPTEXT_PROMPT_BYTES);
    let mut arrays_memory = vec![0.0f32; 1 << 20];
    let text = c(&"a (running) dog, ".repeat(30));
    let weights = c("comfy");
    let work = move || {
        let (mut plan, mut encoder, mut prompt) = (null_mut(), null_mut(), null_mut());
        let (mut embeddings, mut count) = ([NOTHING; 2], 0);
        let options =
            cliptext_prompt_options { weights: weights.as_ptr(), chunks: CLIPTEXT_AUTO_CHUNKS, comma: 20 };
        let arrays = cliptext_arrays {
            hidden: arrays_memory.as_mut_ptr(),
            hidden_values: arrays_memory.len(),
            pooled: null_mut(),
            pooled_values: 0,
        };
        let texts = [cliptext_text { text: c"a dog".as_ptr(), length: CSTR }; 16];
        let text = text.as_ptr();
        // SAFETY: all of it is here.
        let statuses = unsafe {
            let (start, place, room) = (bytes.as_ptr().cast(), memory.as_mut_ptr().cast(), memory.len());
            let (prompt_place, prompt_room) = (prompt_memory.as_mut_ptr().cast(), prompt_memory.len());
            [
                cliptext_plan_load(start, bytes.len(), place, room, &mut plan),
                cliptext_encoder_new(plan, 3, null(), &mut encoder),
                cliptext_tokenize(plan, text, CSTR, 0, null_mut(), 0, &mut count, null_mut()),
                cliptext_encode(encoder, text, CSTR, 0, embeddings.as_mut_ptr()),
                cliptext_encode_pair(encoder, text, CSTR, text, CSTR, 0, embeddings.as_mut_ptr()),
                cliptext_encode_batch(encoder, texts.as_ptr(), 16, CLIPTEXT_UNPADDED, &arrays, null_mut()),
                cliptext_prompt_read(plan, text, CSTR, &options, prompt_place, prompt_room, &mut prompt),
                cliptext_encode_prompt(encoder, prompt, null(), 0, &arrays),
                cliptext_encoder_free(encoder),
            ]
        };
        assert_eq!(statuses, [CLIPTEXT_OK; 9], "{}", last_error());
    };
    std::thread::Builder::new().stack_size(STACK + THREAD).spawn(work).unwrap().join().unwrap();
}

#[test]
fn calls_take_the_stack_that_is_told() {
    calls("tests/fixtures/one-tower.plan");
    calls("tests/fixtures/two-towers.plan");
    calls("tests/fixtures/long.plan");
}
