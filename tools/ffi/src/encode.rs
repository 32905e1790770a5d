//! Texts and token ids to embeddings, in the encoder's arena.

use core::ffi::c_char;

use crate::embedding::cliptext_embedding;
use crate::encoder::{CLIPTEXT_UNPADDED, cliptext_encoder};
use crate::object;
use crate::pointers::{self, Place, known};
use crate::status::{Outcome, cliptext_status, encoder as refused, ids as refused_ids, told};

/// Encodes a text: the whole context, filled up as the model's tokenizer does, or only the text's own rows where `flags` is
/// CLIPTEXT_UNPADDED.
///
/// `length` is the text's bytes, or CLIPTEXT_CSTR for a C string. A text of more tokens than the context is cut, which `truncated` of the
/// embedding tells. On an error `*embedding` is left alone.
///
/// Errors: CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encode(
    encoder: *mut cliptext_encoder,
    text: *const c_char,
    length: usize,
    flags: u32,
    embedding: *mut cliptext_embedding,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { encode(encoder, (text, length), flags, embedding) })
}

unsafe fn encode(
    encoder: *mut cliptext_encoder,
    (text, length): (*const c_char, usize),
    flags: u32,
    embedding: *mut cliptext_embedding,
) -> Outcome {
    known(flags, CLIPTEXT_UNPADDED)?;
    // SAFETY: the caller's word.
    let (place, mut taken, text) = unsafe {
        let place = Place::at(embedding, "embedding")?;
        (place, object::taken(encoder, "encoder")?, pointers::text(text, length, "text")?)
    };
    let ready = taken.value();
    let encoder = &mut ready.encoder;
    let embedding = match flags {
        CLIPTEXT_UNPADDED => encoder.encode_unpadded(text),
        _ => encoder.encode(text),
    };
    let embedding = cliptext_embedding::of(&embedding);
    ready.did_all()?;
    place.put(embedding);
    Ok(())
}

/// Encodes two texts, mostly a prompt and its negative, in one pass, which reads the weights once. `embeddings` has place for two, in the
/// order of the texts; they equal those of `cliptext_encode` bit for bit. The rest is as there.
///
/// Errors: those of `cliptext_encode`; CLIPTEXT_TOO_SMALL where the arena has no room for two.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encode_pair(
    encoder: *mut cliptext_encoder,
    first: *const c_char,
    first_length: usize,
    second: *const c_char,
    second_length: usize,
    flags: u32,
    embeddings: *mut cliptext_embedding,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { pair(encoder, (first, first_length), (second, second_length), flags, embeddings) })
}

unsafe fn pair(
    encoder: *mut cliptext_encoder,
    (first, first_length): (*const c_char, usize),
    (second, second_length): (*const c_char, usize),
    flags: u32,
    embeddings: *mut cliptext_embedding,
) -> Outcome {
    known(flags, CLIPTEXT_UNPADDED)?;
    // SAFETY: the caller's word.
    let (place, mut taken) = unsafe {
        let place = Place::at(embeddings.cast::<[cliptext_embedding; 2]>(), "embeddings")?;
        (place, object::taken(encoder, "encoder")?)
    };
    // SAFETY: as above.
    let (first, second) = unsafe {
        (pointers::text(first, first_length, "first")?, pointers::text(second, second_length, "second")?)
    };
    let ready = taken.value();
    let encoder = &mut ready.encoder;
    let embeddings = match flags {
        CLIPTEXT_UNPADDED => encoder.encode_pair_unpadded([first, second]),
        _ => encoder.encode_pair([first, second]),
    };
    let [first, second] = &embeddings.map_err(refused)?;
    let embeddings = [cliptext_embedding::of(first), cliptext_embedding::of(second)];
    ready.did_all()?;
    place.put(embeddings);
    Ok(())
}

/// Encodes `count` token ids from elsewhere, start and end token included: a row for each, in the order given. The row of the first end
/// token is pooled; without one, the last. On an error `*embedding` is left alone.
///
/// Errors: CLIPTEXT_IDS unless there are 1 to the plan's `context` ids, all below its `token_rows`; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED,
/// CLIPTEXT_ARGUMENT, CLIPTEXT_HANDLE, CLIPTEXT_BUSY, CLIPTEXT_TEAM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encode_ids(
    encoder: *mut cliptext_encoder,
    ids: *const u32,
    count: usize,
    embedding: *mut cliptext_embedding,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { encode_ids(encoder, (ids, count), embedding) })
}

unsafe fn encode_ids(
    encoder: *mut cliptext_encoder,
    (ids, count): (*const u32, usize),
    embedding: *mut cliptext_embedding,
) -> Outcome {
    // SAFETY: the caller's word.
    let (place, mut taken, ids) = unsafe {
        let place = Place::at(embedding, "embedding")?;
        (place, object::taken(encoder, "encoder")?, pointers::slice(ids, count, "ids")?)
    };
    let ready = taken.value();
    let encoder = &mut ready.encoder;
    let embedding = cliptext_embedding::of(&encoder.encode_ids(ids).map_err(refused_ids)?);
    ready.did_all()?;
    place.put(embedding);
    Ok(())
}
