//! What every call says of itself: a code, and where it is not [`CLIPTEXT_OK`](cliptext_status::CLIPTEXT_OK) a text besides.

use core::ffi::c_char;
use core::fmt;

use cliptext::{EncoderError, IdsError, LoadError, PackingError, PassError};

use crate::message;

/// What became of a call. The numbers stay what they are from one version to the next.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum cliptext_status {
    /// Done.
    CLIPTEXT_OK = 0,
    /// A pointer is null that must not be.
    CLIPTEXT_NULL = 1,
    /// An argument is out of its range: an unknown flag, a count of zero, a length that no memory has, memory that overlaps.
    CLIPTEXT_ARGUMENT = 2,
    /// A pointer is not at a multiple that it must be at.
    CLIPTEXT_MISALIGNED = 3,
    /// A buffer, an arena or the memory for an object is too small; the text says how much is needed.
    CLIPTEXT_TOO_SMALL = 4,
    /// A text is not UTF-8.
    CLIPTEXT_UTF8 = 5,
    /// A pointer leads to no object of its kind, or to one that was closed.
    CLIPTEXT_HANDLE = 6,
    /// The encoder is at work for another thread.
    CLIPTEXT_BUSY = 7,
    /// The bytes are no plan that can be run: another kind of file, cut short, damaged.
    CLIPTEXT_PLAN = 8,
    /// The plan has a format version that this library does not read.
    CLIPTEXT_VERSION = 9,
    /// The plan's weights are packed for another kind of CPU.
    CLIPTEXT_PACKING = 10,
    /// There is no kernel of that name, or this CPU lacks its instructions.
    CLIPTEXT_KERNEL = 11,
    /// Token ids are too many, none, or not the plan's.
    CLIPTEXT_IDS = 12,
    /// The operating system refuses the file; the text has its reason.
    CLIPTEXT_FILE = 13,
    /// There is not enough memory.
    CLIPTEXT_MEMORY = 14,
    /// The operating system refuses a thread; the text has its reason.
    CLIPTEXT_THREAD = 15,
    /// A team of the caller's left a task of a pass undone: what was computed means nothing.
    CLIPTEXT_TEAM = 16,
    /// A prompt takes more chunks than there can be, or an option of prompts is unknown.
    CLIPTEXT_PROMPT = 17,
    /// The bytes are no prompt pack that can be read: another kind of file, cut short, damaged.
    CLIPTEXT_PACK = 18,
    /// The pack has no entry of that name or number.
    CLIPTEXT_ENTRY = 19,
}

use cliptext_status::*;

/// What a call within this crate says.
pub(crate) type Outcome<T = ()> = Result<T, cliptext_status>;

/// The code, with its text kept for `cliptext_last_error`.
#[cold]
pub(crate) fn fail(status: cliptext_status, text: fmt::Arguments<'_>) -> cliptext_status {
    message::set(text);
    status
}

/// What C is told.
pub(crate) fn told(outcome: Outcome) -> cliptext_status {
    match outcome {
        Ok(()) => CLIPTEXT_OK,
        Err(status) => status,
    }
}

/// Why bytes are no plan that this build runs.
pub(crate) fn load(error: LoadError) -> cliptext_status {
    let status = match error {
        LoadError::Misaligned => CLIPTEXT_MISALIGNED,
        LoadError::Version { .. } => CLIPTEXT_VERSION,
        _ => CLIPTEXT_PLAN,
    };
    fail(status, format_args!("{error}"))
}

/// Why no encoder can be made.
pub(crate) fn encoder(error: EncoderError) -> cliptext_status {
    match error {
        EncoderError::ArenaTooSmall { .. } => fail(CLIPTEXT_TOO_SMALL, format_args!("{error}")),
        EncoderError::ArenaMisaligned { .. } => fail(CLIPTEXT_MISALIGNED, format_args!("{error}")),
        EncoderError::Packing(error) => packing(error),
        other => fail(CLIPTEXT_ARGUMENT, format_args!("{other}")),
    }
}

/// What a plan's weights are packed for, and what to do.
pub(crate) fn packing(error: PackingError) -> cliptext_status {
    fail(CLIPTEXT_PACKING, format_args!("{error}"))
}

/// Why token ids can't be encoded.
pub(crate) fn ids(error: IdsError) -> cliptext_status {
    fail(CLIPTEXT_IDS, format_args!("{error}"))
}

/// Why a pass did not begin.
pub(crate) fn pass<E: fmt::Display>(error: PassError<E>) -> cliptext_status {
    match error {
        PassError::Ids(error) => ids(error),
        PassError::Arena(error) => encoder(error),
        other => fail(CLIPTEXT_ARGUMENT, format_args!("{other}")),
    }
}

/// What a status means, in one sentence: a C string that is always there. For a number that is no status it says so.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_error_text(status: i32) -> *const c_char {
    message::fixed(match status {
        0 => c"done",
        1 => c"a pointer is null that must not be",
        2 => c"an argument is out of its range",
        3 => c"a pointer is not at a multiple that it must be at",
        4 => c"a buffer is too small",
        5 => c"a text is not UTF-8",
        6 => c"a pointer leads to no object of its kind, or to one that was closed",
        7 => c"the encoder is at work for another thread",
        8 => c"the bytes are no plan that can be run",
        9 => c"the plan has a format version that this library does not read",
        10 => c"the plan's weights are packed for another kind of CPU",
        11 => c"there is no kernel of that name, or this CPU lacks its instructions",
        12 => c"token ids are too many, none, or not the plan's",
        13 => c"the operating system refuses the file",
        14 => c"there is not enough memory",
        15 => c"the operating system refuses a thread",
        16 => c"the team left a task undone",
        17 => c"a prompt takes more chunks than there can be, or an option of prompts is unknown",
        18 => c"the bytes are no prompt pack that can be read",
        19 => c"the pack has no entry of that name or number",
        _ => c"no status of this library",
    })
}

/// What was wrong with the calling thread's last call that failed, with names, places and numbers: a C string, empty where none
/// has failed. The pointer stays good while the thread lives; the next call that fails changes the text. At most 511 bytes.
///
/// In the library without an operating system all tasks share one text.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_last_error() -> *const c_char {
    message::last()
}

/// The library's version, such as `0.1.0`: a C string that is always there.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_version() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    TEXT.as_ptr().cast()
}
