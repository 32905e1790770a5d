//! The text of the last error: of each thread, or, without an operating system, of all tasks together.

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a message with the zero behind it; longer ones are cut.
const ROOM: usize = 512;

/// Bytes that are read while others write them without harm: the last one is always zero, so a text torn by another task is still one.
struct Message([AtomicU8; ROOM]);

impl Message {
    const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; ROOM])
    }

    fn set(&self, text: fmt::Arguments<'_>) {
        let mut writer = Writer { message: self, length: 0 };
        // A message that is too long ends early.
        let _ = writer.write_fmt(text);
        writer.end();
    }
}

struct Writer<'m> {
    message: &'m Message,
    length: usize,
}

impl Writer<'_> {
    fn end(&self) {
        if let Some(byte) = self.message.0.get(self.length) {
            byte.store(0, Ordering::Relaxed);
        }
    }
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            let places = self.message.0.get(self.length..self.length + bytes.len());
            // The last byte stays zero.
            let places = places.filter(|_| self.length + bytes.len() < ROOM).ok_or(fmt::Error)?;
            for (place, &byte) in places.iter().zip(bytes) {
                // A zero in a path that a message repeats would end the text for C.
                place.store(if byte == 0 { b'?' } else { byte }, Ordering::Relaxed);
            }
            self.length += bytes.len();
        }
        Ok(())
    }
}

#[cfg(feature = "std")]
std::thread_local! {
    static LAST: Message = const { Message::new() };
}

#[cfg(not(feature = "std"))]
static LAST: Message = Message::new();

/// Keeps the text for whoever asks for the last error.
pub(crate) fn set(text: fmt::Arguments<'_>) {
    #[cfg(feature = "std")]
    LAST.with(|last| last.set(text));
    #[cfg(not(feature = "std"))]
    LAST.set(text);
}

/// Where the text of the last error is: a C string for as long as the thread lives.
pub(crate) fn last() -> *const c_char {
    #[cfg(feature = "std")]
    return LAST.with(|last| last.0.as_ptr().cast());
    #[cfg(not(feature = "std"))]
    return LAST.0.as_ptr().cast();
}

/// A text as an array of `N` bytes with the zero behind it: what is too long is cut between characters.
pub(crate) fn array<const N: usize>(text: impl fmt::Display) -> [c_char; N] {
    struct Array<const N: usize>([c_char; N], usize);

    impl<const N: usize> Write for Array<N> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                let end = self.1 + c.len_utf8();
                // The last byte stays zero.
                let places = self.0.get_mut(self.1..end).filter(|_| end < N).ok_or(fmt::Error)?;
                for (place, byte) in places.iter_mut().zip(c.encode_utf8(&mut [0; 4]).bytes()) {
                    *place = byte as c_char;
                }
                self.1 = end;
            }
            Ok(())
        }
    }

    let mut array = Array([0; N], 0);
    // A text that is too long ends early.
    let _ = write!(array, "{text}");
    array.0
}

/// A text that is one for C.
pub(crate) const fn fixed(text: &'static CStr) -> *const c_char {
    text.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn text(message: &Message) -> String {
        let bytes: std::vec::Vec<u8> = message.0.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().into()
    }

    #[test]
    fn messages_end_in_a_zero_however_long_they_are() {
        let message = Message::new();
        for length in [0, 1, ROOM - 2, ROOM - 1, ROOM, 3 * ROOM] {
            let long = "x".repeat(length);
            message.set(format_args!("{long}"));
            assert_eq!(text(&message), long[..length.min(ROOM - 1)]);
        }
        message.set(format_args!("short"));
        assert_eq!(text(&message), "short");
        // Three bytes each: cut between characters, not within one.
        message.set(format_args!("{}", "東".repeat(ROOM)));
        assert_eq!(text(&message), "東".repeat((ROOM - 1) / 3));
        message.set(format_args!("a\0b"));
        assert_eq!(text(&message), "a?b");
    }

    #[test]
    fn texts_are_cut_to_their_array() {
        assert_eq!(array::<4>("abcdef").map(|c| c as u8), *b"abc\0");
        assert_eq!(array::<4>("a").map(|c| c as u8), *b"a\0\0\0");
        assert_eq!(array::<6>("東京").map(|c| c as u8), *b"\xe6\x9d\xb1\0\0\0");
    }
}
