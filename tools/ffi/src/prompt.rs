//! Prompts as people write them: weights, and more tokens than the context.

use core::ffi::{c_char, c_void};

use cliptext::prompt::{Chunks, Options, Prompt, PromptError, Weighting};

use crate::arrays::{Arrays, cliptext_arrays};
use crate::encoder::cliptext_encoder;
use crate::object::{self, Kind};
use crate::plan::cliptext_plan;
use crate::pointers::{self, CSTR, Place};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, cliptext_status, fail, pass, told};

/// Bytes of memory that a prompt object takes at the most: for a `static` array.
pub const CLIPTEXT_PROMPT_BYTES: usize = 6144;

/// For `cliptext_prompt_options`: as many chunks as the prompt needs.
pub const CLIPTEXT_AUTO_CHUNKS: usize = usize::MAX;

/// A prompt that was read: chunks of token ids, each with its weight. One thread at a time may use it.
pub struct cliptext_prompt {
    _nothing: (),
}

impl Kind for cliptext_prompt {
    type Value = Prompt;
    const TAG: u32 = u32::from_le_bytes(*b"cTpr");
    const NAME: &'static str = "a prompt";
}

const _: () = assert!(object::size::<cliptext_prompt>() <= CLIPTEXT_PROMPT_BYTES);

/// How a prompt is read. All zero is what a null pointer to it stands for: text is text, in one chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_prompt_options {
    /// Whose weights the text has, a C string: `none`, `a1111` or `comfy`, as `--weights` of cliptext-run has it; null for `none`.
    pub weights: *const c_char,
    /// Chunks that it takes: 0 for one, which is cut as the tokenizer does it; CLIPTEXT_AUTO_CHUNKS for as many as it needs; a
    /// number for so many, of which empty ones fill up.
    pub chunks: usize,
    /// A chunk that is full ends behind its last comma instead, if no more than so many tokens come behind; 0 for never. 20 is
    /// AUTOMATIC1111's. At most 255.
    pub comma: usize,
}

/// What became of a prompt.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_prompt_info {
    /// Its chunks: with them its hidden states are `[chunks * context, width]`.
    pub chunks: usize,
    /// The most chunks that a prompt of its plan has.
    pub max_chunks: usize,
    /// The bytes of the text that fell off because there was no room: from `dropped_start` to before `dropped_end`; both are 0
    /// where nothing did.
    pub dropped_start: usize,
    /// See `dropped_start`.
    pub dropped_end: usize,
    /// Whether any weight is not 1.
    pub weighted: bool,
}

/// Bytes of memory that a prompt object takes: at most `CLIPTEXT_PROMPT_BYTES`.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_prompt_size() -> usize {
    object::size::<cliptext_prompt>()
}

/// Reads a prompt with the plan's tokenizer into an object in `memory`, without allocating.
///
/// `memory`, aligned as that of malloc is, has `cliptext_prompt_size()` bytes or more; a prompt that was there is no more. `length` is the
/// text's bytes, or CLIPTEXT_CSTR for a C string; the text is needed no more. `options` may be null. What has no room falls off, which
/// `cliptext_prompt_describe` tells. On an error `*prompt` is left alone.
///
/// Errors: CLIPTEXT_PROMPT where the prompt takes more chunks than there can be, or an option is unknown; CLIPTEXT_UTF8, CLIPTEXT_NULL,
/// CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL, CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_prompt_read(
    plan: *const cliptext_plan,
    text: *const c_char,
    length: usize,
    options: *const cliptext_prompt_options,
    memory: *mut c_void,
    memory_bytes: usize,
    prompt: *mut *mut cliptext_prompt,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { read(plan, (text, length), options, (memory, memory_bytes), prompt) })
}

unsafe fn read(
    plan: *const cliptext_plan,
    (text, length): (*const c_char, usize),
    options: *const cliptext_prompt_options,
    (memory, memory_bytes): (*mut c_void, usize),
    prompt: *mut *mut cliptext_prompt,
) -> Outcome {
    // SAFETY: the caller's word.
    let (place, plan, text) = unsafe {
        let place = Place::at(prompt, "prompt")?;
        (place, object::shared(plan, "plan")?, pointers::text(text, length, "text")?)
    };
    plan.apart(&object::reach::<cliptext_prompt>(memory, memory_bytes)?, "`memory`")?;
    // SAFETY: as above.
    let options = unsafe { wanted(options) }?;
    // SAFETY: as above.
    let handle = unsafe { object::make::<cliptext_prompt>(memory, memory_bytes, Prompt::new()) }?;
    // SAFETY: it was just made.
    let read = unsafe { object::taken(handle, "prompt") }?.value().read(plan.plan.tokenizer(), text, options);
    if let Err(error) = read {
        // SAFETY: as above.
        let _ = unsafe { object::end(handle, "prompt") };
        return Err(refused(error));
    }
    place.put(handle);
    Ok(())
}

fn refused(error: PromptError) -> cliptext_status {
    fail(CLIPTEXT_PROMPT, format_args!("{error}"))
}

/// The options that a caller gives, or leaves out.
unsafe fn wanted(options: *const cliptext_prompt_options) -> Outcome<Options> {
    // SAFETY: the caller's word.
    let Some(options) = unsafe { pointers::perhaps(options, "options") }? else {
        return Ok(Options::default());
    };
    let weighting = match options.weights.is_null() {
        true => Weighting::None,
        false => {
            // SAFETY: as above.
            let name = unsafe { pointers::text(options.weights, CSTR, "weights") }?;
            name.parse()
                .map_err(|error| fail(CLIPTEXT_PROMPT, format_args!("`weights` is `{name}`: {error}")))?
        }
    };
    let chunks = match options.chunks {
        0 => Chunks::One,
        CLIPTEXT_AUTO_CHUNKS => Chunks::Auto,
        // More than fit a byte are more than any prompt has: the error says how many that is.
        chunks => Chunks::Exactly(u8::try_from(chunks).unwrap_or(u8::MAX)),
    };
    let comma = u8::try_from(options.comma).map_err(|_| {
        fail(CLIPTEXT_ARGUMENT, format_args!("`comma` is {}: it is 255 at the most", options.comma))
    })?;
    Ok(Options { weighting, chunks, comma })
}

/// Adds empty chunks to a prompt up to so many: to a negative prompt, which has as many as the prompt that it goes with.
///
/// Errors: CLIPTEXT_PROMPT where they are more than there can be; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_prompt_fill(
    prompt: *mut cliptext_prompt,
    chunks: usize,
) -> cliptext_status {
    // SAFETY: what the header asks.
    let taken = unsafe { object::taken(prompt, "prompt") };
    told(taken.and_then(|mut taken| taken.value().fill(chunks).map_err(refused)))
}

/// Writes what became of the prompt to `info`.
///
/// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_prompt_describe(
    prompt: *mut cliptext_prompt,
    info: *mut cliptext_prompt_info,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { describe(prompt, info) })
}

unsafe fn describe(prompt: *mut cliptext_prompt, info: *mut cliptext_prompt_info) -> Outcome {
    // SAFETY: the caller's word.
    let (info, mut taken) = unsafe { (Place::at(info, "info")?, object::taken(prompt, "prompt")?) };
    let prompt = taken.value();
    let dropped = prompt.dropped().unwrap_or(0..0);
    info.put(cliptext_prompt_info {
        chunks: prompt.chunks(),
        max_chunks: Prompt::max_chunks(prompt.context()),
        dropped_start: dropped.start,
        dropped_end: dropped.end,
        weighted: prompt.is_weighted(),
    });
    Ok(())
}

/// Encodes a prompt chunk by chunk, as many in a pass as the arena has room for, and copies what comes out to the caller's arrays: the hidden
/// states, `[chunks * context, width]`, with what the weights make of them, and the first chunk's pooled output, `[pooled_columns]`, which no
/// weight changes.
///
/// `empty` are the hidden states of the empty prompt, `[context, width]`, for a prompt with ComfyUI's weights, if the caller has kept them; null with
/// `empty_values` 0 where not: they are computed then where they are needed.
///
/// Errors: CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where `empty` has another length, where the prompt was read with a plan of another
/// context, where there is no array for the hidden states, where a pooled output is asked of a plan without, and where arrays overlap;
/// CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encode_prompt(
    encoder: *mut cliptext_encoder,
    prompt: *mut cliptext_prompt,
    empty: *const f32,
    empty_values: usize,
    arrays: *const cliptext_arrays,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { encode(encoder, prompt, (empty, empty_values), arrays) })
}

unsafe fn encode(
    encoder: *mut cliptext_encoder,
    prompt: *mut cliptext_prompt,
    (empty, empty_values): (*const f32, usize),
    arrays: *const cliptext_arrays,
) -> Outcome {
    // SAFETY: the caller's word.
    let (mut taken, mut taken_prompt, empty) = unsafe {
        let taken = (object::taken(encoder, "encoder")?, object::taken(prompt, "prompt")?);
        let empty = match empty.is_null() && empty_values == 0 {
            true => None,
            false => Some(pointers::slice(empty, empty_values, "empty")?),
        };
        (taken.0, taken.1, empty)
    };
    let (ready, prompt) = (taken.value(), taken_prompt.value());
    // SAFETY: as above.
    let mut arrays = unsafe { Arrays::of(arrays, ready) }?;
    let (rows, width) = (prompt.chunks() * prompt.context(), ready.plan.width());
    arrays.hold(rows, 1, ready)?;
    let Some(hidden) = &mut arrays.hidden else {
        return Err(fail(
            CLIPTEXT_ARGUMENT,
            format_args!("`hidden` is null: there is no array for the hidden states"),
        ));
    };
    if let Some(empty) = empty {
        pointers::apart((&pointers::span(empty), "`empty`"), (&hidden.span(), "`hidden`"))?;
        ready.apart(&pointers::span(empty), "`empty`")?;
    }
    let columns = ready.plan.manifest().pooled.map_or(0, |place| place.columns as usize);
    let pooled = arrays.pooled.as_mut().map(|pooled| pooled.zeroed(columns));
    ready.encoder.encode_prompt(prompt, empty, hidden.zeroed(rows * width), pooled).map_err(pass)?;
    ready.did_all()
}
