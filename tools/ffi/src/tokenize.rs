//! Texts to token ids.

use core::ffi::c_char;

use crate::encoder::CLIPTEXT_UNPADDED;
use crate::object;
use crate::plan::cliptext_plan;
use crate::pointers::{self, Buffer, Place, known};
use crate::status::{Outcome, cliptext_status, told};

/// Writes the token ids of a text to `ids`, as the plan's (first) text tower takes them: the whole context, or without the padding
/// where `flags` is CLIPTEXT_UNPADDED.
///
/// `length` is the text's bytes, or CLIPTEXT_CSTR for a C string. `room` is how many ids `ids` has place for: the context always
/// does, and where both are 0 and null the ids are only counted. `*count` is how many there are, also where the place is too small. `truncated`
/// may be null; else `*truncated` is whether the text had more tokens than the context.
///
/// Errors: CLIPTEXT_TOO_SMALL, after which nothing is in `ids`; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT,
/// CLIPTEXT_HANDLE.
#[allow(clippy::too_many_arguments)] // as C has it
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_tokenize(
    plan: *const cliptext_plan,
    text: *const c_char,
    length: usize,
    flags: u32,
    ids: *mut u32,
    room: usize,
    count: *mut usize,
    truncated: *mut bool,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { tokenize(plan, (text, length), flags, (ids, room), count, truncated) })
}

unsafe fn tokenize(
    plan: *const cliptext_plan,
    (text, length): (*const c_char, usize),
    flags: u32,
    (ids, room): (*mut u32, usize),
    count: *mut usize,
    truncated: *mut bool,
) -> Outcome {
    known(flags, CLIPTEXT_UNPADDED)?;
    // SAFETY: the caller's word.
    let (plan, text, ids) = unsafe {
        let plan = object::shared(plan, "plan")?;
        (plan, pointers::text(text, length, "text")?, Buffer::perhaps(ids, room, "ids")?)
    };
    // SAFETY: as above.
    let (count, truncated) = unsafe { (Place::at(count, "count")?, Place::perhaps(truncated, "truncated")?) };
    let tokens = plan.plan.tokenizer().encode(text);
    let all = if flags == CLIPTEXT_UNPADDED { tokens.unpadded() } else { tokens.ids() };
    count.put(all.len());
    if let Some(truncated) = truncated {
        truncated.put(tokens.is_truncated());
    }
    if let Some(mut ids) = ids {
        ids.holds(all.len(), "ids")?;
        ids.put(0, all);
    }
    Ok(())
}
