//! Calls of the C interface in any order, with sound memory and any arguments: each ends with a status, and nothing is read or
//! written outside of what it was given. Memory has exactly the sizes that were told, so that AddressSanitizer sees one byte more.
#![no_main]

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use cliptext::{AlignedBytes, include_plan};
use cliptext_ffi::*;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

static PLANS: [&[u8]; 3] = [
    include_plan!("../../tests/fixtures/two-towers.plan"),
    include_plan!("../../tests/fixtures/typing.plan"),
    include_plan!("../../tests/fixtures/image-generic.plan"),
];

/// Objects of each kind that there may be.
const SLOTS: usize = 3;

/// A number that is mostly small, and sometimes what no memory has.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Count {
    Small(u8),
    Medium(u16),
    Most,
    Any(usize),
}

impl Count {
    fn get(self) -> usize {
        match self {
            Count::Small(count) => count.into(),
            Count::Medium(count) => count.into(),
            Count::Most => usize::MAX,
            Count::Any(count) => count,
        }
    }

    /// As many values of memory as can be had here.
    fn room(self) -> usize {
        self.get().min(1 << 17)
    }
}

/// Which pointer an object's call gets.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Which {
    Slot(u8),
    Null,
    /// An object of another kind.
    Foreign(u8),
}

#[derive(Arbitrary, Debug)]
struct Choice {
    kernel: Option<u8>,
    threads: u8,
    flags: u8,
}

#[derive(Arbitrary, Debug)]
enum Call {
    Load { plan: u8, slot: u8, cut: u16, room: Count },
    Describe(Which),
    ArenaBytes(Which, Count),
    PassBytes(Which, Count, Count),
    Init { plan: Which, slot: u8, sequences: u8, arena_less: u8, choice: Choice },
    New { plan: Which, slot: u8, sequences: Count, choice: Choice },
    Free(u8),
    DescribeEncoder(Which),
    Encode { encoder: Which, text: Vec<u8>, flags: u8 },
    Pair { encoder: Which, texts: [Vec<u8>; 2], flags: u8 },
    Ids { encoder: Which, ids: Vec<u16> },
    Batch { encoder: Which, texts: Vec<Vec<u8>>, flags: u8, hidden: Count, pooled: Count },
    Tokenize { plan: Which, text: Vec<u8>, flags: u8, room: Count },
    Read { plan: Which, slot: u8, text: Vec<u8>, weights: u8, chunks: Count, comma: Count },
    Fill(Which, Count),
    DescribePrompt(Which),
    EncodePrompt { encoder: Which, prompt: Which, empty: Count, hidden: Count, pooled: Count },
    LoadPack { slot: u8, bytes: Vec<u8> },
    FindInPack { pack: Which, name: Vec<u8> },
    Entry { pack: Which, index: Count },
    Copy { pack: Which, index: Count, hidden: Count, pooled: Count },
    Status(i32),
}

/// An object in memory of its own, if it was made.
struct Object<T> {
    /// Never read here: it holds the object for as long as calls may name it.
    _memory: Option<AlignedBytes>,
    pointer: *mut T,
}

impl<T> Object<T> {
    fn none() -> Self {
        Self { _memory: None, pointer: null_mut() }
    }
}

struct World {
    plans: [Object<cliptext_plan>; SLOTS],
    /// The bytes of plans that were cut stay as long as the objects.
    kept: Vec<AlignedBytes>,
    encoders: [Object<cliptext_encoder>; SLOTS],
    heap: [*mut cliptext_encoder; SLOTS],
    prompts: [Object<cliptext_prompt>; SLOTS],
    packs: [Object<cliptext_pack>; SLOTS],
}

fn slot(number: u8) -> usize {
    usize::from(number) % SLOTS
}

impl World {
    fn plan(&self, which: Which) -> *const cliptext_plan {
        match which {
            Which::Slot(number) => self.plans[slot(number)].pointer,
            Which::Null => null(),
            Which::Foreign(number) => self.prompts[slot(number)].pointer.cast(),
        }
    }

    fn encoder(&self, which: Which) -> *mut cliptext_encoder {
        match which {
            Which::Slot(number) if number < 128 => self.encoders[slot(number)].pointer,
            Which::Slot(number) => self.heap[slot(number)],
            Which::Null => null_mut(),
            Which::Foreign(number) => self.packs[slot(number)].pointer.cast(),
        }
    }

    fn prompt(&self, which: Which) -> *mut cliptext_prompt {
        match which {
            Which::Slot(number) => self.prompts[slot(number)].pointer,
            Which::Null => null_mut(),
            Which::Foreign(number) => self.encoders[slot(number)].pointer.cast(),
        }
    }

    fn pack(&self, which: Which) -> *const cliptext_pack {
        match which {
            Which::Slot(number) => self.packs[slot(number)].pointer,
            Which::Null => null(),
            Which::Foreign(number) => self.plans[slot(number)].pointer.cast(),
        }
    }

    /// SAFETY: every pointer is null, or to an object that lives in `self`; every buffer has the size that is told.
    unsafe fn call(&mut self, call: &Call) -> cliptext_status {
        match call {
            Call::Load { plan, slot: number, cut, room } => {
                let whole = PLANS[usize::from(*plan) % PLANS.len()];
                let length = whole.len() - usize::from(*cut).min(whole.len());
                let bytes = if *cut == 0 {
                    whole
                } else {
                    self.kept.push(AlignedBytes::copy_of(&whole[..length]));
                    // The allocation stays where it is when the list grows.
                    let kept: *const [u8] = &**self.kept.last().unwrap();
                    unsafe { &*kept }
                };
                let room = room.get().clamp(1, 2 * CLIPTEXT_PLAN_BYTES);
                let mut memory = AlignedBytes::zeroed(room);
                let mut made = null_mut();
                let place: *mut c_void = memory.as_mut_ptr().cast();
                let status = unsafe { cliptext_plan_load(bytes.as_ptr().cast(), bytes.len(), place, room, &mut made) };
                if !made.is_null() {
                    self.plans[slot(*number)] = Object { _memory: Some(memory), pointer: made };
                }
                status
            }
            Call::Describe(which) => unsafe { cliptext_plan_describe(self.plan(*which), MaybeUninit::uninit().as_mut_ptr()) },
            Call::ArenaBytes(which, sequences) => unsafe { cliptext_arena_bytes(self.plan(*which), sequences.get(), &mut 0) },
            Call::PassBytes(which, sequences, rows) => unsafe {
                cliptext_pass_bytes(self.plan(*which), sequences.get(), rows.get(), &mut 0)
            },
            Call::Init { plan, slot: number, sequences, arena_less, choice } => {
                let plan = self.plan(*plan);
                let mut needed = 0;
                let status = unsafe { cliptext_arena_bytes(plan, usize::from(*sequences % 4), &mut needed) };
                if status != cliptext_status::CLIPTEXT_OK {
                    return status;
                }
                let room = (needed - needed.min(usize::from(*arena_less) * 64)).max(64);
                let mut arena = AlignedBytes::zeroed(room);
                let mut memory = AlignedBytes::zeroed(cliptext_encoder_size());
                let mut made = null_mut();
                let (place, in_arena) = (memory.as_mut_ptr().cast(), arena.as_mut_ptr().cast());
                let kernel = kernel(choice.kernel);
                let options = options(choice, &kernel);
                let status = unsafe {
                    cliptext_encoder_init(plan, place, memory.len(), in_arena, room, &options, &mut made)
                };
                if !made.is_null() {
                    self.kept.push(arena);
                    self.encoders[slot(*number)] = Object { _memory: Some(memory), pointer: made };
                }
                status
            }
            Call::New { plan, slot: number, sequences, choice } => {
                let kernel = kernel(choice.kernel);
                let options = options(choice, &kernel);
                let mut made = null_mut();
                let sequences = sequences.get();
                let sequences = if sequences < 256 { sequences % 5 } else { sequences };
                let status = unsafe { cliptext_encoder_new(self.plan(*plan), sequences, &options, &mut made) };
                if !made.is_null() {
                    let place = &mut self.heap[slot(*number)];
                    unsafe { cliptext_encoder_free(*place) };
                    *place = made;
                }
                status
            }
            Call::Free(number) => {
                let place = &mut self.heap[slot(*number)];
                let status = unsafe { cliptext_encoder_free(*place) };
                *place = null_mut();
                // One in the caller's memory is marked, and stays there.
                unsafe { cliptext_encoder_free(self.encoders[slot(*number)].pointer) };
                status
            }
            Call::DescribeEncoder(which) => unsafe {
                cliptext_encoder_describe(self.encoder(*which), MaybeUninit::uninit().as_mut_ptr())
            },
            Call::Encode { encoder, text, flags } => {
                let mut found = MaybeUninit::uninit();
                let (at, length) = (text.as_ptr().cast(), text.len());
                let status = unsafe { cliptext_encode(self.encoder(*encoder), at, length, u32::from(*flags % 4), found.as_mut_ptr()) };
                if status == cliptext_status::CLIPTEXT_OK {
                    unsafe { look(&found.assume_init()) };
                }
                status
            }
            Call::Pair { encoder, texts: [first, second], flags } => {
                let mut found = [const { MaybeUninit::<cliptext_embedding>::uninit() }; 2];
                let status = unsafe {
                    cliptext_encode_pair(
                        self.encoder(*encoder),
                        first.as_ptr().cast(),
                        first.len(),
                        second.as_ptr().cast(),
                        second.len(),
                        u32::from(*flags % 4),
                        found.as_mut_ptr().cast(),
                    )
                };
                if status == cliptext_status::CLIPTEXT_OK {
                    found.iter().for_each(|one| unsafe { look(one.assume_init_ref()) });
                }
                status
            }
            Call::Ids { encoder, ids } => {
                let ids: Vec<u32> = ids.iter().map(|&id| id.into()).collect();
                let mut found = MaybeUninit::uninit();
                let status = unsafe { cliptext_encode_ids(self.encoder(*encoder), ids.as_ptr(), ids.len(), found.as_mut_ptr()) };
                if status == cliptext_status::CLIPTEXT_OK {
                    unsafe { look(&found.assume_init()) };
                }
                status
            }
            Call::Batch { encoder, texts, flags, hidden, pooled } => {
                let texts: Vec<_> = texts
                    .iter()
                    .map(|text| cliptext_text { text: text.as_ptr().cast(), length: text.len() })
                    .collect();
                let (mut hidden, mut pooled) = (vec![0.0; hidden.room()], vec![0.0; pooled.room()]);
                let arrays = arrays(&mut hidden, &mut pooled);
                let flags = u32::from(*flags % 4);
                unsafe { cliptext_encode_batch(self.encoder(*encoder), texts.as_ptr(), texts.len(), flags, &arrays, &mut 0) }
            }
            Call::Tokenize { plan, text, flags, room } => {
                let mut ids = vec![0; room.room()];
                let (mut count, mut truncated) = (0, false);
                let status = unsafe {
                    cliptext_tokenize(
                        self.plan(*plan),
                        text.as_ptr().cast(),
                        text.len(),
                        u32::from(*flags % 4),
                        ids.as_mut_ptr(),
                        ids.len(),
                        &mut count,
                        &mut truncated,
                    )
                };
                assert!(status != cliptext_status::CLIPTEXT_OK || count <= ids.len());
                status
            }
            Call::Read { plan, slot: number, text, weights, chunks, comma } => {
                let names = [c"none", c"a1111", c"comfy", c"other"];
                let options = cliptext_prompt_options {
                    weights: names[usize::from(*weights) % names.len()].as_ptr(),
                    chunks: chunks.get(),
                    comma: comma.get(),
                };
                let mut memory = AlignedBytes::zeroed(cliptext_prompt_size());
                let mut made = null_mut();
                let (at, place) = (text.as_ptr().cast(), memory.as_mut_ptr().cast());
                let status = unsafe {
                    cliptext_prompt_read(self.plan(*plan), at, text.len(), &options, place, memory.len(), &mut made)
                };
                if !made.is_null() {
                    self.prompts[slot(*number)] = Object { _memory: Some(memory), pointer: made };
                }
                status
            }
            Call::Fill(which, chunks) => unsafe { cliptext_prompt_fill(self.prompt(*which), chunks.get()) },
            Call::DescribePrompt(which) => unsafe {
                cliptext_prompt_describe(self.prompt(*which), MaybeUninit::uninit().as_mut_ptr())
            },
            Call::EncodePrompt { encoder, prompt, empty, hidden, pooled } => {
                let empty = vec![0.5; empty.room()];
                let (mut hidden, mut pooled) = (vec![0.0; hidden.room()], vec![0.0; pooled.room()]);
                let arrays = arrays(&mut hidden, &mut pooled);
                let at = if empty.is_empty() { null() } else { empty.as_ptr() };
                unsafe { cliptext_encode_prompt(self.encoder(*encoder), self.prompt(*prompt), at, empty.len(), &arrays) }
            }
            Call::LoadPack { slot: number, bytes } => {
                let bytes = if bytes.is_empty() { a_pack() } else { AlignedBytes::copy_of(bytes) };
                let mut memory = AlignedBytes::zeroed(cliptext_pack_size());
                let mut made = null_mut();
                let (at, place) = (bytes.as_ptr().cast(), memory.as_mut_ptr().cast());
                let status = unsafe { cliptext_pack_load(at, bytes.len(), place, memory.len(), &mut made) };
                if !made.is_null() {
                    self.kept.push(bytes);
                    self.packs[slot(*number)] = Object { _memory: Some(memory), pointer: made };
                }
                status
            }
            Call::FindInPack { pack, name } => unsafe {
                cliptext_pack_find(self.pack(*pack), name.as_ptr().cast(), name.len(), &mut 0)
            },
            Call::Entry { pack, index } => unsafe {
                cliptext_pack_entry_at(self.pack(*pack), index.get(), MaybeUninit::uninit().as_mut_ptr())
            },
            Call::Copy { pack, index, hidden, pooled } => {
                let (mut hidden, mut pooled) = (vec![0.0; hidden.room()], vec![0.0; pooled.room()]);
                let arrays = arrays(&mut hidden, &mut pooled);
                unsafe { cliptext_pack_copy(self.pack(*pack), index.get(), &arrays) }
            }
            Call::Status(status) => {
                assert!(!cliptext_error_text(*status).is_null());
                cliptext_status::CLIPTEXT_OK
            }
        }
    }
}

fn arrays(hidden: &mut [f32], pooled: &mut [f32]) -> cliptext_arrays {
    let at = |values: &mut [f32]| if values.is_empty() { null_mut() } else { values.as_mut_ptr() };
    cliptext_arrays {
        hidden: at(hidden),
        hidden_values: hidden.len(),
        pooled: at(pooled),
        pooled_values: pooled.len(),
    }
}

fn kernel(choice: Option<u8>) -> Option<CString> {
    let names = ["scalar", "avx2", "avx512vnni", "neon", "none such"];
    choice.map(|choice| CString::new(names[usize::from(choice) % names.len()]).expect("no zero"))
}

fn options(choice: &Choice, kernel: &Option<CString>) -> cliptext_options {
    cliptext_options {
        kernel: kernel.as_ref().map_or(null::<c_char>(), |name| name.as_ptr()),
        threads: usize::from(choice.threads % 3),
        team: null(),
        // Not CLIPTEXT_ASSUME_KERNEL, which is the caller's promise.
        flags: u32::from(choice.flags % 2) * 2,
    }
}

/// A pack with one entry.
fn a_pack() -> AlignedBytes {
    use cliptext::pack::{Dtype, NewEntry, PackManifest, PackWriter};
    let manifest = PackManifest { producer: "fuzz", source: "", plan: [1; 32], width: 3, pooled: 2, dtype: Dtype::F16 };
    let entries = [NewEntry { name: "cat", prompt: "a cat", options: "", tokens: 2, dropped: None }];
    let mut writer = PackWriter::new(std::io::Cursor::new(vec![]), manifest, &entries).expect("a pack");
    writer.write(&[7, 9], &[0.5; 6], Some(&[1.0, 3.0])).expect("an entry");
    AlignedBytes::copy_of(writer.finish().expect("a pack").get_ref())
}

/// Reads all that an embedding points to.
unsafe fn look(embedding: &cliptext_embedding) {
    let (tokens, width) = (embedding.tokens, embedding.width);
    let hidden = unsafe { std::slice::from_raw_parts(embedding.hidden, tokens * width) };
    let ids = unsafe { std::slice::from_raw_parts(embedding.ids, tokens) };
    std::hint::black_box((hidden.iter().sum::<f32>(), ids.iter().max()));
    if !embedding.pooled.is_null() {
        let pooled = unsafe { std::slice::from_raw_parts(embedding.pooled, embedding.pooled_columns) };
        std::hint::black_box(pooled.iter().sum::<f32>());
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let mut world = World {
        plans: [const { () }; SLOTS].map(|()| Object::none()),
        kept: Vec::new(),
        encoders: [const { () }; SLOTS].map(|()| Object::none()),
        heap: [null_mut(); SLOTS],
        prompts: [const { () }; SLOTS].map(|()| Object::none()),
        packs: [const { () }; SLOTS].map(|()| Object::none()),
    };
    for call in calls.iter().take(64) {
        // SAFETY: as `call` asks.
        let status = unsafe { world.call(call) };
        if status != cliptext_status::CLIPTEXT_OK {
            // SAFETY: a C string that stays as long as the thread.
            let told = unsafe { std::ffi::CStr::from_ptr(cliptext_last_error()) };
            assert!(!told.is_empty() && told.to_str().is_ok(), "{call:?}: {status:?}");
        }
    }
    // SAFETY: each is null or was made by `cliptext_encoder_new` and not ended.
    world.heap.iter().for_each(|&encoder| assert_eq!(unsafe { cliptext_encoder_free(encoder) }, cliptext_status::CLIPTEXT_OK));
});
