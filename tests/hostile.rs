//! Plans that were cut, damaged or made to attack: refused with an error, never a panic, never a wrong answer.

mod common;

use cliptext::plan::format::{BLOCK, VERSION, crc32c};
use cliptext::plan::{Axis, Codes, Join, LoadError, Manifest, Rows, Step, StepFault};
use cliptext::tokenizer::Padding;
use cliptext::{Encoder, Plan};
use common::parts::{Parts, put_together};
use common::{Aligned, demo, hash, two_towers};

/// What becomes of plans in parts.
trait Outcome {
    /// What loading says; an `Ok` plan must also run.
    fn load(&self) -> Result<u32, LoadError>;

    /// The error for a change of step `index`.
    fn with_step(&self, index: usize, change: impl FnOnce(&mut Step)) -> StepFault;
}

impl Outcome for Parts {
    fn load(&self) -> Result<u32, LoadError> {
        load(&self.bytes())
    }

    fn with_step(&self, index: usize, change: impl FnOnce(&mut Step)) -> StepFault {
        let mut parts = self.clone();
        change(&mut parts.steps[index]);
        match parts.load() {
            Err(LoadError::Step { fault, .. }) => fault,
            other => panic!("step {index}, changed to {:?}: {other:?}", parts.steps[index]),
        }
    }
}

/// Loads, and runs what loads: the hash of an embedding.
fn load(bytes: &[u8]) -> Result<u32, LoadError> {
    let mut memory = Aligned::copy(bytes);
    let plan = Plan::load(memory.bytes())?;
    let mut arena = Aligned::new(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, arena.bytes()).unwrap();
    Ok(hash(encoder.encode("a running dog").hidden()))
}

#[test]
fn parts_put_together_are_the_plan() {
    for file in [demo(), two_towers()] {
        let parts = Parts::of(&file);
        assert!(parts.bytes() == file.bytes());
        assert!(parts.load().is_ok());
    }
}

#[test]
fn plans_cut_short_anywhere_are_refused() {
    let file = demo();
    let mut memory = Aligned::copy(file.bytes());
    let bytes = memory.bytes();
    for length in (0..4096).chain((4096..bytes.len()).step_by(997)).chain([bytes.len() - 1]) {
        let error = Plan::load(&bytes[..length]).unwrap_err();
        assert_eq!(error, LoadError::Truncated, "{length}");
    }
    let mut longer = file.bytes().to_vec();
    longer.push(0);
    assert_eq!(load(&longer).unwrap_err(), LoadError::TooLong);
}

#[test]
fn any_flipped_bit_is_found() {
    let file = demo();
    let mut memory = Aligned::copy(file.bytes());
    let bytes = memory.bytes();
    // All of the header, the checksums, the manifest and the steps; a sample of the rest.
    let head = 4096.min(bytes.len());
    let sample = (head..bytes.len()).step_by(40_009).chain([bytes.len() - 1]);
    for at in (0..head).chain(sample) {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(Plan::load(bytes).is_err(), "byte {at}, bit {bit}");
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(Plan::load(bytes).is_ok());
}

#[test]
fn damage_is_told_by_its_place() {
    let file = demo();
    let mut bytes = file.bytes().to_vec();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    let Err(LoadError::Checksum { offset }) = load(&bytes) else { panic!() };
    assert!((offset..offset + BLOCK as u64).contains(&(at as u64)));
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    assert_eq!(load(b"PK\x03\x04 something else entirely").unwrap_err(), LoadError::NotAPlan);
    assert_eq!(load(b"").unwrap_err(), LoadError::Truncated);
    let mut bytes = demo().bytes().to_vec();
    bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = load(&bytes).unwrap_err();
    assert_eq!(error, LoadError::Version { found: VERSION + 1 });
    let sentence = error.to_string();
    assert!(sentence.contains(&VERSION.to_string()) && sentence.contains(&(VERSION + 1).to_string()));
    let mut memory = Aligned::new(demo().bytes().len() + 1);
    memory.bytes()[1..].copy_from_slice(demo().bytes());
    assert_eq!(Plan::load(&memory.bytes()[1..]).unwrap_err(), LoadError::Misaligned);
}

/// Lies in the header, with a header checksum that fits.
#[test]
fn sections_that_lie_are_refused() {
    let file = demo();
    let original = file.bytes();
    let sums = u64::from_le_bytes(original[32..40].try_into().unwrap()) as usize;
    let fitting = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = original.to_vec();
        change(&mut bytes);
        let mut both = [0; 8];
        both[..4].copy_from_slice(&crc32c(&bytes[..124]).to_le_bytes());
        both[4..].copy_from_slice(&crc32c(&bytes[128..128 + sums]).to_le_bytes());
        let sum = crc32c(&both).to_le_bytes();
        bytes[124..128].copy_from_slice(&sum);
        load(&bytes).map(drop)
    };
    assert_eq!(fitting(&|_| ()), Ok(()));
    for field in (16..104).step_by(8) {
        let value = u64::from_le_bytes(original[field..field + 8].try_into().unwrap());
        let lies =
            [0, 1, value.wrapping_add(64), value.wrapping_sub(64), value.wrapping_add(1), 1 << 63, u64::MAX];
        for lie in lies.into_iter().filter(|lie| *lie != value) {
            let outcome = fitting(&|bytes| bytes[field..field + 8].copy_from_slice(&lie.to_le_bytes()));
            assert!(outcome.is_err(), "field at {field}: {lie}");
        }
    }
    // Two sections in one place; a section in the header; one that ends behind the file.
    let swap = |bytes: &mut [u8]| bytes.copy_within(40..56, 56);
    assert_eq!(fitting(&swap), Err(LoadError::Header));
    assert_eq!(fitting(&|bytes| bytes[104] = 1), Err(LoadError::Header));
    assert_eq!(fitting(&|bytes| bytes[12] = 64), Err(LoadError::Header));
}

#[test]
fn manifests_that_do_not_read_are_refused() {
    let parts = Parts::of(&two_towers());
    let mut buffer = vec![0; 1 << 16];
    let manifest = postcard::to_slice(&parts.manifest, &mut buffer).unwrap().to_vec();
    let mut steps = Vec::new();
    for step in &parts.steps {
        let mut buffer = [0; 256];
        steps.extend_from_slice(postcard::to_slice(step, &mut buffer).unwrap());
    }
    let with = |manifest: &[u8], steps: &[u8]| {
        load(&put_together(manifest, steps, &parts.vocabulary, &parts.constants))
    };
    for length in 0..manifest.len() {
        assert!(with(&manifest[..length], &steps).is_err(), "{length}");
    }
    let longer = [&manifest[..], &[0]].concat();
    assert_eq!(with(&longer, &steps), Err(LoadError::Manifest));
    for length in 0..steps.len() {
        assert!(with(&manifest, &steps[..length]).is_err(), "{length}");
    }
    // Any byte of the two changed to anything telling: an error, or a plan that runs.
    for at in 0..manifest.len() + steps.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let (mut manifest, mut steps) = (manifest.clone(), steps.clone());
            match at.checked_sub(manifest.len()) {
                Some(at) => steps[at] = value,
                None => manifest[at] = value,
            }
            let _ = with(&manifest, &steps);
        }
    }
}

#[test]
fn contexts_and_paddings_that_do_not_fit_are_refused() {
    let parts = Parts::of(&demo());
    let with = |change: &dyn Fn(&mut Manifest)| {
        let mut parts = parts.clone();
        change(&mut parts.manifest);
        parts.load()
    };
    for context in [0, 1, 257, u16::MAX] {
        assert!(matches!(with(&|m| m.context = context), Err(LoadError::Tokenizer(_))), "{context}");
    }
    assert!(with(&|m| m.context = 76).is_err(), "the position table would be another");
    let other = Rows { offset: 64, columns: 32, axis: Axis::Token };
    assert_eq!(with(&|m| m.hidden = other), Err(LoadError::Output));
    assert_eq!(with(&|m| m.pooled = Some(m.hidden)), Err(LoadError::Output));
    assert!(with(&|m| m.arena_bytes = 0).is_err());
    assert!(with(&|m| m.arena_bytes -= 64).is_err());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(with(&|m| m.logit_scale = Some(scale)), Err(LoadError::LogitScale));
    }
    assert!(with(&|m| m.logit_scale = Some(100.0)).is_ok());
}

#[test]
fn paddings_that_are_not_in_the_vocabulary_are_refused() {
    let parts = Parts::of(&two_towers());
    let embeds: Vec<usize> =
        (0..parts.steps.len()).filter(|&index| matches!(parts.steps[index], Step::Embed(_))).collect();
    assert_eq!(embeds.len(), 2);
    let padded = |index: usize, padding| {
        let mut parts = parts.clone();
        let Step::Embed(embed) = &mut parts.steps[index] else { panic!() };
        embed.padding = padding;
        parts.load().map(drop)
    };
    for index in embeds {
        for id in [600, u32::MAX] {
            let error = LoadError::Step { index, fault: StepFault::Padding };
            assert_eq!(padded(index, Padding::Id(id)), Err(error));
        }
        for padding in [Padding::Id(0), Padding::Id(599), Padding::End, Padding::ZeroAfterEnd] {
            assert_eq!(padded(index, padding), Ok(()));
        }
    }
}

#[test]
fn joins_that_lie_are_refused() {
    let parts = Parts::of(&two_towers());
    let index = parts.first(|step| matches!(step, Step::Join(_)));
    let lie = |change: &dyn Fn(&mut Join)| {
        parts.with_step(index, |step| {
            let Step::Join(join) = step else { panic!() };
            change(join);
        })
    };
    assert_eq!(lie(&|s| s.out.columns += 1), StepFault::Sizes);
    assert_eq!(lie(&|s| s.out.columns = s.left.columns), StepFault::Sizes);
    assert_eq!(lie(&|s| s.out.axis = Axis::Sequence), StepFault::Sizes);
    assert_eq!(lie(&|s| s.left.columns = u32::MAX - s.right.columns + 1), StepFault::UnknownInput);
    assert_eq!(lie(&|s| s.left.columns -= 8), StepFault::UnknownInput);
    assert_eq!(lie(&|s| s.right.offset += 64), StepFault::UnknownInput);
    assert_eq!(lie(&|s| s.right.axis = Axis::Sequence), StepFault::UnknownInput);
    let whole = Rows { offset: 0, columns: 40, axis: Axis::Token }.bytes(77).unwrap() as u32;
    let last = parts.manifest.arena_bytes - whole;
    assert_eq!(lie(&|s| s.out.offset = s.left.offset.min(last)), StepFault::Overlap);
    assert_eq!(lie(&|s| s.out.offset = s.right.offset.min(last)), StepFault::Overlap);
    assert_eq!(lie(&|s| (s.right, s.out.columns) = (s.left, 2 * s.left.columns)), StepFault::Overlap);
    assert_eq!(lie(&|s| s.out.offset = 32), StepFault::OutsideArena);
    assert_eq!(lie(&|s| s.out.offset = u32::MAX - 63), StepFault::OutsideArena);
}

#[test]
fn a_second_tower_with_a_shorter_table_is_refused() {
    let mut parts = Parts::of(&two_towers());
    let index = parts.steps.iter().rposition(|step| matches!(step, Step::Embed(_))).unwrap();
    let before: usize = parts.steps[..index].iter().map(|step| step.constant_bytes(77).unwrap()).sum();
    let Step::Embed(embed) = &mut parts.steps[index] else { panic!() };
    let (rows, width) = (embed.tokens as usize, embed.out.columns as usize);
    let [codes, scales, ..] = embed.constants(77).unwrap();
    embed.tokens -= 16;
    let [fewer_codes, fewer_scales, ..] = embed.constants(77).unwrap();
    // Rows and scales go, so that all sizes agree.
    parts.constants.drain(before + codes + fewer_scales..before + codes + scales);
    parts.constants.drain(before + fewer_codes..before + codes);
    assert_eq!((rows, width), (600, 24));
    assert_eq!(parts.load(), Err(LoadError::TokenRange { ids: 600, rows: 584 }));
}

#[test]
fn steps_that_lie_are_refused() {
    let parts = Parts::of(&demo());
    let embed = parts.first(|step| matches!(step, Step::Embed(_)));
    let norm = parts.first(|step| matches!(step, Step::Norm(_)));
    let linear = parts.first(|step| matches!(step, Step::Linear(_)));
    let attention = parts.first(|step| matches!(step, Step::Attention(_)));
    let pool = parts.first(|step| matches!(step, Step::Pool(_)));
    macro_rules! lie {
        ($index:expr, $kind:ident, |$step:ident| $change:expr) => {
            parts.with_step($index, |step| {
                let Step::$kind($step) = step else { panic!() };
                $change;
            })
        };
    }
    // Places: outside, off the alignment, overflowing, over each other.
    assert_eq!(lie!(embed, Embed, |s| s.out.offset = 1), StepFault::OutsideArena);
    assert_eq!(lie!(embed, Embed, |s| s.out.offset = u32::MAX - 63), StepFault::OutsideArena);
    assert_eq!(
        lie!(embed, Embed, |s| s.out.offset = parts.manifest.arena_bytes / 64 * 64),
        StepFault::OutsideArena
    );
    assert_eq!(lie!(embed, Embed, |s| s.out.axis = Axis::Sequence), StepFault::Sizes);
    assert_eq!(lie!(embed, Embed, |s| s.out.columns = 0), StepFault::Sizes);
    assert_eq!(lie!(embed, Embed, |s| s.tokens = u32::MAX), StepFault::MissingConstants);
    assert_eq!(lie!(embed, Embed, |s| (s.tokens, s.out.columns) = (u32::MAX, u32::MAX)), StepFault::TooLarge);
    assert_eq!(lie!(linear, Linear, |s| s.out.offset = s.input), StepFault::Overlap);
    assert_eq!(
        lie!(linear, Linear, |s| s.requantized =
            Some(Codes { offset: s.out.offset, columns: 96, axis: Axis::Token })),
        StepFault::Overlap
    );
    assert_eq!(lie!(attention, Attention, |s| s.scratch = s.qkv.offset), StepFault::Overlap);
    assert_eq!(lie!(attention, Attention, |s| s.scratch = 32), StepFault::OutsideArena);
    // Sizes that contradict.
    assert_eq!(lie!(linear, Linear, |s| s.out.columns = 95), StepFault::Sizes);
    assert_eq!(lie!(linear, Linear, |s| (s.panels.outputs, s.out.columns) = (0, 0)), StepFault::Sizes);
    assert_eq!(lie!(linear, Linear, |s| s.out.axis = Axis::Sequence), StepFault::UnknownInput);
    assert_eq!(lie!(linear, Linear, |s| s.panels.inputs = 33), StepFault::UnknownInput);
    assert_eq!(lie!(attention, Attention, |s| s.heads = 0), StepFault::Sizes);
    assert_eq!(lie!(attention, Attention, |s| s.heads = 5), StepFault::Sizes);
    assert_eq!(lie!(attention, Attention, |s| s.out.columns = 16), StepFault::Sizes);
    assert_eq!(lie!(pool, Pool, |s| s.out.columns = 16), StepFault::Sizes);
    assert_eq!(lie!(pool, Pool, |s| s.out.axis = Axis::Token), StepFault::Sizes);
    let first = parts.first(|step| matches!(step, Step::CachedRow(_)));
    assert_eq!(lie!(first, CachedRow, |s| s.rows.axis = Axis::Sequence), StepFault::Sizes);
    assert_eq!(lie!(first, CachedRow, |s| s.rows.offset += 64), StepFault::UnknownInput);
    // Reads of what is not there.
    assert_eq!(lie!(norm, Norm, |s| s.input.offset += 64), StepFault::UnknownInput);
    assert_eq!(lie!(linear, Linear, |s| s.input += 64), StepFault::UnknownInput);
    let other = Rows { offset: 0, columns: 96, axis: Axis::Token };
    assert_eq!(
        lie!(linear, Linear, |s| s.residual = Some(Rows { offset: s.out.offset, ..other })),
        StepFault::UnknownInput
    );
    // Numbers.
    for number in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(lie!(norm, Norm, |s| s.epsilon = number), StepFault::Number);
    }
    assert_eq!(lie!(attention, Attention, |s| s.scale = f32::NAN), StepFault::Number);
    // Sums that might not fit their 32 bits, with all the weights that they would be of.
    let mut longer = parts.clone();
    longer.constants.extend([0; 4 << 20]);
    let fault = longer.with_step(linear, |step| {
        let Step::Linear(step) = step else { panic!() };
        step.panels.inputs = (1 << 14) + 1;
    });
    assert_eq!(fault, StepFault::TooLarge);
}

/// Numbers that are none, too large or false cost accuracy and no more.
#[test]
fn constants_of_any_value_are_run_with_every_kernel() {
    let original = Parts::of(&demo());
    let mut state = 7u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for round in 0..40 {
        let mut parts = original.clone();
        for _ in 0..2000 {
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 1e-42][random() % 6];
            let at = random() % (parts.constants.len() / 4) * 4;
            parts.constants[at..at + 4].copy_from_slice(&odd.to_le_bytes());
        }
        let mut memory = Aligned::copy(&parts.bytes());
        let plan = Plan::load(memory.bytes()).unwrap();
        for kernels in common::kernels_for(&plan) {
            let mut arena = Aligned::new(plan.arena_bytes(1));
            let mut encoder = Encoder::with(&plan, arena.bytes(), kernels, cliptext::threads::Solo).unwrap();
            let rows = encoder.encode_unpadded("a running dog").tokens();
            assert_eq!(rows, 5, "{} in round {round}", kernels.name());
        }
    }
}

#[test]
fn steps_left_out_or_doubled_are_refused() {
    for file in [demo(), two_towers()] {
        let parts = Parts::of(&file);
        for index in 0..parts.steps.len() {
            let mut missing = parts.clone();
            missing.steps.remove(index);
            // Without an attention the next step may find codes of the same shape in the same place: wrong, in bounds.
            let harmless = matches!(parts.steps[index], Step::Attention(_)) && missing.load().is_ok();
            assert!(harmless || missing.load().is_err(), "without step {index}");
        }
    }
    let parts = Parts::of(&demo());
    let mut doubled = parts.clone();
    doubled.steps.push(parts.steps[0]);
    assert!(doubled.load().is_err());
    let mut short = parts.clone();
    short.constants.truncate(short.constants.len() - 64);
    assert!(matches!(short.load(), Err(LoadError::Step { fault: StepFault::MissingConstants, .. })));
    let mut long = parts.clone();
    long.constants.extend([0; 64]);
    assert_eq!(long.load(), Err(LoadError::Leftover));
}

#[test]
fn an_embedding_table_shorter_than_the_vocabulary_is_refused() {
    let mut parts = Parts::of(&demo());
    let Step::Embed(embed) = &mut parts.steps[0] else { panic!() };
    let (rows, removed) = (embed.tokens, 16);
    embed.tokens -= removed;
    // Take the rows and their scales out, so that all sizes agree.
    let scales = (rows * embed.out.columns) as usize;
    parts.constants.drain(scales + 4 * (rows - removed) as usize..scales + 4 * rows as usize);
    parts.constants.drain(scales - (removed * 32) as usize..scales);
    assert_eq!(parts.load(), Err(LoadError::TokenRange { ids: rows, rows: rows - removed }));
}

#[test]
fn damaged_vocabularies_are_refused_or_harmless() {
    let parts = Parts::of(&demo());
    for at in (0..parts.vocabulary.len()).step_by(20_011) {
        let mut damaged = parts.clone();
        damaged.vocabulary[at] ^= 0xff;
        // With a checksum that fits, the table's own checks decide; what they pass must run.
        let _ = damaged.load();
    }
    let mut none = parts.clone();
    none.vocabulary.clear();
    assert!(matches!(none.load(), Err(LoadError::Vocabulary(_))));
}
