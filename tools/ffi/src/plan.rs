//! Plans: loaded from memory that the caller keeps.

use core::ffi::{c_char, c_void};
use core::ops::Range;

use cliptext::{MAX_SEQUENCES, Plan};

use crate::message::array;
use crate::object::{self, Kind};
use crate::pointers::{self, Place, apart};
use crate::status::cliptext_status::CLIPTEXT_ARGUMENT;
use crate::status::{Outcome, cliptext_status, fail, load, told};

/// Bytes of memory that a plan object takes at the most: for a `static` array.
pub const CLIPTEXT_PLAN_BYTES: usize = 1024;

/// Characters of a text in `cliptext_plan_info`, with the zero behind it.
pub const CLIPTEXT_TEXT_BYTES: usize = 65;

/// A plan that was checked: a view of its bytes, which it does not own. Any number of threads may use one at once.
pub struct cliptext_plan {
    _nothing: (),
}

/// What is behind it.
pub(crate) struct Loaded {
    pub(crate) plan: Plan<'static>,
    bytes: Range<usize>,
    /// What an opened plan holds.
    #[cfg(feature = "std")]
    pub(crate) opened: Option<Opened>,
}

/// The file of an opened plan, which its encoders hold too, and the object's own memory.
#[cfg(feature = "std")]
pub(crate) struct Opened {
    pub(crate) file: std::sync::Arc<cliptext::PlanFile>,
    /// Goes last.
    pub(crate) _object: crate::heap::Heap,
}

impl Kind for cliptext_plan {
    type Value = Loaded;
    const TAG: u32 = u32::from_le_bytes(*b"cTpl");
    const NAME: &'static str = "a plan";
}

const _: () = assert!(object::size::<cliptext_plan>() <= CLIPTEXT_PLAN_BYTES);

impl Loaded {
    /// The plan in `bytes`.
    pub(crate) fn of(bytes: &'static [u8]) -> Outcome<Self> {
        Ok(Self {
            plan: Plan::load(bytes).map_err(load)?,
            bytes: pointers::span(bytes),
            #[cfg(feature = "std")]
            opened: None,
        })
    }

    /// Whether memory that is going to be written is apart from the plan.
    pub(crate) fn apart(&self, memory: &Range<usize>, name: &str) -> Outcome {
        apart((memory, name), (&self.bytes, "the plan's bytes"))
    }
}

/// What a plan says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_plan_info {
    /// Tokens of a text, start and end token and padding included: rows of the hidden states of a padded text. 77 for nearly
    /// every model.
    pub context: usize,
    /// Columns of the hidden states, of all text towers together.
    pub width: usize,
    /// Columns of the pooled output; 0 where the plan has none.
    pub pooled_columns: usize,
    /// Bytes of arena for one text in a pass.
    pub arena_bytes: usize,
    /// The most texts in one pass.
    pub max_sequences: usize,
    /// Bytes of the whole plan.
    pub file_bytes: u64,
    /// Every token id is below.
    pub token_rows: u32,
    /// What CLIP multiplies cosines between texts and images with before the softmax; 0 where the model's files do not say.
    pub logit_scale: f32,
    /// Whether the pooled output is a projection into the space that texts share with images.
    pub projected: bool,
    /// Whether no row depends on the rows behind it.
    pub causal: bool,
    /// Whether the plan was compiled with `--prefix-cache`: of a text that begins as the one before it, with the same encoder, the common
    /// rows are not computed again. The bytes are the same.
    pub keeps_rows: bool,
    /// Which plan it is: SHA-256 of its header and checksums, in hexadecimal. A name, and no protection against an attacker.
    pub hash: [c_char; CLIPTEXT_TEXT_BYTES],
    /// The model that it was made from.
    pub source: [c_char; CLIPTEXT_TEXT_BYTES],
    /// The program that made it.
    pub producer: [c_char; CLIPTEXT_TEXT_BYTES],
    /// How its weights are packed: which kind of CPU it is for.
    pub packing: [c_char; 16],
}

/// Bytes of memory that a plan object takes: at most `CLIPTEXT_PLAN_BYTES`.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_plan_size() -> usize {
    object::size::<cliptext_plan>()
}

/// Checks the plan of `length` bytes at `bytes` and makes a plan object of it in `memory`.
///
/// Nothing is copied or allocated: `bytes`, from a multiple of 64 on, stays as it is and where it is for as long as the object and
/// the encoders made from it are used. `memory`, aligned as that of malloc is, has `cliptext_plan_size()` bytes or more, and holds the
/// object from then on: there is nothing to close. On an error `*plan` is left alone.
///
/// Errors: CLIPTEXT_MISALIGNED, CLIPTEXT_PLAN, CLIPTEXT_VERSION of the bytes; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_TOO_SMALL,
/// CLIPTEXT_ARGUMENT of the arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_plan_load(
    bytes: *const c_void,
    length: usize,
    memory: *mut c_void,
    memory_bytes: usize,
    plan: *mut *mut cliptext_plan,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { load_plan(bytes, length, (memory, memory_bytes), plan) })
}

unsafe fn load_plan(
    bytes: *const c_void,
    length: usize,
    (memory, memory_bytes): (*mut c_void, usize),
    plan: *mut *mut cliptext_plan,
) -> Outcome {
    // SAFETY: the caller's word.
    let (plan, bytes) =
        unsafe { (Place::at(plan, "plan")?, pointers::slice(bytes.cast(), length, "bytes")?) };
    let loaded = Loaded::of(bytes)?;
    loaded.apart(&object::reach::<cliptext_plan>(memory, memory_bytes)?, "`memory`")?;
    // SAFETY: as above.
    plan.put(unsafe { object::make::<cliptext_plan>(memory, memory_bytes, loaded) }?);
    Ok(())
}

/// Writes what the plan says of itself to `info`.
///
/// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_plan_describe(
    plan: *const cliptext_plan,
    info: *mut cliptext_plan_info,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { describe(plan, info) })
}

unsafe fn describe(plan: *const cliptext_plan, info: *mut cliptext_plan_info) -> Outcome {
    // SAFETY: the caller's word.
    let (info, plan) = unsafe { (Place::at(info, "info")?, &object::shared(plan, "plan")?.plan) };
    let manifest = plan.manifest();
    info.put(cliptext_plan_info {
        context: plan.context(),
        width: plan.width(),
        pooled_columns: manifest.pooled.map_or(0, |place| place.columns as usize),
        arena_bytes: plan.arena_bytes(1),
        max_sequences: MAX_SEQUENCES,
        file_bytes: plan.file_bytes(),
        token_rows: plan.token_rows(),
        logit_scale: manifest.logit_scale.unwrap_or(0.0),
        projected: plan.is_projected(),
        causal: plan.is_causal(),
        keeps_rows: plan.keeps_rows(),
        hash: array(plan.hash()),
        source: array(manifest.source),
        producer: array(manifest.producer),
        packing: array(manifest.packing.name()),
    });
    Ok(())
}

/// Writes the bytes of arena that encoding `sequences` texts in one pass takes to `*bytes`, each in the whole context: 1 for a text, 2 for
/// a prompt and its negative.
///
/// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE; CLIPTEXT_ARGUMENT unless `sequences` is 1 to the plan's `max_sequences`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_arena_bytes(
    plan: *const cliptext_plan,
    sequences: usize,
    bytes: *mut usize,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { arena_bytes(plan, sequences, bytes) })
}

unsafe fn arena_bytes(plan: *const cliptext_plan, sequences: usize, bytes: *mut usize) -> Outcome {
    // SAFETY: the caller's word.
    let (bytes, plan) = unsafe { (Place::at(bytes, "bytes")?, object::shared(plan, "plan")?) };
    bytes.put(plan.arena_for(sequences)?);
    Ok(())
}

/// Writes the bytes of arena that a pass over `sequences` texts takes which have `rows` rows together, to `*bytes`: of short texts without
/// their padding (CLIPTEXT_UNPADDED) so many as fill a context take little more than one that is padded.
///
/// Errors: those of `cliptext_arena_bytes`; CLIPTEXT_ARGUMENT also where there are fewer rows than texts, or more than they can have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_pass_bytes(
    plan: *const cliptext_plan,
    sequences: usize,
    rows: usize,
    bytes: *mut usize,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { pass_bytes(plan, sequences, rows, bytes) })
}

unsafe fn pass_bytes(
    plan: *const cliptext_plan,
    sequences: usize,
    rows: usize,
    bytes: *mut usize,
) -> Outcome {
    // SAFETY: the caller's word.
    let (bytes, loaded) = unsafe { (Place::at(bytes, "bytes")?, object::shared(plan, "plan")?) };
    loaded.arena_for(sequences)?;
    let most = sequences * loaded.plan.context();
    if !(sequences..=most).contains(&rows) {
        return Err(fail(
            CLIPTEXT_ARGUMENT,
            format_args!("`rows` is {rows}: {sequences} texts have {sequences} to {most}"),
        ));
    }
    bytes.put(loaded.plan.pass_bytes(sequences, rows));
    Ok(())
}

impl Loaded {
    /// Bytes of arena for so many sequences in the whole context.
    pub(crate) fn arena_for(&self, sequences: usize) -> Outcome<usize> {
        if !(1..=MAX_SEQUENCES).contains(&sequences) {
            return Err(fail(
                CLIPTEXT_ARGUMENT,
                format_args!("`sequences` is {sequences}: a pass takes 1 to {MAX_SEQUENCES}"),
            ));
        }
        Ok(self.plan.arena_bytes(sequences))
    }
}
