//! Through C's functions comes what the library computes, bit for bit.

mod common;

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

use cliptext::{AlignedBytes, Encoder, Plan};
use cliptext_ffi::cliptext_status::*;
use cliptext_ffi::*;
use common::*;

const PLANS: [&str; 3] =
    ["tests/fixtures/one-tower.plan", "tests/fixtures/two-towers.plan", "tests/fixtures/long.plan"];
const TEXTS: [&str; 4] = ["", "a running dog", "naïve café, 東京", "ab <|endoftext|> c"];

fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Hidden states and pooled row of each text, by the library itself.
fn expected(name: &str, unpadded: bool) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bytes = bytes(name);
    let plan = Plan::load(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let encoded = TEXTS.map(|text| {
        let embedding = if unpadded { encoder.encode_unpadded(text) } else { encoder.encode(text) };
        (to_bits(embedding.hidden()), to_bits(embedding.pooled().unwrap_or(&[])))
    });
    encoded.into()
}

unsafe fn each_alone(encoder: *mut cliptext_encoder, flags: u32) -> Vec<(Vec<u32>, Vec<u32>)> {
    let encoded = TEXTS.map(|text| {
        let mut embedding = NOTHING;
        // SAFETY: all of it is here.
        let status =
            unsafe { cliptext_encode(encoder, text.as_ptr().cast(), text.len(), flags, &mut embedding) };
        assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
        (bits(&embedding), pooled(&embedding))
    });
    encoded.into()
}

#[test]
fn mapped_read_and_in_memory_plans_give_the_library_s_bytes() {
    for name in PLANS {
        let bytes = bytes(name);
        let mut memory = AlignedBytes::zeroed(CLIPTEXT_PLAN_BYTES);
        let mut in_memory = null_mut();
        // SAFETY: bytes, memory and places are here.
        unsafe {
            let status = cliptext_plan_load(
                bytes.as_ptr().cast(),
                bytes.len(),
                memory.as_mut_ptr().cast(),
                memory.len(),
                &mut in_memory,
            );
            assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
            for plan in [open(name, CLIPTEXT_MAP), open(name, CLIPTEXT_READ), in_memory] {
                let mut needed = 0;
                assert_eq!(cliptext_arena_bytes(plan, 2, &mut needed), CLIPTEXT_OK);
                // On the heap, and in memory that is not zero.
                let mut own = AlignedBytes::zeroed(cliptext_encoder_size());
                let mut arena = AlignedBytes::zeroed(needed);
                arena.fill(0xff);
                own.fill(0xff);
                let mut placed = null_mut();
                let status = cliptext_encoder_init(
                    plan,
                    own.as_mut_ptr().cast(),
                    own.len(),
                    arena.as_mut_ptr().cast(),
                    arena.len(),
                    null(),
                    &mut placed,
                );
                assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
                for encoder in [encoder(plan, 2), placed] {
                    for flags in [0, CLIPTEXT_UNPADDED] {
                        assert!(each_alone(encoder, flags) == expected(name, flags != 0), "{name}");
                    }
                    assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
                }
                if plan != in_memory {
                    assert_eq!(cliptext_close(plan), CLIPTEXT_OK);
                }
            }
        }
    }
}

#[test]
fn pairs_and_batches_give_what_each_text_gives_alone() {
    for name in PLANS {
        let plan = open(name, CLIPTEXT_READ);
        for (flags, sequences) in [(0, 1), (0, 2), (CLIPTEXT_UNPADDED, 1), (CLIPTEXT_UNPADDED, 2)] {
            let encoder = encoder(plan, sequences);
            let expected = expected(name, flags != 0);
            // SAFETY: texts, places and arrays are here.
            unsafe {
                if sequences == 2 {
                    let mut both = [NOTHING; 2];
                    let [one, other] = [TEXTS[1], TEXTS[2]].map(c);
                    let status = cliptext_encode_pair(
                        encoder,
                        one.as_ptr(),
                        CSTR,
                        other.as_ptr(),
                        TEXTS[2].len(),
                        flags,
                        both.as_mut_ptr(),
                    );
                    assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
                    for (embedding, expected) in both.iter().zip(&expected[1..]) {
                        assert!((bits(embedding), pooled(embedding)) == *expected, "{name}");
                    }
                }
                let texts =
                    TEXTS.map(|text| cliptext_text { text: text.as_ptr().cast(), length: text.len() });
                let mut hidden = vec![-1.0f32; expected.iter().map(|(hidden, _)| hidden.len()).sum()];
                let mut rows = vec![-1.0f32; expected.iter().map(|(_, pooled)| pooled.len()).sum()];
                let arrays = cliptext_arrays {
                    hidden: hidden.as_mut_ptr(),
                    hidden_values: hidden.len(),
                    pooled: if rows.is_empty() { null_mut() } else { rows.as_mut_ptr() },
                    pooled_values: rows.len(),
                };
                let mut cut = usize::MAX;
                let status =
                    cliptext_encode_batch(encoder, texts.as_ptr(), texts.len(), flags, &arrays, &mut cut);
                assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
                assert_eq!(cut, 0);
                let one_by_one: Vec<u32> = expected.iter().flat_map(|(hidden, _)| hidden.clone()).collect();
                assert!(to_bits(&hidden) == one_by_one, "{name}");
                let one_by_one: Vec<u32> = expected.iter().flat_map(|(_, pooled)| pooled.clone()).collect();
                assert!(to_bits(&rows) == one_by_one, "{name}");
                cliptext_encoder_free(encoder);
            }
        }
        // SAFETY: opened above.
        unsafe { cliptext_close(plan) };
    }
}

#[test]
fn ids_of_the_tokenizer_encode_as_their_text() {
    let plan = open("tests/fixtures/one-tower.plan", CLIPTEXT_READ);
    let encoder = encoder(plan, 1);
    let (mut ids, mut count, mut cut) = ([0; 77], 0, true);
    let text = c("a running dog");
    // SAFETY: text, ids and places are here.
    unsafe {
        // Counted only.
        let unpadded = CLIPTEXT_UNPADDED;
        let status =
            cliptext_tokenize(plan, text.as_ptr(), CSTR, unpadded, null_mut(), 0, &mut count, &mut cut);
        assert_eq!((status, count, cut), (CLIPTEXT_OK, 5, false));
        let status = cliptext_tokenize(
            plan,
            text.as_ptr(),
            CSTR,
            unpadded,
            ids.as_mut_ptr(),
            5,
            &mut count,
            null_mut(),
        );
        assert_eq!((status, &ids[..count]), (CLIPTEXT_OK, &[49406, 320, 2761, 1929, 49407][..]));
        let mut embedding = NOTHING;
        assert_eq!(cliptext_encode_ids(encoder, ids.as_ptr(), count, &mut embedding), CLIPTEXT_OK);
        assert_eq!(std::slice::from_raw_parts(embedding.ids, embedding.tokens), &ids[..count]);
        assert!(bits(&embedding) == expected("tests/fixtures/one-tower.plan", true)[1].0);
        let status =
            cliptext_tokenize(plan, text.as_ptr(), CSTR, 0, ids.as_mut_ptr(), 77, &mut count, &mut cut);
        assert_eq!((status, count, ids[76]), (CLIPTEXT_OK, 77, 49407));
        // Too long: cut, and said.
        let long = "dog ".repeat(100);
        let status = cliptext_encode(encoder, long.as_ptr().cast(), long.len(), 0, &mut embedding);
        assert!(status == CLIPTEXT_OK && embedding.truncated);
        cliptext_encoder_free(encoder);
        cliptext_close(plan);
    }
}

/// A prompt of three chunks and its negative, filled up: what the library gives, with an arena for one chunk and for three.
#[test]
fn prompts_of_several_chunks_give_the_library_s_bytes() {
    use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
    let weightings = [Weighting::None, Weighting::A1111, Weighting::Comfy];
    for (name, weighting) in PLANS.into_iter().flat_map(|name| weightings.map(|weighting| (name, weighting)))
    {
        let file = bytes(name);
        let plan = Plan::load(&file).unwrap();
        let text = "a (b) c ".repeat(if plan.context() == 77 { 50 } else { 90 });
        let options = Options { weighting, chunks: Chunks::Auto, comma: 20 };
        let mut prompts = [Prompt::new(), Prompt::new()];
        prompts[0].read(plan.tokenizer(), &text, options).unwrap();
        prompts[1].read(plan.tokenizer(), "blurry", options).unwrap();
        let chunks = prompts[0].chunks();
        assert!(chunks > 1, "{chunks}");
        prompts[1].fill(chunks).unwrap();
        let columns = plan.manifest().pooled.map_or(0, |place| place.columns as usize);
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut own = Encoder::new(&plan, &mut arena).unwrap();
        let opened = open(name, CLIPTEXT_READ);
        for (text, prompt) in [text.as_str(), "blurry"].into_iter().zip(&prompts) {
            let mut hidden = vec![0.0; chunks * plan.context() * plan.width()];
            let mut pooled = vec![0.0; columns];
            let row = (columns > 0).then_some(&mut pooled[..]);
            own.encode_prompt(prompt, None, &mut hidden, row).unwrap();
            for sequences in [1, 3] {
                let encoder = encoder(opened, sequences);
                let mut memory = AlignedBytes::zeroed(cliptext_prompt_size());
                let (mut read, mut info) = (null_mut(), std::mem::MaybeUninit::uninit());
                let weights = c(&weighting.to_string());
                let options = cliptext_prompt_options {
                    weights: weights.as_ptr(),
                    chunks: CLIPTEXT_AUTO_CHUNKS,
                    comma: 20,
                };
                let (mut states, mut row) = (vec![-1.0f32; hidden.len()], vec![-1.0f32; columns]);
                // SAFETY: all of it is here.
                let info: cliptext_prompt_info = unsafe {
                    let (start, place) = (text.as_ptr().cast(), memory.as_mut_ptr().cast());
                    let room = memory.len();
                    let status =
                        cliptext_prompt_read(opened, start, text.len(), &options, place, room, &mut read);
                    assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
                    assert_eq!(cliptext_prompt_fill(read, chunks), CLIPTEXT_OK, "{}", last_error());
                    assert_eq!(cliptext_prompt_describe(read, info.as_mut_ptr()), CLIPTEXT_OK);
                    let arrays = cliptext_arrays {
                        hidden: states.as_mut_ptr(),
                        hidden_values: states.len(),
                        pooled: if columns > 0 { row.as_mut_ptr() } else { null_mut() },
                        pooled_values: columns,
                    };
                    let status = cliptext_encode_prompt(encoder, read, null(), 0, &arrays);
                    assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
                    assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
                    info.assume_init()
                };
                assert!(to_bits(&states) == to_bits(&hidden), "{name}, {sequences}");
                assert_eq!(to_bits(&row), to_bits(&pooled));
                assert_eq!((info.chunks, info.max_chunks), (chunks, Prompt::max_chunks(plan.context())));
                assert_eq!((info.dropped_start, info.dropped_end), (0, 0));
                assert_eq!(info.weighted, prompt.is_weighted());
            }
        }
        // SAFETY: opened above.
        unsafe { cliptext_close(opened) };
    }
}

/// In one chunk what does not fit falls off, and is told.
#[test]
fn what_falls_off_a_prompt_is_told() {
    let plan = open("tests/fixtures/one-tower.plan", CLIPTEXT_READ);
    let text = "dog ".repeat(76);
    let mut memory = AlignedBytes::zeroed(CLIPTEXT_PROMPT_BYTES);
    let (mut prompt, mut info) = (null_mut(), std::mem::MaybeUninit::uninit());
    // SAFETY: all of it is here.
    let info: cliptext_prompt_info = unsafe {
        let (start, place, room) = (text.as_ptr().cast(), memory.as_mut_ptr().cast(), memory.len());
        let status = cliptext_prompt_read(plan, start, text.len(), null(), place, room, &mut prompt);
        assert_eq!(status, CLIPTEXT_OK, "{}", last_error());
        assert_eq!(cliptext_prompt_describe(prompt, info.as_mut_ptr()), CLIPTEXT_OK);
        cliptext_close(plan);
        info.assume_init()
    };
    assert_eq!((info.chunks, &text[info.dropped_start..info.dropped_end]), (1, "dog"));
}

#[test]
fn packs_give_what_was_written() {
    let (dog, row) = ([0.5, 1.5, -2.5, 3.0], [1.0f32, 2.0, 4.0]);
    for half in [false, true] {
        let bytes = AlignedBytes::copy_of(&pack_bytes(half));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pack");
        std::fs::write(&file, &*bytes).unwrap();
        let name = c(file.to_str().unwrap());
        let mut memory = AlignedBytes::zeroed(cliptext_pack_size());
        let mut packs = [null_mut(); 3];
        // SAFETY: all of it is here, until the packs are closed.
        unsafe {
            let (start, place, room) = (bytes.as_ptr().cast(), memory.as_mut_ptr().cast(), memory.len());
            assert_eq!(cliptext_pack_load(start, bytes.len(), place, room, &mut packs[0]), CLIPTEXT_OK);
            assert_eq!(cliptext_pack_open(name.as_ptr(), CLIPTEXT_READ, &mut packs[1]), CLIPTEXT_OK);
            assert_eq!(cliptext_pack_open(name.as_ptr(), CLIPTEXT_MAP, &mut packs[2]), CLIPTEXT_OK);
            for pack in packs {
                let mut info = std::mem::MaybeUninit::<cliptext_pack_info>::uninit();
                assert_eq!(cliptext_pack_describe(pack, info.as_mut_ptr()), CLIPTEXT_OK);
                let info = info.assume_init();
                assert_eq!((info.entries, info.width, info.pooled_columns, info.half), (2, 2, 3, half));
                assert_eq!(text(info.plan_hash.as_ptr()), "07".repeat(32));
                assert_eq!(text(info.source.as_ptr()), "a model");
                assert_eq!(text(info.producer.as_ptr()), "a test");
                let mut index = 9;
                assert_eq!(cliptext_pack_find(pack, c"empty".as_ptr(), CSTR, &mut index), CLIPTEXT_OK);
                assert_eq!(index, 1);
                assert_eq!(cliptext_pack_find(pack, c"doggy".as_ptr(), 3, &mut index), CLIPTEXT_OK);
                assert_eq!(index, 0);
                let mut entry = std::mem::MaybeUninit::<cliptext_pack_entry>::uninit();
                assert_eq!(cliptext_pack_entry_at(pack, index, entry.as_mut_ptr()), CLIPTEXT_OK);
                let entry = entry.assume_init();
                let bytes =
                    |start: *const c_char, length| std::slice::from_raw_parts(start.cast::<u8>(), length);
                assert_eq!(bytes(entry.name, entry.name_length), b"dog");
                assert_eq!(bytes(entry.prompt, entry.prompt_length), b"a dog");
                assert_eq!(bytes(entry.options, entry.options_length), b"weights none");
                assert_eq!((entry.dropped_start, entry.dropped_end, entry.tokens), (2, 5, 2));
                assert_eq!(std::slice::from_raw_parts(entry.ids, 2), [1, 2]);
                if half {
                    assert!(entry.hidden.is_null() && entry.pooled.is_null());
                    // 0.5 and 1.5 in binary16; 1.0.
                    assert_eq!(std::slice::from_raw_parts(entry.hidden_half, 2), [0x3800, 0x3e00]);
                    assert_eq!(*entry.pooled_half, 0x3c00);
                } else {
                    assert!(entry.hidden_half.is_null() && entry.pooled_half.is_null());
                    assert_eq!(std::slice::from_raw_parts(entry.hidden, 4), dog);
                    assert_eq!(std::slice::from_raw_parts(entry.pooled, 3), row);
                }
                let (mut hidden, mut pooled) = ([9.0; 5], [9.0; 4]);
                let arrays = cliptext_arrays {
                    hidden: hidden.as_mut_ptr(),
                    hidden_values: 5,
                    pooled: pooled.as_mut_ptr(),
                    pooled_values: 4,
                };
                assert_eq!(cliptext_pack_copy(pack, 0, &arrays), CLIPTEXT_OK);
                assert_eq!(
                    (&hidden[..4], &pooled[..3], hidden[4], pooled[3]),
                    (&dog[..], &row[..], 9.0, 9.0)
                );
            }
            assert_eq!(cliptext_pack_close(packs[1]), CLIPTEXT_OK);
            assert_eq!(cliptext_pack_close(packs[2]), CLIPTEXT_OK);
        }
    }
}

#[test]
fn a_plan_tells_what_it_is() {
    let plan = open("tests/fixtures/two-towers.plan", CLIPTEXT_READ);
    let bytes = bytes("tests/fixtures/two-towers.plan");
    let own = Plan::load(&bytes).unwrap();
    let mut info = std::mem::MaybeUninit::uninit();
    // SAFETY: a place for it, written where the call succeeds.
    let info: cliptext_plan_info = unsafe {
        assert_eq!(cliptext_plan_describe(plan, info.as_mut_ptr()), CLIPTEXT_OK);
        info.assume_init()
    };
    assert_eq!((info.context, info.width, info.max_sequences), (77, own.width(), cliptext::MAX_SEQUENCES));
    assert_eq!(info.pooled_columns, own.manifest().pooled.map_or(0, |place| place.columns as usize));
    assert_eq!((info.arena_bytes, info.file_bytes), (own.arena_bytes(1), bytes.len() as u64));
    assert_eq!((info.token_rows, info.projected, info.causal), (600, own.is_projected(), own.is_causal()));
    assert_eq!(info.keeps_rows, own.keeps_rows());
    assert_eq!(text(info.hash.as_ptr()), own.hash().to_string());
    assert_eq!(text(info.source.as_ptr()), own.manifest().source);
    assert_eq!(text(info.producer.as_ptr()), own.manifest().producer);
    assert_eq!(text(info.packing.as_ptr()), own.manifest().packing.name());
    assert_eq!(text(cliptext_version()), env!("CARGO_PKG_VERSION"));
    // SAFETY: opened above.
    unsafe { cliptext_close(plan) };
}

/// Every kernel, threads, and a team of the caller's.
#[test]
fn kernels_threads_and_teams_change_nothing() {
    /// Worker 1 does the even tasks, in a thread of its own.
    unsafe extern "C" fn run(
        context: *mut c_void,
        tasks: usize,
        task: cliptext_task,
        argument: *const c_void,
    ) {
        // SAFETY: what the test gave.
        unsafe { &*context.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
        let address = argument.addr();
        std::thread::scope(|scope| {
            let all = |worker: usize, argument: *const c_void| {
                for number in (1 - worker..tasks).step_by(2) {
                    // SAFETY: each number once, before `run` returns.
                    unsafe { task(argument, worker, number) };
                }
            };
            scope.spawn(move || all(1, std::ptr::with_exposed_provenance(address)));
            argument.expose_provenance();
            all(0, argument);
        });
    }
    let plan = open("tests/fixtures/one-tower.plan", CLIPTEXT_READ);
    let expected = expected("tests/fixtures/one-tower.plan", false);
    let jobs = AtomicUsize::new(0);
    let team = cliptext_team { context: (&raw const jobs).cast_mut().cast(), workers: 2, run: Some(run) };
    let plain = cliptext_options { kernel: null(), threads: 0, team: null(), flags: 0 };
    let names: Vec<_> = cliptext::Kernels::available().map(|kernels| c(kernels.name())).collect();
    let mut wanted = vec![
        (plain, 1),
        (cliptext_options { threads: 3, ..plain }, 3),
        (cliptext_options { threads: CLIPTEXT_ALL_CORES, ..plain }, cliptext::threads::default_threads()),
        (cliptext_options { team: &team, ..plain }, 2),
    ];
    let packing = Plan::load(&bytes("tests/fixtures/one-tower.plan")).unwrap().manifest().packing;
    for name in
        names.iter().filter(|name| cliptext::Kernels::named(name.to_str().unwrap()).unwrap().reads(packing))
    {
        wanted.push((cliptext_options { kernel: name.as_ptr(), ..plain }, 1));
    }
    for (options, workers) in wanted {
        let mut encoder = null_mut();
        // SAFETY: plan, options and place are here.
        unsafe {
            assert_eq!(
                cliptext_encoder_new(plan, 1, &options, &mut encoder),
                CLIPTEXT_OK,
                "{}",
                last_error()
            );
            let mut info = std::mem::MaybeUninit::<cliptext_encoder_info>::uninit();
            assert_eq!(cliptext_encoder_describe(encoder, info.as_mut_ptr()), CLIPTEXT_OK);
            let info = info.assume_init();
            assert_eq!((info.sequences, info.workers), (1, workers));
            if !options.kernel.is_null() {
                assert_eq!(text(info.kernel.as_ptr()), text(options.kernel));
            }
            assert!(each_alone(encoder, 0) == expected, "{}", text(info.kernel.as_ptr()));
            assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
        }
    }
    let jobs = jobs.into_inner();
    assert!(jobs > 10, "{jobs}");
    // SAFETY: opened above.
    unsafe { cliptext_close(plan) };
}

#[test]
fn several_encoders_of_one_plan_work_side_by_side() {
    let plan = open("tests/fixtures/one-tower.plan", CLIPTEXT_MAP);
    let expected = expected("tests/fixtures/one-tower.plan", false);
    let address = plan.expose_provenance();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let encoder = encoder(std::ptr::with_exposed_provenance_mut(address), 1);
                for _ in 0..3 {
                    // SAFETY: made above, by this thread alone.
                    assert!(unsafe { each_alone(encoder, 0) } == expected);
                }
                // SAFETY: as above.
                unsafe { cliptext_encoder_free(encoder) };
            });
        }
    });
    // An encoder on the heap outlives its opened plan.
    let encoder = encoder(plan, 1);
    // SAFETY: opened and made above.
    unsafe {
        assert_eq!(cliptext_close(plan), CLIPTEXT_OK);
        assert!(each_alone(encoder, 0) == expected);
        assert_eq!(cliptext_encoder_free(encoder), CLIPTEXT_OK);
    }
}
