//! Prompt packs: embeddings that were computed before, read without a plan and without an encoder.

use core::ffi::{c_char, c_void};
use core::ops::Range;

use cliptext::pack::{PackEntry, PackError, Values};
use cliptext::{Pack, plan::PlanHash};

use crate::arrays::{Arrays, cliptext_arrays};
use crate::message::array;
use crate::object::{self, Kind};
use crate::plan::CLIPTEXT_TEXT_BYTES;
use crate::pointers::{self, Place};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, cliptext_status, fail, told};

/// Bytes of memory that a pack object takes at the most: for a `static` array.
pub const CLIPTEXT_PACK_BYTES: usize = 512;

/// A prompt pack that was checked: a view of its bytes, which it does not own. Any number of threads may use one at once.
pub struct cliptext_pack {
    _nothing: (),
}

/// What is behind it.
pub(crate) struct LoadedPack {
    pack: Pack<'static>,
    bytes: Range<usize>,
    /// What an opened pack holds.
    #[cfg(feature = "std")]
    pub(crate) opened: Option<OpenedPack>,
}

/// The file of an opened pack, and the object's own memory.
#[cfg(feature = "std")]
pub(crate) struct OpenedPack {
    pub(crate) _file: std::sync::Arc<cliptext::PlanFile>,
    /// Goes last.
    pub(crate) _object: crate::heap::Heap,
}

impl Kind for cliptext_pack {
    type Value = LoadedPack;
    const TAG: u32 = u32::from_le_bytes(*b"cTpk");
    const NAME: &'static str = "a pack";
}

const _: () = assert!(object::size::<cliptext_pack>() <= CLIPTEXT_PACK_BYTES);

impl LoadedPack {
    /// The pack in `bytes`.
    pub(crate) fn of(bytes: &'static [u8]) -> Outcome<Self> {
        Ok(Self {
            pack: Pack::load(bytes).map_err(refused)?,
            bytes: pointers::span(bytes),
            #[cfg(feature = "std")]
            opened: None,
        })
    }

    fn entry(&self, index: usize) -> Outcome<PackEntry<'static>> {
        let count = self.pack.len();
        self.pack.entry(index).ok_or_else(|| {
            fail(CLIPTEXT_ENTRY, format_args!("entry {index} is asked for, the pack has {count} from 0"))
        })
    }
}

/// Why bytes are no pack.
fn refused(error: PackError) -> cliptext_status {
    let status = match error {
        PackError::Misaligned => CLIPTEXT_MISALIGNED,
        PackError::Version { .. } => CLIPTEXT_VERSION,
        _ => CLIPTEXT_PACK,
    };
    fail(status, format_args!("{error}"))
}

/// What a pack says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_pack_info {
    /// Its entries, numbered from 0 in the order of the bytes of their names.
    pub entries: usize,
    /// Columns of the hidden states.
    pub width: usize,
    /// Columns of the pooled outputs; 0 where there are none.
    pub pooled_columns: usize,
    /// Whether the values are stored in half precision.
    pub half: bool,
    /// The hash of the plan that encoded the prompts, as `cliptext_plan_info` has it.
    pub plan_hash: [c_char; CLIPTEXT_TEXT_BYTES],
    /// The model that the plan was made from.
    pub source: [c_char; CLIPTEXT_TEXT_BYTES],
    /// The program that made the pack.
    pub producer: [c_char; CLIPTEXT_TEXT_BYTES],
}

/// An embedding of a pack, and what it is of: pointers into the pack's bytes, good for as long as these are. Texts are UTF-8 without a
/// zero behind them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_pack_entry {
    /// Its name, and the name's bytes.
    pub name: *const c_char,
    /// See `name`.
    pub name_length: usize,
    /// The text that was encoded, and its bytes.
    pub prompt: *const c_char,
    /// See `prompt`.
    pub prompt_length: usize,
    /// How it was encoded, in the words of the program that made the pack, and their bytes.
    pub options: *const c_char,
    /// See `options`.
    pub options_length: usize,
    /// The bytes of the prompt that were left out because they did not fit: from `dropped_start` to before `dropped_end`; both are 0
    /// where nothing was.
    pub dropped_start: usize,
    /// See `dropped_start`.
    pub dropped_end: usize,
    /// Rows of the hidden states.
    pub tokens: usize,
    /// The token ids, `[tokens]`.
    pub ids: *const u32,
    /// The hidden states where they stand, `[tokens, width]`: null in a pack of half precision, which `cliptext_pack_copy` converts.
    pub hidden: *const f32,
    /// The pooled output where it stands, `[pooled_columns]`: null where there is none, and in a pack of half precision.
    pub pooled: *const f32,
    /// The hidden states of a pack of half precision: the bits of IEEE binary16. Else null.
    pub hidden_half: *const u16,
    /// The pooled output of a pack of half precision. Else null.
    pub pooled_half: *const u16,
}

/// Bytes of memory that a pack object takes: at most `CLIPTEXT_PACK_BYTES`.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_pack_size() -> usize {
    object::size::<cliptext_pack>()
}

/// Checks the prompt pack of `length` bytes at `bytes` and makes a pack object of it in `memory`, as `cliptext_plan_load` does with a plan:
/// nothing is copied or allocated, `bytes` starts at a multiple of 64 and stays as it is and where it is for as long as the object and its entries are used.
/// `memory`, aligned as that of malloc is, has `cliptext_pack_size()` bytes or more. On an error `*pack` is left alone.
///
/// Errors: CLIPTEXT_MISALIGNED, CLIPTEXT_PACK, CLIPTEXT_VERSION of the bytes; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL,
/// CLIPTEXT_ARGUMENT of the arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_load(
    bytes: *const c_void,
    length: usize,
    memory: *mut c_void,
    memory_bytes: usize,
    pack: *mut *mut cliptext_pack,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { load(bytes, length, (memory, memory_bytes), pack) })
}

unsafe fn load(
    bytes: *const c_void,
    length: usize,
    (memory, memory_bytes): (*mut c_void, usize),
    pack: *mut *mut cliptext_pack,
) -> Outcome {
    // SAFETY: the caller's word.
    let (pack, bytes) =
        unsafe { (Place::at(pack, "pack")?, pointers::slice(bytes.cast(), length, "bytes")?) };
    let loaded = LoadedPack::of(bytes)?;
    let object = object::reach::<cliptext_pack>(memory, memory_bytes)?;
    pointers::apart((&object, "`memory`"), (&loaded.bytes, "the pack's bytes"))?;
    // SAFETY: as above.
    pack.put(unsafe { object::make::<cliptext_pack>(memory, memory_bytes, loaded) }?);
    Ok(())
}

/// Writes what the pack says of itself to `info`.
///
/// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_describe(
    pack: *const cliptext_pack,
    info: *mut cliptext_pack_info,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { describe(pack, info) })
}

unsafe fn describe(pack: *const cliptext_pack, info: *mut cliptext_pack_info) -> Outcome {
    // SAFETY: the caller's word.
    let (info, pack) = unsafe { (Place::at(info, "info")?, &object::shared(pack, "pack")?.pack) };
    let manifest = pack.manifest();
    info.put(cliptext_pack_info {
        entries: pack.len(),
        width: pack.width(),
        pooled_columns: manifest.pooled as usize,
        half: manifest.dtype == cliptext::pack::Dtype::F16,
        plan_hash: array(PlanHash::from_bytes(manifest.plan)),
        source: array(manifest.source),
        producer: array(manifest.producer),
    });
    Ok(())
}

/// Looks up a name, of `length` bytes or a C string (CLIPTEXT_CSTR), and writes the number of its entry to `*index`.
///
/// Errors: CLIPTEXT_ENTRY where the pack has no such name; CLIPTEXT_UTF8, CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_ARGUMENT,
/// CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_find(
    pack: *const cliptext_pack,
    name: *const c_char,
    length: usize,
    index: *mut usize,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { find(pack, (name, length), index) })
}

unsafe fn find(
    pack: *const cliptext_pack,
    (name, length): (*const c_char, usize),
    index: *mut usize,
) -> Outcome {
    // SAFETY: the caller's word.
    let (index, pack, name) = unsafe {
        let pack = &object::shared(pack, "pack")?.pack;
        (Place::at(index, "index")?, pack, pointers::text(name, length, "name")?)
    };
    let found = pack.position(name).ok_or_else(|| {
        let count = pack.len();
        fail(CLIPTEXT_ENTRY, format_args!("the pack has no entry called `{name}` among its {count}"))
    })?;
    index.put(found);
    Ok(())
}

/// Writes entry `index` to `entry`.
///
/// Errors: CLIPTEXT_ENTRY where there is none; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_entry_at(
    pack: *const cliptext_pack,
    index: usize,
    entry: *mut cliptext_pack_entry,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { entry_at(pack, index, entry) })
}

unsafe fn entry_at(pack: *const cliptext_pack, index: usize, entry: *mut cliptext_pack_entry) -> Outcome {
    // SAFETY: the caller's word.
    let (place, pack) = unsafe { (Place::at(entry, "entry")?, object::shared(pack, "pack")?) };
    let entry = pack.entry(index)?;
    let text = |text: &'static str| (text.as_ptr().cast::<c_char>(), text.len());
    let values = |values: Option<Values<'static>>| match values {
        Some(Values::F32(values)) => (values.as_ptr(), core::ptr::null()),
        Some(Values::F16(bits)) => (core::ptr::null(), bits.as_ptr()),
        None => (core::ptr::null(), core::ptr::null()),
    };
    let (name, name_length) = text(entry.name());
    let (prompt, prompt_length) = text(entry.prompt());
    let (options, options_length) = text(entry.options());
    let (hidden, hidden_half) = values(Some(entry.hidden()));
    let (pooled, pooled_half) = values(entry.pooled());
    let dropped = entry.dropped().unwrap_or(0..0);
    place.put(cliptext_pack_entry {
        name,
        name_length,
        prompt,
        prompt_length,
        options,
        options_length,
        dropped_start: dropped.start,
        dropped_end: dropped.end,
        tokens: entry.tokens(),
        ids: entry.ids().as_ptr(),
        hidden,
        pooled,
        hidden_half,
        pooled_half,
    });
    Ok(())
}

/// Copies entry `index` to the caller's arrays in single precision, whatever the pack has: the hidden states, `[tokens, width]`, and the
/// pooled output, `[pooled_columns]`.
///
/// Errors: CLIPTEXT_ENTRY where there is none; CLIPTEXT_TOO_SMALL where an array is; CLIPTEXT_ARGUMENT where there are no arrays, where a pooled output is
/// asked of a pack without, and where arrays overlap each other or the pack; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pack_copy(
    pack: *const cliptext_pack,
    index: usize,
    arrays: *const cliptext_arrays,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { copy(pack, index, arrays) })
}

unsafe fn copy(pack: *const cliptext_pack, index: usize, arrays: *const cliptext_arrays) -> Outcome {
    // SAFETY: the caller's word.
    let (pack, mut arrays) = unsafe { (object::shared(pack, "pack")?, Arrays::given(arrays)?) };
    let entry = pack.entry(index)?;
    let pooled = entry.pooled();
    for (buffer, name) in [(&arrays.hidden, "`hidden`"), (&arrays.pooled, "`pooled`")] {
        if let Some(buffer) = buffer {
            pointers::apart((&buffer.span(), name), (&pack.bytes, "the pack's bytes"))?;
        }
    }
    if let Some(hidden) = &arrays.hidden {
        hidden.holds(entry.hidden().len(), "hidden")?;
    }
    arrays.hold_pooled(pooled.map_or(0, |pooled| pooled.len()), "pack")?;
    for (buffer, values) in [(&mut arrays.hidden, Some(entry.hidden())), (&mut arrays.pooled, pooled)] {
        if let (Some(buffer), Some(values)) = (buffer, values) {
            // The place has their number.
            let _ = values.copy_to(buffer.zeroed(values.len()));
        }
    }
    Ok(())
}
