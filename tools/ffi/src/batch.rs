//! Any number of texts to arrays of the caller's.

use core::ffi::c_char;

use cliptext::{Input, MAX_SEQUENCES, Sink};

use crate::arrays::{Arrays, cliptext_arrays};
use crate::encoder::{CLIPTEXT_UNPADDED, Ready, cliptext_encoder};
use crate::object;
use crate::pointers::{self, Place, known};
use crate::status::cliptext_status::CLIPTEXT_ARGUMENT;
use crate::status::{Outcome, cliptext_status, fail, pass, told};

/// A text: UTF-8 of `length` bytes, or a C string where that is CLIPTEXT_CSTR.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_text {
    /// Its first byte.
    pub text: *const c_char,
    /// Its bytes.
    pub length: usize,
}

/// Encodes any number of texts, as many in a pass as the arena has room for, and copies what comes out to the caller's arrays, where
/// later calls leave it alone: the hidden states, `[count, context, width]`, and the pooled outputs, `[count, pooled_columns]`. With
/// CLIPTEXT_UNPADDED the rows of the texts' own tokens stand one text behind the other: as many as `cliptext_tokenize` counts. Of each text the values are those
/// of `cliptext_encode`, bit for bit.
///
/// `truncated` may be null; else `*truncated` is how many texts had more tokens than the context and were cut. The arrays are written as the passes
/// are done: after CLIPTEXT_TEAM they mean nothing; after any other error they are as they were.
///
/// Errors: CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where there are no texts or no arrays, where pooled outputs are asked of a plan
/// without, and where an array overlaps the arena or the other one; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE,
/// CLIPTEXT_BUSY, CLIPTEXT_TEAM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encode_batch(
    encoder: *mut cliptext_encoder,
    texts: *const cliptext_text,
    count: usize,
    flags: u32,
    arrays: *const cliptext_arrays,
    truncated: *mut usize,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { batch(encoder, (texts, count), flags, arrays, truncated) })
}

unsafe fn batch(
    encoder: *mut cliptext_encoder,
    (texts, count): (*const cliptext_text, usize),
    flags: u32,
    arrays: *const cliptext_arrays,
    truncated: *mut usize,
) -> Outcome {
    known(flags, CLIPTEXT_UNPADDED)?;
    // SAFETY: the caller's word.
    let (truncated, mut taken, texts) = unsafe {
        let truncated = Place::perhaps(truncated, "truncated")?;
        (truncated, object::taken(encoder, "encoder")?, pointers::slice(texts, count, "texts")?)
    };
    if texts.is_empty() {
        return Err(fail(CLIPTEXT_ARGUMENT, format_args!("`count` is 0: there is no text to encode")));
    }
    let ready = taken.value();
    // SAFETY: as above.
    let (batch, arrays) =
        unsafe { (Batch::of(texts, flags == CLIPTEXT_UNPADDED), Arrays::of(arrays, ready)?) };
    let (rows, cut) = batch.measure(ready)?;
    arrays.hold(rows, count, ready)?;
    batch.run(ready, &mut Out { arrays, hidden_at: 0, pooled_at: 0 })?;
    if let Some(truncated) = truncated {
        truncated.put(cut);
    }
    Ok(())
}

/// Those of a pass.
type Inputs<'t> = [Input<'t>; MAX_SEQUENCES];

/// The texts of a batch.
struct Batch<'t> {
    texts: &'t [cliptext_text],
    unpadded: bool,
}

impl<'t> Batch<'t> {
    /// That the texts are there is the caller's word.
    unsafe fn of(texts: &'t [cliptext_text], unpadded: bool) -> Self {
        Self { texts, unpadded }
    }

    fn text(&self, index: usize) -> Outcome<&'t str> {
        let text = &self.texts[index];
        // SAFETY: the caller's word, see `of`.
        unsafe { pointers::text(text.text, text.length, "text") }
    }

    /// The rows of a text, and whether it is cut.
    fn rows(&self, text: &str, ready: &Ready) -> (usize, bool) {
        let tokens = ready.plan.tokenizer().encode(text);
        (if self.unpadded { tokens.len() } else { ready.plan.context() }, tokens.is_truncated())
    }

    /// The rows of all texts, and how many texts are cut.
    fn measure(&self, ready: &Ready) -> Outcome<(usize, usize)> {
        (0..self.texts.len()).try_fold((0usize, 0), |(rows, cut), index| {
            let (own, is_cut) = self.rows(self.text(index)?, ready);
            Ok((rows.saturating_add(own), cut + usize::from(is_cut)))
        })
    }

    /// The texts from `first` on that the arena has room for in one pass, at least one.
    fn next<'i>(&self, first: usize, inputs: &'i mut Inputs<'t>, ready: &Ready) -> Outcome<&'i [Input<'t>]> {
        let (mut count, mut rows) = (0, 0);
        for (input, index) in inputs.iter_mut().zip(first..self.texts.len()) {
            let text = self.text(index)?;
            // Without a causal mask the padding is computed, though it is not wanted.
            let own = if ready.plan.is_causal() { self.rows(text, ready).0 } else { ready.plan.context() };
            if count > 0 && ready.plan.pass_bytes(count + 1, rows + own) > ready.arena_bytes() {
                break;
            }
            *input = if self.unpadded { Input::Unpadded(text) } else { Input::Text(text) };
            (count, rows) = (count + 1, rows + own);
        }
        Ok(&inputs[..count])
    }

    /// Encodes all, pass by pass.
    fn run(&self, ready: &mut Ready, out: &mut Out) -> Outcome {
        let (mut inputs, mut first) = ([Input::Text(""); MAX_SEQUENCES], 0);
        while first < self.texts.len() {
            let inputs = self.next(first, &mut inputs, ready)?;
            ready.encoder.pass(inputs, out).map_err(pass)?;
            ready.did_all()?;
            first += inputs.len();
        }
        Ok(())
    }
}

/// Where the rows go, one pass's behind the other's: a pass gives those of its inputs in their order.
struct Out {
    arrays: Arrays,
    hidden_at: usize,
    pooled_at: usize,
}

impl Sink for Out {
    fn hidden(&mut self, _sequence: usize, rows: &[f32]) {
        if let Some(hidden) = &mut self.arrays.hidden {
            hidden.put(self.hidden_at, rows);
            self.hidden_at += rows.len();
        }
    }

    fn pooled(&mut self, _sequence: usize, row: &[f32]) {
        if let Some(pooled) = &mut self.arrays.pooled {
            pooled.put(self.pooled_at, row);
            self.pooled_at += row.len();
        }
    }
}
