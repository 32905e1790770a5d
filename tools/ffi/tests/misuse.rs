//! Every misuse that can be seen gets its status and its message; nothing is written then.

mod common;
#[path = "../../../tests/common/parts.rs"]
#[allow(dead_code)] // the runtime's own tests take more of it
mod parts;

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut, without_provenance, without_provenance_mut};

use cliptext::AlignedBytes;
use cliptext::plan::format::VERSION;
use cliptext_ffi::cliptext_status::*;
use cliptext_ffi::*;
use common::*;

/// A call fails with this status and this message.
#[track_caller]
fn fails(status: cliptext_status, expected: cliptext_status, message: &str) {
    assert_eq!(status, expected, "{}", last_error());
    assert_eq!(last_error(), message);
    let short = text(cliptext_error_text(expected as i32));
    assert!(!short.is_empty() && short != text(cliptext_error_text(-1)), "{short}");
}

#[test]
fn prompts_that_do_not_do() {
    with_encoder(1, |plan, encoder| {
        let dog = c("a dog");
        let mut memory = AlignedBytes::zeroed(CLIPTEXT_PROMPT_BYTES);
        let (place, room) = (memory.as_mut_ptr(), memory.len());
        let mut prompt = null_mut();
        let plain = cliptext_prompt_options { weights: null(), chunks: 0, comma: 0 };
        // SAFETY: what is not refused is here.
        unsafe {
            let mut read = |text: *const c_char, options: *const cliptext_prompt_options, room| {
                let status = cliptext_prompt_read(plan, text, CSTR, options, place.cast(), room, &mut prompt);
                if status != CLIPTEXT_OK {
                    assert!(prompt.is_null());
                }
                status
            };
            fails(read(null(), null(), room), CLIPTEXT_NULL, "`text` is null");
            let message =
                format!("`memory` has 100 bytes, the object of a prompt needs {}", cliptext_prompt_size());
            fails(read(dog.as_ptr(), null(), 100), CLIPTEXT_TOO_SMALL, &message);
            let options = cliptext_prompt_options { chunks: 9, ..plain };
            let message = "9 chunks were asked for, a prompt has 1 to 8";
            fails(read(dog.as_ptr(), &options, room), CLIPTEXT_PROMPT, message);
            let options = cliptext_prompt_options { chunks: usize::MAX - 1, ..plain };
            let message = "255 chunks were asked for, a prompt has 1 to 8";
            fails(read(dog.as_ptr(), &options, room), CLIPTEXT_PROMPT, message);
            let long = c(&"dog ".repeat(8 * 75 + 1));
            let options = cliptext_prompt_options { chunks: CLIPTEXT_AUTO_CHUNKS, ..plain };
            let message = "the prompt takes more than 8 chunks, the most: there is no room from byte 2400 on";
            fails(read(long.as_ptr(), &options, room), CLIPTEXT_PROMPT, message);
            let options = cliptext_prompt_options { comma: 256, ..plain };
            let message = "`comma` is 256: it is 255 at the most";
            fails(read(dog.as_ptr(), &options, room), CLIPTEXT_ARGUMENT, message);
            let name = c("sdnext");
            let options = cliptext_prompt_options { weights: name.as_ptr(), ..plain };
            assert_eq!(read(dog.as_ptr(), &options, room), CLIPTEXT_PROMPT);
            assert!(last_error().starts_with("`weights` is `sdnext`: expected "), "{}", last_error());
            // The object of a prompt that was refused is none.
            let refused: *mut cliptext_prompt = place.cast();
            let message = "`prompt` leads to no object of a prompt, or to one that was closed";
            fails(cliptext_prompt_fill(refused, 2), CLIPTEXT_HANDLE, message);

            assert_eq!(read(dog.as_ptr(), null(), room), CLIPTEXT_OK);
            let message = "9 chunks were asked for, a prompt has 1 to 8";
            fails(cliptext_prompt_fill(prompt, 9), CLIPTEXT_PROMPT, message);
            fails(cliptext_prompt_describe(prompt, null_mut()), CLIPTEXT_NULL, "`info` is null");

            let none = cliptext_arrays {
                hidden: null_mut(),
                hidden_values: 0,
                pooled: null_mut(),
                pooled_values: 0,
            };
            let encode = |prompt, empty, count, arrays: *const cliptext_arrays| {
                cliptext_encode_prompt(encoder, prompt, empty, count, arrays)
            };
            let mut view = NOTHING;
            assert_eq!(cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, &mut view), CLIPTEXT_OK);
            let all = view.tokens * view.width;
            let mut hidden = vec![7.0f32; all];
            let arrays = cliptext_arrays { hidden: hidden.as_mut_ptr(), hidden_values: all, ..none };
            fails(encode(null_mut(), null(), 0, &arrays), CLIPTEXT_NULL, "`prompt` is null");
            fails(encode(prompt, null(), 5, &arrays), CLIPTEXT_NULL, "`empty` is null");
            fails(encode(prompt, null(), 0, null()), CLIPTEXT_NULL, "`arrays` is null");
            let short = cliptext_arrays { hidden_values: all - 1, ..arrays };
            let message = format!("`hidden` has place for {} values, there are {all}", all - 1);
            fails(encode(prompt, null(), 0, &short), CLIPTEXT_TOO_SMALL, &message);
            let inside = view.hidden.cast_mut();
            let in_arena = cliptext_arrays { hidden: inside, ..arrays };
            fails(encode(prompt, null(), 0, &in_arena), CLIPTEXT_ARGUMENT, "`hidden` and the arena overlap");
            fails(encode(prompt, inside, all, &arrays), CLIPTEXT_ARGUMENT, "`empty` and the arena overlap");
            let own = arrays.hidden.cast_const();
            fails(encode(prompt, own, all, &arrays), CLIPTEXT_ARGUMENT, "`empty` and `hidden` overlap");
            assert!(hidden.iter().all(|&value| value == 7.0), "nothing is written on an error");

            // Of a plan of another context.
            let other = open("tests/fixtures/long.plan", CLIPTEXT_READ);
            let mut memory = AlignedBytes::zeroed(CLIPTEXT_PROMPT_BYTES);
            let mut long = null_mut();
            let place = memory.as_mut_ptr().cast();
            let status = cliptext_prompt_read(other, dog.as_ptr(), CSTR, null(), place, room, &mut long);
            assert_eq!(status, CLIPTEXT_OK);
            cliptext_close(other);
            hidden.resize(248 * view.width, 7.0);
            let arrays = cliptext_arrays { hidden: hidden.as_mut_ptr(), hidden_values: hidden.len(), ..none };
            assert_eq!(encode(long, null(), 0, &arrays), CLIPTEXT_ARGUMENT, "{}", last_error());
            assert!(last_error().contains("248"), "{}", last_error());
        }
    });
}

#[test]
fn packs_that_do_not_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pack");
    let bytes = pack_bytes(false);
    let mut pack = null_mut();
    let mut refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let name = c(file.to_str().unwrap());
        // SAFETY: a C string and a place.
        let status = unsafe { cliptext_pack_open(name.as_ptr(), CLIPTEXT_READ, &mut pack) };
        assert!(pack.is_null());
        status
    };
    assert_eq!(refused(&bytes[..bytes.len() - 1]), CLIPTEXT_PACK);
    assert!(last_error().contains("cut short"), "{}", last_error());
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&damaged), CLIPTEXT_PACK);
    assert!(last_error().contains("damaged"), "{}", last_error());
    damaged.copy_from_slice(&bytes);
    damaged[8..12].copy_from_slice(&99u32.to_le_bytes());
    assert_eq!(refused(&damaged), CLIPTEXT_VERSION);
    assert!(last_error().contains("99"), "{}", last_error());
    // A plan is no pack, and a pack no plan.
    assert_eq!(refused(&std::fs::read(path(ONE_TOWER)).unwrap()), CLIPTEXT_PACK);
    std::fs::write(&file, &bytes).unwrap();
    let name = c(file.to_str().unwrap());
    // SAFETY: strings, places and arrays are here; what is not refused.
    unsafe {
        let mut plan = null_mut();
        assert_eq!(cliptext_open(name.as_ptr(), CLIPTEXT_READ, &mut plan), CLIPTEXT_PLAN);
        let mut pack = null_mut();
        assert_eq!(cliptext_pack_open(name.as_ptr(), CLIPTEXT_MAP, &mut pack), CLIPTEXT_OK);
        let mut index = 7;
        let mut find = |name: *const c_char, length| cliptext_pack_find(pack, name, length, &mut index);
        let message = "the pack has no entry called `cat` among its 2";
        fails(find(c"cat".as_ptr(), CSTR), CLIPTEXT_ENTRY, message);
        fails(find(null(), CSTR), CLIPTEXT_NULL, "`name` is null");
        fails(find(c"\xff".as_ptr(), CSTR), CLIPTEXT_UTF8, "`name` is not UTF-8: the fault is at byte 0");
        assert_eq!(index, 7);
        let mut entry = std::mem::MaybeUninit::uninit();
        let message = "entry 2 is asked for, the pack has 2 from 0";
        fails(cliptext_pack_entry_at(pack, 2, entry.as_mut_ptr()), CLIPTEXT_ENTRY, message);
        fails(cliptext_pack_entry_at(pack, 0, null_mut()), CLIPTEXT_NULL, "`entry` is null");
        fails(cliptext_pack_describe(pack, null_mut()), CLIPTEXT_NULL, "`info` is null");
        let mut hidden = [7.0f32; 6];
        let none =
            cliptext_arrays { hidden: null_mut(), hidden_values: 0, pooled: null_mut(), pooled_values: 0 };
        let arrays = cliptext_arrays { hidden: hidden.as_mut_ptr(), hidden_values: 3, ..none };
        let message = "`hidden` has place for 3 values, there are 4";
        fails(cliptext_pack_copy(pack, 0, &arrays), CLIPTEXT_TOO_SMALL, message);
        fails(cliptext_pack_copy(pack, 0, &none), CLIPTEXT_ARGUMENT, "`arrays` has no array to write to");
        fails(
            cliptext_pack_copy(pack, 2, &arrays),
            CLIPTEXT_ENTRY,
            "entry 2 is asked for, the pack has 2 from 0",
        );
        assert_eq!(hidden, [7.0; 6]);
        let message = "`pack` leads to no object of a pack, or to one that was closed";
        assert_eq!(cliptext_pack_close(null_mut()), CLIPTEXT_OK);
        let mut other = AlignedBytes::zeroed(64);
        fails(cliptext_pack_close(other.as_mut_ptr().cast()), CLIPTEXT_HANDLE, message);
        assert_eq!(cliptext_pack_close(pack), CLIPTEXT_OK);

        let bytes = AlignedBytes::copy_of(&bytes);
        let mut memory = AlignedBytes::zeroed(CLIPTEXT_PACK_BYTES);
        let (start, place) = (bytes.as_ptr(), memory.as_mut_ptr());
        let mut load = |start: *const u8, place: *mut u8, room| {
            cliptext_pack_load(start.cast(), bytes.len(), place.cast(), room, &mut pack)
        };
        let message = format!("`memory` has 8 bytes, the object of a pack needs {}", cliptext_pack_size());
        fails(load(start, place, 8), CLIPTEXT_TOO_SMALL, &message);
        let inside = start.cast_mut();
        let message = "`memory` and the pack's bytes overlap";
        fails(load(start, inside, CLIPTEXT_PACK_BYTES), CLIPTEXT_ARGUMENT, message);
        assert_eq!(load(start, place, CLIPTEXT_PACK_BYTES), CLIPTEXT_OK);
        let message = "`pack` was loaded from the caller's memory: there is nothing to close";
        fails(cliptext_pack_close(pack), CLIPTEXT_ARGUMENT, message);
        let inside = cliptext_arrays { hidden: start.cast_mut().cast(), hidden_values: 4, ..none };
        let message = "`hidden` and the pack's bytes overlap";
        fails(cliptext_pack_copy(pack, 0, &inside), CLIPTEXT_ARGUMENT, message);
    }
}

fn odd<T>() -> *mut T {
    without_provenance_mut(4097)
}

const ONE_TOWER: &str = "tests/fixtures/one-tower.plan";

/// A plan, an encoder for one text, and what is done with them.
fn with_encoder(sequences: usize, work: impl FnOnce(*mut cliptext_plan, *mut cliptext_encoder)) {
    let plan = open(ONE_TOWER, CLIPTEXT_READ);
    let encoder = encoder(plan, sequences);
    work(plan, encoder);
    // SAFETY: made above.
    unsafe {
        assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
        assert_eq!(cliptext_close(plan), CLIPTEXT_OK);
    }
}

#[test]
fn every_status_has_a_sentence() {
    let unknown = text(cliptext_error_text(20));
    assert_eq!(unknown, "no status of this library");
    for status in 0..=19 {
        assert_ne!(text(cliptext_error_text(status)), unknown, "{status}");
    }
    for status in [-1, i32::MIN, i32::MAX] {
        assert_eq!(text(cliptext_error_text(status)), unknown);
    }
}

#[test]
fn files_that_are_no_plans() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = null_mut();
    let mut refused = |path: &std::path::Path, flags| {
        let path = c(path.to_str().unwrap());
        // SAFETY: a C string and a place.
        let status = unsafe { cliptext_open(path.as_ptr(), flags, &mut plan) };
        assert!(plan.is_null());
        status
    };
    let missing = folder.path().join("none.plan");
    for flags in [CLIPTEXT_READ, CLIPTEXT_MAP] {
        let message = format!("{}: No such file or directory (os error 2)", missing.display());
        fails(refused(&missing, flags), CLIPTEXT_FILE, &message);
        let message = format!("{}: a folder, not a file", folder.path().display());
        fails(refused(folder.path(), flags), CLIPTEXT_FILE, &message);
        let other = folder.path().join("other.plan");
        std::fs::write(&other, [b'x'; 1000]).unwrap();
        let message = "this is not a cliptext plan (make one with `cliptext compile`)";
        fails(refused(&other, flags), CLIPTEXT_PLAN, message);
        let mut bytes = std::fs::read(path(ONE_TOWER)).unwrap();
        std::fs::write(&other, &bytes[..bytes.len() - 1]).unwrap();
        fails(refused(&other, flags), CLIPTEXT_PLAN, "the plan is cut short: copy or compile it again");
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        std::fs::write(&other, &bytes).unwrap();
        let message = format!(
            "the plan has format version {}, this build reads version {VERSION}: compile it again",
            VERSION + 1
        );
        fails(refused(&other, flags), CLIPTEXT_VERSION, &message);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&other, &bytes).unwrap();
        assert_eq!(refused(&other, flags), CLIPTEXT_PLAN);
        assert!(last_error().starts_with("the plan is damaged in the 64 KiB from byte "), "{}", last_error());
    }
    // An empty file can't be mapped everywhere; it is no plan in any case.
    let empty = folder.path().join("empty.plan");
    std::fs::write(&empty, []).unwrap();
    fails(refused(&empty, CLIPTEXT_READ), CLIPTEXT_PLAN, "the plan is cut short: copy or compile it again");
    assert_ne!(refused(&empty, CLIPTEXT_MAP), CLIPTEXT_OK);
    let message = "`flags` must be one of CLIPTEXT_READ and CLIPTEXT_MAP";
    fails(refused(&path(ONE_TOWER), 0), CLIPTEXT_ARGUMENT, message);
    fails(refused(&path(ONE_TOWER), CLIPTEXT_READ | CLIPTEXT_MAP), CLIPTEXT_ARGUMENT, message);
    fails(refused(&path(ONE_TOWER), 4), CLIPTEXT_ARGUMENT, "flag 0x4 is none of this function's");
    if cfg!(unix) {
        let message = "/dev/null: a pipe or a device can't be mapped: open it with CLIPTEXT_READ";
        fails(refused("/dev/null".as_ref(), CLIPTEXT_MAP), CLIPTEXT_FILE, message);
    }
    // SAFETY: pointers that are refused before they are used.
    unsafe {
        fails(cliptext_open(null(), CLIPTEXT_READ, &mut plan), CLIPTEXT_NULL, "`path` is null");
        let path = c("x");
        fails(cliptext_open(path.as_ptr(), CLIPTEXT_READ, null_mut()), CLIPTEXT_NULL, "`plan` is null");
        let message = "`plan` is not at a multiple of 8";
        fails(cliptext_open(path.as_ptr(), CLIPTEXT_READ, odd()), CLIPTEXT_MISALIGNED, message);
    }
}

/// A plan that was opened by reading needs its file no more, whatever becomes of that.
#[test]
fn a_plan_that_was_read_outlives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.plan");
    std::fs::copy(path(ONE_TOWER), &file).unwrap();
    let name = c(file.to_str().unwrap());
    let (mut plan, mut embedding) = (null_mut(), NOTHING);
    // SAFETY: strings and places are here.
    unsafe {
        assert_eq!(cliptext_open(name.as_ptr(), CLIPTEXT_READ, &mut plan), CLIPTEXT_OK);
        let encoder = encoder(plan, 1);
        std::fs::write(&file, []).unwrap();
        let dog = c("a dog");
        assert_eq!(cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, &mut embedding), CLIPTEXT_OK);
        cliptext_encoder_free(encoder);
        cliptext_close(plan);
    }
}

#[test]
fn bytes_and_memory_that_do_not_do() {
    let bytes = bytes(ONE_TOWER);
    let mut memory = AlignedBytes::zeroed(CLIPTEXT_PLAN_BYTES + 64);
    let (start, place, room) = (bytes.as_ptr(), memory.as_mut_ptr(), CLIPTEXT_PLAN_BYTES);
    let mut plan = null_mut();
    let mut load = |bytes: *const u8, length, memory: *mut u8, room| {
        // SAFETY: what is not refused is here.
        let status = unsafe { cliptext_plan_load(bytes.cast(), length, memory.cast(), room, &mut plan) };
        assert!(plan.is_null());
        status
    };
    let length = bytes.len();
    fails(load(null(), length, place, room), CLIPTEXT_NULL, "`bytes` is null");
    fails(load(start, length, null_mut(), room), CLIPTEXT_NULL, "`memory` is null");
    let message = "the plan's bytes do not start at a multiple of 64";
    // SAFETY: within the bytes.
    fails(load(unsafe { start.add(1) }, length - 1, place, room), CLIPTEXT_MISALIGNED, message);
    let message = "`memory` is not at a multiple of 8";
    // SAFETY: within the memory.
    fails(load(start, length, unsafe { place.add(4) }, room), CLIPTEXT_MISALIGNED, message);
    let message = format!("`memory` has 8 bytes, the object of a plan needs {}", cliptext_plan_size());
    fails(load(start, length, place, 8), CLIPTEXT_TOO_SMALL, &message);
    let message = format!("`bytes` has {} values: more than memory has from there on", usize::MAX);
    fails(load(start, usize::MAX, place, room), CLIPTEXT_ARGUMENT, &message);
    let message = format!("`memory` has {} values: more than memory has from there on", usize::MAX);
    fails(load(start, length, place, usize::MAX), CLIPTEXT_ARGUMENT, &message);
    let inside = start.cast_mut();
    fails(load(start, length, inside, room), CLIPTEXT_ARGUMENT, "`memory` and the plan's bytes overlap");
    // SAFETY: refused before it is used.
    let status = unsafe { cliptext_plan_load(start.cast(), length, place.cast(), room, null_mut()) };
    fails(status, CLIPTEXT_NULL, "`plan` is null");
}

#[test]
fn encoders_that_can_not_be_made() {
    let plan = open(ONE_TOWER, CLIPTEXT_READ);
    let mut needed = 0;
    // SAFETY: a place for it.
    unsafe { assert_eq!(cliptext_arena_bytes(plan, 1, &mut needed), CLIPTEXT_OK) };
    let mut own = AlignedBytes::zeroed(CLIPTEXT_ENCODER_BYTES);
    let mut memory = AlignedBytes::zeroed(needed);
    let (object, arena) = ((own.as_mut_ptr(), CLIPTEXT_ENCODER_BYTES), (memory.as_mut_ptr(), needed));
    let mut encoder = null_mut();
    let mut init =
        |plan: *const cliptext_plan, object: (*mut u8, usize), arena: (*mut u8, usize), options| {
            // SAFETY: what is not refused is here.
            let status = unsafe {
                let (memory, arena) = ((object.0.cast(), object.1), (arena.0.cast(), arena.1));
                cliptext_encoder_init(plan, memory.0, memory.1, arena.0, arena.1, options, &mut encoder)
            };
            assert!(encoder.is_null());
            status
        };
    let plain = cliptext_options { kernel: null(), threads: 0, team: null(), flags: 0 };
    fails(init(null(), object, arena, null()), CLIPTEXT_NULL, "`plan` is null");
    fails(init(odd(), object, arena, null()), CLIPTEXT_MISALIGNED, "`plan` is not at a multiple of 8");
    let message = "`plan` leads to no object of a plan, or to one that was closed";
    fails(init(object.0.cast(), object, arena, null()), CLIPTEXT_HANDLE, message);
    fails(init(plan, (null_mut(), 1), arena, null()), CLIPTEXT_NULL, "`memory` is null");
    fails(init(plan, object, (null_mut(), 1), null()), CLIPTEXT_NULL, "`arena` is null");
    let message = format!("`arena` has {} bytes, {needed} are needed", needed - 1);
    fails(init(plan, object, (arena.0, needed - 1), null()), CLIPTEXT_TOO_SMALL, &message);
    // SAFETY: within the arena.
    let shifted = (unsafe { arena.0.add(4) }, needed - 4);
    fails(init(plan, object, shifted, null()), CLIPTEXT_MISALIGNED, "`arena` is not at a multiple of 64");
    let message =
        format!("`memory` has 100 bytes, the object of an encoder needs {}", cliptext_encoder_size());
    fails(init(plan, (object.0, 100), arena, null()), CLIPTEXT_TOO_SMALL, &message);
    fails(init(plan, arena, arena, null()), CLIPTEXT_ARGUMENT, "`memory` and `arena` overlap");
    let options = cliptext_options { threads: 2, ..plain };
    let message = "`threads` is more than 1: only cliptext_encoder_new starts threads; here, give a `team`";
    fails(init(plan, object, arena, &options), CLIPTEXT_ARGUMENT, message);
    let options = cliptext_options { flags: 6, ..plain };
    fails(init(plan, object, arena, &options), CLIPTEXT_ARGUMENT, "flag 0x6 is none of this function's");
    let options = cliptext_options { flags: CLIPTEXT_ASSUME_KERNEL, ..plain };
    let message = "CLIPTEXT_ASSUME_KERNEL needs the kernel's name";
    fails(init(plan, object, arena, &options), CLIPTEXT_ARGUMENT, message);
    fails(init(plan, object, arena, odd()), CLIPTEXT_MISALIGNED, "`options` is not at a multiple of 8");
    let name = c("mmx");
    let options = cliptext_options { kernel: name.as_ptr(), ..plain };
    assert_eq!(init(plan, object, arena, &options), CLIPTEXT_KERNEL);
    let start = "kernel `mmx`: this build has no kernel of that name; there are ";
    assert!(last_error().starts_with(start) && last_error().ends_with("scalar"), "{}", last_error());
    let name: [c_char; 2] = [0xffu8 as c_char, 0];
    let options = cliptext_options { kernel: name.as_ptr(), ..plain };
    let message = "`kernel` is not UTF-8: the fault is at byte 0";
    fails(init(plan, object, arena, &options), CLIPTEXT_UTF8, message);

    unsafe extern "C" fn nothing(_: *mut c_void, _: usize, _: cliptext_task, _: *const c_void) {}
    let team = cliptext_team { context: null_mut(), workers: 1, run: None };
    let options = cliptext_options { team: &team, ..plain };
    fails(init(plan, object, arena, &options), CLIPTEXT_NULL, "`run` of the team is null");
    for workers in [0, CLIPTEXT_MAX_WORKERS + 1, usize::MAX] {
        let team = cliptext_team { workers, run: Some(nothing), ..team };
        let options = cliptext_options { team: &team, ..plain };
        let message = format!("`workers` of the team is {workers}: it has 1 to 1024");
        fails(init(plan, object, arena, &options), CLIPTEXT_ARGUMENT, &message);
    }
    let team = cliptext_team { run: Some(nothing), ..team };
    let options = cliptext_options { team: &team, threads: 2, ..plain };
    let message = "`threads` and `team` are both given: take one";
    fails(init(plan, object, arena, &options), CLIPTEXT_ARGUMENT, message);

    // On the heap.
    // SAFETY: what is not refused is here.
    unsafe {
        for sequences in [0, cliptext::MAX_SEQUENCES + 1, usize::MAX] {
            let message =
                format!("`sequences` is {sequences}: a pass takes 1 to {}", cliptext::MAX_SEQUENCES);
            let status = cliptext_encoder_new(plan, sequences, null(), &mut encoder);
            fails(status, CLIPTEXT_ARGUMENT, &message);
            fails(cliptext_arena_bytes(plan, sequences, &mut needed), CLIPTEXT_ARGUMENT, &message);
        }
        for rows in [0, 1, 2 * 77 + 1, usize::MAX] {
            let message = format!("`rows` is {rows}: 2 texts have 2 to 154");
            fails(cliptext_pass_bytes(plan, 2, rows, &mut needed), CLIPTEXT_ARGUMENT, &message);
        }
        let (mut short, mut padded) = (0, 0);
        assert_eq!(cliptext_pass_bytes(plan, 2, 20, &mut short), CLIPTEXT_OK);
        assert_eq!(cliptext_pass_bytes(plan, 2, 154, &mut padded), CLIPTEXT_OK);
        assert_eq!(cliptext_arena_bytes(plan, 2, &mut needed), CLIPTEXT_OK);
        assert!(short < padded && padded == needed, "{short}, {padded}, {needed}");
        let options = cliptext_options { threads: 1025, ..plain };
        let message = "`threads` is 1025: there are 1024 at the most, or CLIPTEXT_ALL_CORES";
        fails(cliptext_encoder_new(plan, 1, &options, &mut encoder), CLIPTEXT_ARGUMENT, message);
        fails(cliptext_encoder_new(plan, 1, null(), null_mut()), CLIPTEXT_NULL, "`encoder` is null");
        fails(cliptext_arena_bytes(plan, 1, null_mut()), CLIPTEXT_NULL, "`bytes` is null");
        assert!(encoder.is_null());
        cliptext_close(plan);
    }
}

/// A plan whose weights are packed for a CPU of a kind that this one is not.
#[test]
fn a_packing_that_this_cpu_does_not_read() {
    use cliptext::kernels::layout::Packing;
    use cliptext::{Kernels, PlanFile};
    let kernels = Kernels::available().next().expect("scalar at the least").name();
    let Some(other) =
        [Packing::Int8x16, Packing::Int8x8].into_iter().find(|&packing| Kernels::fastest(packing).is_err())
    else {
        panic!("kernel {kernels} is the fastest and reads every packing");
    };
    let bytes = AlignedBytes::copy_of(&packed(&PlanFile::read(&path(ONE_TOWER)).unwrap(), other));
    let mut memory = AlignedBytes::zeroed(CLIPTEXT_PLAN_BYTES);
    let (mut plan, mut encoder) = (null_mut(), null_mut());
    // SAFETY: bytes, memory and places are here.
    unsafe {
        let (start, place) = (bytes.as_ptr().cast(), memory.as_mut_ptr().cast());
        let status = cliptext_plan_load(start, bytes.len(), place, memory.len(), &mut plan);
        assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
        let message = Kernels::fastest(other).unwrap_err().to_string();
        assert!(message.contains("compile it with "), "{message}");
        fails(cliptext_encoder_new(plan, 1, null(), &mut encoder), CLIPTEXT_PACKING, &message);
        assert!(encoder.is_null());
    }
}

/// The plan with its weights said to be packed otherwise: they take as many bytes, but mean nothing.
fn packed(file: &cliptext::PlanFile, other: cliptext::kernels::layout::Packing) -> Vec<u8> {
    let mut parts = parts::Parts::of(file);
    parts.manifest.packing = other;
    for step in &mut parts.steps {
        if let cliptext::plan::Op::Linear { packing, .. } = &mut step.op {
            *packing = other;
        }
    }
    parts.bytes()
}

#[test]
fn texts_flags_and_places_that_do_not_do() {
    with_encoder(1, |plan, encoder| {
        let dog = c("a dog");
        let mut embedding = NOTHING;
        // SAFETY: what is not refused is here.
        unsafe {
            let mut encode = |text: *const c_char, length, flags| {
                let status = cliptext_encode(encoder, text, length, flags, &mut embedding);
                assert!(embedding.hidden.is_null());
                status
            };
            fails(encode(null(), 0, 0), CLIPTEXT_NULL, "`text` is null");
            fails(encode(null(), CSTR, 0), CLIPTEXT_NULL, "`text` is null");
            let message = format!("`text` has {} values: more than memory has from there on", CSTR - 1);
            fails(encode(dog.as_ptr(), CSTR - 1, 0), CLIPTEXT_ARGUMENT, &message);
            fails(encode(dog.as_ptr(), CSTR, 2), CLIPTEXT_ARGUMENT, "flag 0x2 is none of this function's");
            let message = "`text` is not UTF-8: the fault is at byte 2";
            fails(encode(c"a \xff".as_ptr(), CSTR, 0), CLIPTEXT_UTF8, message);
            fails(encode(b"a \xe6\x9d".as_ptr().cast(), 4, 0), CLIPTEXT_UTF8, message);
            let status = cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, null_mut());
            fails(status, CLIPTEXT_NULL, "`embedding` is null");
            let status = cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, odd());
            fails(status, CLIPTEXT_MISALIGNED, "`embedding` is not at a multiple of 8");
            let status = cliptext_encode(null_mut(), dog.as_ptr(), CSTR, 0, &mut embedding);
            fails(status, CLIPTEXT_NULL, "`encoder` is null");
            let status = cliptext_encode(plan.cast(), dog.as_ptr(), CSTR, 0, &mut embedding);
            let message = "`encoder` leads to no object of an encoder, or to one that was closed";
            fails(status, CLIPTEXT_HANDLE, message);

            let mut both = [NOTHING; 2];
            let mut pair = |one, other| {
                let status = cliptext_encode_pair(encoder, one, CSTR, other, CSTR, 0, both.as_mut_ptr());
                assert!(both[0].hidden.is_null());
                status
            };
            fails(pair(null(), dog.as_ptr()), CLIPTEXT_NULL, "`first` is null");
            fails(pair(dog.as_ptr(), null()), CLIPTEXT_NULL, "`second` is null");
            assert_eq!(pair(dog.as_ptr(), dog.as_ptr()), CLIPTEXT_TOO_SMALL);
            assert!(last_error().starts_with("the arena has "), "{}", last_error());

            let mut ids = |ids: *const u32, count| {
                let status = cliptext_encode_ids(encoder, ids, count, &mut embedding);
                assert!(embedding.hidden.is_null());
                status
            };
            let good = [49406u32; 78];
            fails(ids(null(), 1), CLIPTEXT_NULL, "`ids` is null");
            fails(ids(without_provenance(4098), 1), CLIPTEXT_MISALIGNED, "`ids` is not at a multiple of 4");
            let message = "0 token ids were given, the plan takes 1 to 77";
            fails(ids(good.as_ptr(), 0), CLIPTEXT_IDS, message);
            let message = "78 token ids were given, the plan takes 1 to 77";
            fails(ids(good.as_ptr(), 78), CLIPTEXT_IDS, message);
            let half = usize::MAX / 2;
            let message = format!("`ids` has {half} values: more than memory has from there on");
            fails(ids(good.as_ptr(), half), CLIPTEXT_ARGUMENT, &message);
            let message = "token id 49408 is not below 49408, the rows of the embedding table";
            fails(ids([49406, 49408].as_ptr(), 2), CLIPTEXT_IDS, message);

            let (mut few, mut count) = ([7u32; 76], 0);
            let tokens =
                |text, ids, room, count| cliptext_tokenize(plan, text, CSTR, 0, ids, room, count, null_mut());
            let status = tokens(dog.as_ptr(), few.as_mut_ptr(), 76, &mut count);
            fails(status, CLIPTEXT_TOO_SMALL, "`ids` has place for 76 values, there are 77");
            assert!(count == 77 && few == [7; 76]);
            let status = tokens(dog.as_ptr(), null_mut(), 5, &mut count);
            fails(status, CLIPTEXT_NULL, "`ids` is null, but 5 values are to be there");
            fails(tokens(null(), null_mut(), 0, &mut count), CLIPTEXT_NULL, "`text` is null");
            fails(tokens(dog.as_ptr(), null_mut(), 0, null_mut()), CLIPTEXT_NULL, "`count` is null");
            let status = tokens(dog.as_ptr(), odd(), 77, &mut count);
            fails(status, CLIPTEXT_MISALIGNED, "`ids` is not at a multiple of 4");
            fails(cliptext_plan_describe(plan, null_mut()), CLIPTEXT_NULL, "`info` is null");
            fails(cliptext_encoder_describe(encoder, null_mut()), CLIPTEXT_NULL, "`info` is null");
        }
    });
}

#[test]
fn batches_that_do_not_do() {
    with_encoder(1, |_, encoder| {
        let dog = c("a dog");
        let texts = [cliptext_text { text: dog.as_ptr(), length: CSTR }; 2];
        let mut hidden = vec![7.0f32; 2 * 77 * 64];
        let mut view = NOTHING;
        // SAFETY: what is not refused is here.
        unsafe {
            assert_eq!(cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, &mut view), CLIPTEXT_OK);
            let all = 2 * view.tokens * view.width;
            hidden.resize(all, 7.0);
            let none = cliptext_arrays {
                hidden: null_mut(),
                hidden_values: 0,
                pooled: null_mut(),
                pooled_values: 0,
            };
            let arrays = cliptext_arrays { hidden: hidden.as_mut_ptr(), hidden_values: all, ..none };
            let batch = |texts: &[cliptext_text], count, arrays: *const cliptext_arrays| {
                cliptext_encode_batch(encoder, texts.as_ptr(), count, 0, arrays, null_mut())
            };
            fails(batch(&texts, 0, &arrays), CLIPTEXT_ARGUMENT, "`count` is 0: there is no text to encode");
            fails(batch(&texts, 2, null()), CLIPTEXT_NULL, "`arrays` is null");
            fails(batch(&texts, 2, &none), CLIPTEXT_ARGUMENT, "`arrays` has no array to write to");
            let short = cliptext_arrays { hidden_values: all - 1, ..arrays };
            let message = format!("`hidden` has place for {} values, there are {all}", all - 1);
            fails(batch(&texts, 2, &short), CLIPTEXT_TOO_SMALL, &message);
            let missing = cliptext_arrays { hidden: null_mut(), hidden_values: 5, ..none };
            let message = "`hidden` is null, but 5 values are to be there";
            fails(batch(&texts, 2, &missing), CLIPTEXT_NULL, message);
            let in_arena = cliptext_arrays { hidden: view.hidden.cast_mut(), hidden_values: all, ..none };
            fails(batch(&texts, 2, &in_arena), CLIPTEXT_ARGUMENT, "`hidden` and the arena overlap");
            let twice = cliptext_arrays { pooled: arrays.hidden, pooled_values: 5, ..arrays };
            fails(batch(&texts, 2, &twice), CLIPTEXT_ARGUMENT, "`hidden` and `pooled` overlap");
            let many = cliptext_arrays { hidden_values: usize::MAX / 2, ..arrays };
            let message =
                format!("`hidden` has {} values: more than memory has from there on", usize::MAX / 2);
            fails(batch(&texts, 2, &many), CLIPTEXT_ARGUMENT, &message);
            let wrong = [texts[0], cliptext_text { text: b"\xff".as_ptr().cast(), length: 1 }];
            fails(batch(&wrong, 2, &arrays), CLIPTEXT_UTF8, "`text` is not UTF-8: the fault is at byte 0");
            assert!(hidden.iter().all(|&value| value == 7.0), "nothing is written on an error");
            if view.pooled.is_null() {
                let mut row = [0.0; 8];
                let pooled = cliptext_arrays { pooled: row.as_mut_ptr(), pooled_values: 8, ..none };
                let message = "`pooled` is given, but the plan has no pooled output";
                fails(batch(&texts, 2, &pooled), CLIPTEXT_ARGUMENT, message);
            }
        }
    });
}

#[test]
fn objects_that_are_closed_and_busy_ones() {
    let bytes = bytes(ONE_TOWER);
    let mut memory = AlignedBytes::zeroed(CLIPTEXT_PLAN_BYTES);
    let (mut plan, mut embedding, mut encoder, mut needed) =
        (null_mut(), NOTHING, null_mut::<cliptext_encoder>(), 0);
    let dog = c("a dog");
    // SAFETY: all of it is here.
    unsafe {
        let (start, place) = (bytes.as_ptr().cast(), memory.as_mut_ptr().cast());
        assert_eq!(cliptext_plan_load(start, bytes.len(), place, memory.len(), &mut plan), CLIPTEXT_OK);
        let message = "`plan` was loaded from the caller's memory: there is nothing to close";
        fails(cliptext_close(plan), CLIPTEXT_ARGUMENT, message);
        assert_eq!(cliptext_close(null_mut()), CLIPTEXT_OK);
        assert_eq!(cliptext_encoder_free(null_mut()), CLIPTEXT_OK);

        // In the caller's memory an encoder that was ended is told.
        assert_eq!(cliptext_arena_bytes(plan, 1, &mut needed), CLIPTEXT_OK);
        let mut own = AlignedBytes::zeroed(CLIPTEXT_ENCODER_BYTES);
        let mut arena = AlignedBytes::zeroed(needed);
        let init = |team: *const cliptext_team, own: &mut AlignedBytes, arena: &mut AlignedBytes| {
            let options = cliptext_options { kernel: null(), threads: 1, team, flags: 0 };
            let mut encoder = null_mut();
            let (memory, room) = (own.as_mut_ptr().cast(), own.len());
            let (start, length) = (arena.as_mut_ptr().cast(), arena.len());
            let status = cliptext_encoder_init(plan, memory, room, start, length, &options, &mut encoder);
            assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
            encoder
        };
        let ended = init(null(), &mut own, &mut arena);
        assert_eq!(cliptext_encoder_free(ended), CLIPTEXT_OK);
        let message = "`encoder` leads to no object of an encoder, or to one that was closed";
        fails(cliptext_encode(ended, dog.as_ptr(), CSTR, 0, &mut embedding), CLIPTEXT_HANDLE, message);
        fails(cliptext_encoder_free(ended), CLIPTEXT_HANDLE, message);

        // A call from within a pass: what a second thread would see.
        unsafe extern "C" fn again(
            context: *mut c_void,
            tasks: usize,
            task: cliptext_task,
            argument: *const c_void,
        ) {
            // SAFETY: what the test gave; each task once.
            unsafe {
                let encoder = *context.cast::<*mut cliptext_encoder>();
                let mut embedding = NOTHING;
                let status = cliptext_encode(encoder, c"x".as_ptr(), CSTR, 0, &mut embedding);
                fails(status, CLIPTEXT_BUSY, "`encoder` is at work for another thread");
                assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_BUSY);
                (0..tasks).for_each(|number| task(argument, 0, number));
            }
        }
        let context = (&raw mut encoder).cast();
        let team = cliptext_team { context, workers: 1, run: Some(again) };
        encoder = init(&team, &mut own, &mut arena);
        assert_eq!(cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, &mut embedding), CLIPTEXT_OK);
        assert!(!embedding.hidden.is_null());

        // A team that does not do its work.
        unsafe extern "C" fn lazy(_: *mut c_void, tasks: usize, task: cliptext_task, job: *const c_void) {
            // SAFETY: each task once, but for the last, which goes to a worker that there is not.
            unsafe {
                (0..tasks - 1).for_each(|number| task(job, 0, number));
                task(job, 1, tasks - 1);
                task(job, 0, tasks);
                task(null(), 0, 0);
            }
        }
        let team = cliptext_team { context: null_mut(), workers: 1, run: Some(lazy) };
        let encoder = init(&team, &mut own, &mut arena);
        let mut nothing = NOTHING;
        let status = cliptext_encode(encoder, dog.as_ptr(), CSTR, 0, &mut nothing);
        let message = "`run` of the team did not do each task once, or by a worker that there is not";
        fails(status, CLIPTEXT_TEAM, message);
        assert!(nothing.hidden.is_null());
    }
}

/// What a pass that was not done has left in the arena is not kept for the next, where a plan keeps rows.
#[test]
fn a_pass_that_failed_leaves_nothing_behind() {
    use std::sync::atomic::{AtomicBool, Ordering};

    unsafe extern "C" fn run(context: *mut c_void, tasks: usize, task: cliptext_task, job: *const c_void) {
        // SAFETY: what the test gave.
        let lazy = unsafe { &*context.cast::<AtomicBool>() }.load(Ordering::Relaxed);
        let done = if lazy { tasks / 2 } else { tasks };
        // SAFETY: each task once, or not at all.
        (0..done).for_each(|number| unsafe { task(job, 0, number) });
    }
    let plan = open("tests/fixtures/typing.plan", CLIPTEXT_READ);
    let lazy = AtomicBool::new(false);
    let team = cliptext_team { context: (&raw const lazy).cast_mut().cast(), workers: 1, run: Some(run) };
    let options = cliptext_options { kernel: null(), threads: 0, team: &team, flags: 0 };
    let (mut typed, fresh) = (null_mut(), encoder(plan, 1));
    // SAFETY: all of it is here.
    unsafe {
        assert_eq!(cliptext_encoder_new(plan, 1, &options, &mut typed), CLIPTEXT_OK, "{}", last_error());
        let encode = |encoder, text: &std::ffi::CStr| {
            let mut embedding = NOTHING;
            let status = cliptext_encode(encoder, text.as_ptr(), CSTR, 0, &mut embedding);
            (status, embedding)
        };
        let (_, first) = encode(fresh, c"a b c d");
        let expected = bits(&first);
        assert_eq!((encode(typed, c"a b").0, encode(typed, c"a b c").1.kept), (CLIPTEXT_OK, 3));
        lazy.store(true, Ordering::Relaxed);
        assert_eq!(encode(typed, c"a b c d").0, CLIPTEXT_TEAM);
        lazy.store(false, Ordering::Relaxed);
        let (status, again) = encode(typed, c"a b c d");
        assert_eq!((status, again.kept), (CLIPTEXT_OK, 0), "{}", last_error());
        assert!(bits(&again) == expected);
        cliptext_encoder_free(typed);
        cliptext_encoder_free(fresh);
        cliptext_close(plan);
    }
}

/// Each thread has a text of its own.
#[test]
fn errors_are_told_to_the_thread_that_made_them() {
    // SAFETY: refused.
    let status = unsafe { cliptext_plan_describe(null(), null_mut()) };
    fails(status, CLIPTEXT_NULL, "`info` is null");
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    assert_eq!(last_error(), "`info` is null");
}
