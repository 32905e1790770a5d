//! What the tests of the C interface share.
#![allow(dead_code)] // each test takes what it needs

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use cliptext::AlignedBytes;
use cliptext_ffi::cliptext_status::CLIPTEXT_OK;
use cliptext_ffi::*;

/// A C string's length, as the header has it.
pub const CSTR: usize = usize::MAX;

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

pub fn bytes(name: &str) -> AlignedBytes {
    AlignedBytes::copy_of(&std::fs::read(path(name)).expect("a file of the project"))
}

pub fn c(text: &str) -> CString {
    CString::new(text).expect("no zero")
}

pub fn text(pointer: *const c_char) -> String {
    // SAFETY: a C string of the library's.
    unsafe { CStr::from_ptr(pointer) }.to_str().expect("UTF-8").into()
}

pub fn last_error() -> String {
    text(cliptext_last_error())
}

pub fn open(name: &str, flags: u32) -> *mut cliptext_plan {
    let mut plan = null_mut();
    let name = c(path(name).to_str().expect("UTF-8"));
    // SAFETY: a C string, and a place for the plan.
    let status = unsafe { cliptext_open(name.as_ptr(), flags, &mut plan) };
    assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
    plan
}

pub fn encoder(plan: *mut cliptext_plan, sequences: usize) -> *mut cliptext_encoder {
    let mut encoder = null_mut();
    // SAFETY: an opened plan.
    let status = unsafe { cliptext_encoder_new(plan, sequences, null(), &mut encoder) };
    assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
    encoder
}

pub const NOTHING: cliptext_embedding = cliptext_embedding {
    hidden: null(),
    pooled: null(),
    ids: null(),
    tokens: 0,
    kept: 0,
    width: 0,
    pooled_columns: 0,
    truncated: false,
};

/// A pack of two entries, `dog` of two tokens with a pooled row and `empty` of one, whose values half precision holds.
pub fn pack_bytes(half: bool) -> Vec<u8> {
    use cliptext::pack::{Dtype, NewEntry, PackManifest, PackWriter};
    let dtype = if half { Dtype::F16 } else { Dtype::F32 };
    let manifest =
        PackManifest { producer: "a test", source: "a model", plan: [7; 32], width: 2, pooled: 3, dtype };
    let dog =
        NewEntry { name: "dog", prompt: "a dog", options: "weights none", tokens: 2, dropped: Some(2..5) };
    let empty = NewEntry { name: "empty", prompt: "", options: "", tokens: 1, dropped: None };
    let mut writer = PackWriter::new(std::io::Cursor::new(vec![]), manifest, &[dog, empty]).unwrap();
    writer.write(&[1, 2], &[0.5, 1.5, -2.5, 3.0], Some(&[1.0, 2.0, 4.0])).unwrap();
    writer.write(&[1], &[0.25, 0.0], Some(&[8.0, 16.0, 32.0])).unwrap();
    writer.finish().unwrap().into_inner()
}

/// The values of an embedding's hidden states, by their bits.
pub fn bits(embedding: &cliptext_embedding) -> Vec<u32> {
    // SAFETY: as the library says, until the next call.
    let hidden = unsafe { std::slice::from_raw_parts(embedding.hidden, embedding.tokens * embedding.width) };
    hidden.iter().map(|value| value.to_bits()).collect()
}

pub fn pooled(embedding: &cliptext_embedding) -> Vec<u32> {
    if embedding.pooled.is_null() {
        assert_eq!(embedding.pooled_columns, 0);
        return Vec::new();
    }
    // SAFETY: as above.
    let values = unsafe { std::slice::from_raw_parts(embedding.pooled, embedding.pooled_columns) };
    values.iter().map(|value| value.to_bits()).collect()
}
