//! Encoders: in memory that the caller gives, or from the heap.

use core::ffi::{c_char, c_void};
use core::ops::Range;

#[cfg(feature = "std")]
use cliptext::threads::{Threads, default_threads};
use cliptext::{Encoder, Kernels, MAX_SEQUENCES, Plan};

#[cfg(feature = "std")]
use crate::heap::Heap;
use crate::message::array;
use crate::object::{self, Kind};
use crate::plan::{Loaded, cliptext_plan};
use crate::pointers::{self, CSTR, Place, apart, known};
use crate::status::cliptext_status::*;
use crate::status::{Outcome, cliptext_status, encoder as refused, fail, packing, told};
use crate::team::{Crew, cliptext_team};

/// Bytes of memory that an encoder object takes at the most: for a `static` array.
pub const CLIPTEXT_ENCODER_BYTES: usize = 2048;

/// For the functions that take texts: only the rows of the text's own tokens, start and end token included, without the padding. They
/// equal the first rows with padding bit for bit.
pub const CLIPTEXT_UNPADDED: u32 = 1;

/// For `cliptext_options`: take the kernel without asking the CPU for it, where it can't be asked: bare metal on aarch64.
/// Running instructions that a core does not have is undefined behaviour.
pub const CLIPTEXT_ASSUME_KERNEL: u32 = 1;

/// For `cliptext_options`: as many threads as this machine has fast cores.
pub const CLIPTEXT_ALL_CORES: usize = usize::MAX;

/// How an encoder works. All zero is what a null pointer to it stands for: the fastest kernel, on the calling thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_options {
    /// The kernel's name, a C string: `scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `dotprod`, `i8mm`; null for the fastest that this CPU
    /// has for the plan. All give the same bytes.
    pub kernel: *const c_char,
    /// Threads that share each pass, the calling one among them: 0 and 1 start none, CLIPTEXT_ALL_CORES starts as many as the machine
    /// has use for. Only `cliptext_encoder_new` starts threads; they end with the encoder.
    pub threads: usize,
    /// A team of the caller's instead of threads; null for none. What it points to is copied.
    pub team: *const cliptext_team,
    /// CLIPTEXT_ASSUME_KERNEL or 0.
    pub flags: u32,
}

/// An encoder: a plan and an arena. One thread at a time may use it, any thread; several encoders of one plan work side by side.
pub struct cliptext_encoder {
    _nothing: (),
}

/// What is behind it. What is dropped first stands first.
pub(crate) struct Ready {
    pub(crate) encoder: Encoder<'static, Crew>,
    pub(crate) plan: Plan<'static>,
    sequences: usize,
    arena: Range<usize>,
    #[cfg(feature = "std")]
    held: Option<Held>,
}

/// What an encoder on the heap holds: its arena, the plan's file, and its own memory.
#[cfg(feature = "std")]
struct Held {
    _arena: Heap,
    _file: Option<std::sync::Arc<cliptext::PlanFile>>,
    /// Goes last.
    _object: Heap,
}

impl Kind for cliptext_encoder {
    type Value = Ready;
    const TAG: u32 = u32::from_le_bytes(*b"cTen");
    const NAME: &'static str = "an encoder";
}

const _: () = assert!(object::size::<cliptext_encoder>() <= CLIPTEXT_ENCODER_BYTES);

impl Ready {
    fn new(loaded: &Loaded, arena: &'static mut [u8], kernels: Kernels, crew: Crew) -> Outcome<Self> {
        let plan = loaded.plan;
        let (given, span) = (arena.len(), pointers::span(arena));
        let room = (1..=MAX_SEQUENCES).take_while(|&sequences| plan.arena_bytes(sequences) <= given);
        Ok(Self {
            encoder: Encoder::with(&plan, arena, kernels, crew).map_err(refused)?,
            plan,
            sequences: room.count(),
            arena: span,
            #[cfg(feature = "std")]
            held: None,
        })
    }

    /// Whether every job of the last pass was done. Where not, nothing of it is kept for the next.
    pub(crate) fn did_all(&mut self) -> Outcome {
        let outcome = self.encoder.team().did_all();
        if outcome.is_err() {
            self.encoder.forget();
        }
        outcome
    }

    /// Bytes of the arena.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Whether memory that is going to be written is apart from the arena.
    pub(crate) fn apart(&self, memory: &Range<usize>, name: &str) -> Outcome {
        apart((memory, name), (&self.arena, "the arena"))
    }
}

/// The options that a caller gives, or leaves out.
struct Wanted<'o> {
    kernel: Option<&'o str>,
    threads: usize,
    team: Option<&'o cliptext_team>,
    assume: bool,
}

impl<'o> Wanted<'o> {
    unsafe fn of(options: *const cliptext_options) -> Outcome<Self> {
        // SAFETY: the caller's word.
        let Some(options) = unsafe { pointers::perhaps(options, "options") }? else {
            return Ok(Self { kernel: None, threads: 1, team: None, assume: false });
        };
        known(options.flags, CLIPTEXT_ASSUME_KERNEL)?;
        // SAFETY: as above.
        let (kernel, team) = unsafe {
            let team: Option<&'o cliptext_team> = pointers::perhaps(options.team, "team")?;
            match options.kernel.is_null() {
                true => (None, team),
                false => (Some(pointers::text(options.kernel, CSTR, "kernel")?), team),
            }
        };
        let assume = options.flags & CLIPTEXT_ASSUME_KERNEL != 0;
        if assume && kernel.is_none() {
            let text = format_args!("CLIPTEXT_ASSUME_KERNEL needs the kernel's name");
            return Err(fail(CLIPTEXT_ARGUMENT, text));
        }
        if team.is_some() && options.threads > 1 {
            return Err(fail(
                CLIPTEXT_ARGUMENT,
                format_args!("`threads` and `team` are both given: take one"),
            ));
        }
        Ok(Self { kernel, threads: options.threads.max(1), team, assume })
    }

    fn kernels(&self, plan: &Plan<'_>) -> Outcome<Kernels> {
        let Some(name) = self.kernel else { return plan.kernels().map_err(packing) };
        // SAFETY: the caller's word is that the cores have the instructions.
        let kernels = if self.assume { unsafe { Kernels::assume(name) } } else { Kernels::named(name) };
        kernels.map_err(|error| {
            fail(CLIPTEXT_KERNEL, format_args!("kernel `{name}`: {error}; there are {}", Available))
        })
    }
}

/// The kernels of this CPU, by name.
struct Available;

impl core::fmt::Display for Available {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Kernels::available().enumerate().try_for_each(|(index, kernels)| {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, kernels.name())
        })
    }
}

/// Bytes of memory that an encoder object takes: at most `CLIPTEXT_ENCODER_BYTES`.
#[unsafe(no_mangle)]
pub extern "C" fn cliptext_encoder_size() -> usize {
    object::size::<cliptext_encoder>()
}

/// Makes an encoder in the caller's memory, without allocating.
///
/// `memory` holds the object: `cliptext_encoder_size()` bytes or more, aligned as those of malloc are. `arena` has as many bytes as
/// `cliptext_arena_bytes` says for the texts in one pass, from a multiple of 64 on; it is zeroed now. `options` may be null. Both, and the plan's
/// bytes, stay where they are for as long as the encoder is used; the plan object is needed no more. There is nothing to
/// free, but `cliptext_encoder_free` ends such an encoder too. On an error `*encoder` is left alone.
///
/// Errors: CLIPTEXT_PACKING where the plan is for another kind of CPU; CLIPTEXT_KERNEL; CLIPTEXT_HANDLE; CLIPTEXT_NULL, CLIPTEXT_MISALIGNED,
/// CLIPTEXT_TOO_SMALL of the memory; CLIPTEXT_ARGUMENT where pieces of memory overlap, and where `options` asks for threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encoder_init(
    plan: *const cliptext_plan,
    memory: *mut c_void,
    memory_bytes: usize,
    arena: *mut c_void,
    arena_bytes: usize,
    options: *const cliptext_options,
    encoder: *mut *mut cliptext_encoder,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { init(plan, (memory, memory_bytes), (arena, arena_bytes), options, encoder) })
}

unsafe fn init(
    plan: *const cliptext_plan,
    (memory, memory_bytes): (*mut c_void, usize),
    (arena, arena_bytes): (*mut c_void, usize),
    options: *const cliptext_options,
    encoder: *mut *mut cliptext_encoder,
) -> Outcome {
    // SAFETY: the caller's word.
    let (encoder, loaded, wanted) =
        unsafe { (Place::at(encoder, "encoder")?, object::shared(plan, "plan")?, Wanted::of(options)?) };
    let object = object::reach::<cliptext_encoder>(memory, memory_bytes)?;
    let span = pointers::reach(arena.cast::<cliptext::Aligned<u8>>(), arena_bytes, "arena")?;
    apart((&object, "`memory`"), (&span, "`arena`"))?;
    for (span, name) in [(&object, "`memory`"), (&span, "`arena`")] {
        loaded.apart(span, name)?;
    }
    if wanted.threads > 1 {
        let text = format_args!(
            "`threads` is more than 1: only cliptext_encoder_new starts threads; here, give a `team`"
        );
        return Err(fail(CLIPTEXT_ARGUMENT, text));
    }
    let kernels = wanted.kernels(&loaded.plan)?;
    let crew = wanted.team.map_or(Ok(Crew::Alone), Crew::given)?;
    object::room::<cliptext_encoder>(memory_bytes)?;
    // SAFETY: as above.
    let arena = unsafe { pointers::arena(arena, arena_bytes, loaded.plan.arena_bytes(1)) }?;
    let ready = Ready::new(loaded, arena, kernels, crew)?;
    // SAFETY: as above.
    encoder.put(unsafe { object::make::<cliptext_encoder>(memory, memory_bytes, ready) }?);
    Ok(())
}

/// Makes an encoder on the heap, with an arena for passes of up to `sequences` texts in the whole context, and the threads that `options` asks for; `options` may be
/// null. It is freed with `cliptext_encoder_free`. On an error `*encoder` is left alone.
///
/// An opened plan may be closed before its encoders; the bytes of one that was loaded from memory must outlast them.
///
/// Errors: CLIPTEXT_PACKING where the plan is for another kind of CPU; CLIPTEXT_KERNEL; CLIPTEXT_MEMORY; CLIPTEXT_THREAD; CLIPTEXT_HANDLE, CLIPTEXT_NULL,
/// CLIPTEXT_MISALIGNED; CLIPTEXT_ARGUMENT unless `sequences` is 1 to the plan's `max_sequences`.
///
/// Not in the library without an operating system.
#[cfg(feature = "std")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encoder_new(
    plan: *const cliptext_plan,
    sequences: usize,
    options: *const cliptext_options,
    encoder: *mut *mut cliptext_encoder,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { new(plan, sequences, options, encoder) })
}

#[cfg(feature = "std")]
unsafe fn new(
    plan: *const cliptext_plan,
    sequences: usize,
    options: *const cliptext_options,
    encoder: *mut *mut cliptext_encoder,
) -> Outcome {
    // SAFETY: the caller's word.
    let (encoder, loaded, wanted) =
        unsafe { (Place::at(encoder, "encoder")?, object::shared(plan, "plan")?, Wanted::of(options)?) };
    let bytes = loaded.arena_for(sequences)?;
    let kernels = wanted.kernels(&loaded.plan)?;
    let crew = match wanted.team {
        Some(team) => Crew::given(team)?,
        None => crew(wanted.threads)?,
    };
    let arena = Heap::new(bytes)?;
    // SAFETY: the encoder holds the memory until it is dropped, and nobody else has it; it is zeroed.
    let place: &'static mut [u8] = unsafe { core::slice::from_raw_parts_mut(arena.pointer(), bytes) };
    let size = object::size::<cliptext_encoder>();
    let object = Heap::new(size)?;
    let memory = object.pointer().cast();
    let file = loaded.opened.as_ref().map(|opened| opened.file.clone());
    let mut ready = Ready::new(loaded, place, kernels, crew)?;
    ready.held = Some(Held { _arena: arena, _file: file, _object: object });
    // SAFETY: the memory is the object's own.
    encoder.put(unsafe { object::make::<cliptext_encoder>(memory, size, ready) }?);
    Ok(())
}

/// So many threads, the calling one among them.
#[cfg(feature = "std")]
fn crew(threads: usize) -> Outcome<Crew> {
    let threads = if threads == CLIPTEXT_ALL_CORES { default_threads() } else { threads };
    if threads == 1 {
        return Ok(Crew::Alone);
    }
    let most = crate::team::CLIPTEXT_MAX_WORKERS;
    if threads > most {
        let text =
            format_args!("`threads` is {threads}: there are {most} at the most, or CLIPTEXT_ALL_CORES");
        return Err(fail(CLIPTEXT_ARGUMENT, text));
    }
    match Threads::start(threads) {
        Ok(team) => Ok(Crew::Started(team)),
        Err(error) => Err(fail(CLIPTEXT_THREAD, format_args!("starting {threads} threads: {error}"))),
    }
}

/// Ends an encoder, its threads and what it has on the heap; null is nothing to end. Memory that the caller gave stays the caller's.
///
/// Errors: CLIPTEXT_HANDLE where `encoder` leads to no encoder, CLIPTEXT_BUSY where another thread is encoding with it: then it stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encoder_free(encoder: *mut cliptext_encoder) -> cliptext_status {
    if encoder.is_null() {
        return CLIPTEXT_OK;
    }
    // SAFETY: what the header asks.
    told(unsafe { object::end(encoder, "encoder") }.map(drop))
}

/// What an encoder has chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_encoder_info {
    /// Texts in the whole context that its arena has room for in one pass; of short texts without padding it may be more.
    pub sequences: usize,
    /// Workers that share a pass, the calling thread among them.
    pub workers: usize,
    /// The kernel's name.
    pub kernel: [c_char; 16],
}

/// Writes what the encoder has chosen to `info`.
///
/// Errors: CLIPTEXT_NULL, CLIPTEXT_MISALIGNED, CLIPTEXT_HANDLE, CLIPTEXT_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cliptext_encoder_describe(
    encoder: *mut cliptext_encoder,
    info: *mut cliptext_encoder_info,
) -> cliptext_status {
    // SAFETY: what the header asks.
    told(unsafe { describe(encoder, info) })
}

unsafe fn describe(encoder: *mut cliptext_encoder, info: *mut cliptext_encoder_info) -> Outcome {
    use cliptext::threads::Team;
    // SAFETY: the caller's word.
    let (info, mut taken) = unsafe { (Place::at(info, "info")?, object::taken(encoder, "encoder")?) };
    let ready = taken.value();
    info.put(cliptext_encoder_info {
        sequences: ready.sequences,
        workers: ready.encoder.team().workers(),
        kernel: array(ready.encoder.kernels().name()),
    });
    Ok(())
}
