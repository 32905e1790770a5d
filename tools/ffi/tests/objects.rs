//! Objects in the caller's memory from first to last, small enough for Miri, which `.ci/miri` runs it under; here it is an ordinary
//! test.

use std::ptr::{null, null_mut};

use cliptext::{AlignedBytes, include_plan};
use cliptext_ffi::cliptext_status::*;
use cliptext_ffi::*;

static PLAN: &[u8] = include_plan!("../../../tests/fixtures/two-towers.plan");

#[test]
fn objects_in_the_caller_s_memory() {
    let (mut plan, mut encoder, mut prompt) = (null_mut(), null_mut(), null_mut());
    let mut memory =
        [CLIPTEXT_PLAN_BYTES, CLIPTEXT_ENCODER_BYTES, CLIPTEXT_PROMPT_BYTES].map(AlignedBytes::zeroed);
    let [plan_memory, encoder_memory, prompt_memory] =
        memory.each_mut().map(|memory| (memory.as_mut_ptr().cast(), memory.len()));
    let mut needed = 0;
    let mut info = std::mem::MaybeUninit::uninit();
    let mut embedding = std::mem::MaybeUninit::<cliptext_embedding>::uninit();
    let options = cliptext_options { kernel: c"scalar".as_ptr(), threads: 1, team: null(), flags: 0 };
    // SAFETY: all memory is here until the end.
    unsafe {
        let (bytes, length) = (PLAN.as_ptr().cast(), PLAN.len());
        let (memory, room) = plan_memory;
        assert_eq!(cliptext_plan_load(bytes, length, memory, room, &mut plan), CLIPTEXT_OK);
        assert_eq!(cliptext_plan_describe(plan, info.as_mut_ptr()), CLIPTEXT_OK);
        let info: cliptext_plan_info = info.assume_init();
        assert_eq!(cliptext_pass_bytes(plan, 1, 2, &mut needed), CLIPTEXT_OK);
        let mut arena = AlignedBytes::zeroed(needed);
        let (memory, room) = encoder_memory;
        let place = arena.as_mut_ptr().cast();
        let status = cliptext_encoder_init(plan, memory, room, place, needed, &options, &mut encoder);
        assert_eq!(status, CLIPTEXT_OK);
        let ids = [598, 599];
        assert_eq!(cliptext_encode_ids(encoder, ids.as_ptr(), 2, embedding.as_mut_ptr()), CLIPTEXT_OK);
        let view = embedding.assume_init();
        let hidden = std::slice::from_raw_parts(view.hidden, view.tokens * view.width).to_vec();
        assert!(view.tokens == 2 && hidden.iter().any(|&value| value != 0.0));
        assert_eq!(std::slice::from_raw_parts(view.ids, 2), ids);
        // The same again, without padding, to an array: the text has a token for start and end only.
        let mut again = vec![0.0; hidden.len()];
        let text = cliptext_text { text: c"".as_ptr(), length: usize::MAX };
        let arrays = cliptext_arrays {
            hidden: again.as_mut_ptr(),
            hidden_values: again.len(),
            pooled: null_mut(),
            pooled_values: 0,
        };
        let status = cliptext_encode_batch(encoder, &text, 1, CLIPTEXT_UNPADDED, &arrays, null_mut());
        assert_eq!(status, CLIPTEXT_OK);
        assert_eq!(again, hidden);
        let (memory, room) = prompt_memory;
        let text = c"a b";
        let status = cliptext_prompt_read(plan, text.as_ptr(), usize::MAX, null(), memory, room, &mut prompt);
        assert_eq!((status, info.context), (CLIPTEXT_OK, 77));
        assert_eq!(cliptext_prompt_fill(prompt, 2), CLIPTEXT_OK);
        assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
        let status = cliptext_encode_ids(encoder, ids.as_ptr(), 2, embedding.as_mut_ptr());
        assert_eq!(status, CLIPTEXT_HANDLE);
    }
}
