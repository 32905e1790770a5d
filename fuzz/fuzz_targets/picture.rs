//! Any bytes as a picture: refused, or so many pixels.
#![no_main]

use std::io::Cursor;
use std::num::NonZero;

use libfuzzer_sys::fuzz_target;

const SIDE: NonZero<u16> = NonZero::new(16).unwrap();

fuzz_target!(|data: &[u8]| {
    if let Ok(pixels) = cliptext_pictures::decode(Cursor::new(data), SIDE) {
        assert_eq!(pixels.len(), 16 * 16 * 3);
    }
});
