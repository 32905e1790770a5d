//! Plans that were cut, damaged or made to attack: refused with an error, never a panic, never a wrong answer.

mod common;

use cliptext::kernels::layout::Packing;
use cliptext::plan::format::{BLOCK, VERSION, crc32c};
use cliptext::plan::{
    Axis, EmbedPrecision, Format, LoadError, Manifest, Mask, Op, Part, Place, RECORD, Role, Step, StepFault,
};
use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Encoder, Plan};
use common::parts::{Parts, put_together, records};
use common::{hash, one_tower, two_towers};

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
    let memory = AlignedBytes::copy_of(bytes);
    let plan = Plan::load(&memory)?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    Ok(hash(encoder.encode("a running dog").hidden()))
}

#[test]
fn parts_put_together_are_the_plan() {
    for file in [one_tower(), two_towers()] {
        let parts = Parts::of(&file);
        assert!(parts.bytes() == file.bytes());
        assert!(parts.load().is_ok());
    }
}

#[test]
fn plans_cut_short_anywhere_are_refused() {
    let file = one_tower();
    let mut memory = AlignedBytes::copy_of(file.bytes());
    let bytes = &mut *memory;
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
    let file = one_tower();
    let mut memory = AlignedBytes::copy_of(file.bytes());
    let bytes = &mut *memory;
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
    let file = one_tower();
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
    let mut bytes = one_tower().bytes().to_vec();
    bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = load(&bytes).unwrap_err();
    assert_eq!(error, LoadError::Version { found: VERSION + 1, reads: VERSION });
    let sentence = error.to_string();
    assert!(sentence.contains(&VERSION.to_string()) && sentence.contains(&(VERSION + 1).to_string()));
    let mut memory = AlignedBytes::zeroed(one_tower().bytes().len() + 1);
    memory[1..].copy_from_slice(one_tower().bytes());
    assert_eq!(Plan::load(&memory[1..]).unwrap_err(), LoadError::Misaligned);
}

/// Lies in the header, with a header checksum that fits.
#[test]
fn sections_that_lie_are_refused() {
    let file = one_tower();
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
fn manifests_and_steps_that_do_not_read_are_refused() {
    let parts = Parts::of(&two_towers());
    let manifest = parts.manifest.section().expect("a manifest");
    let steps = records(&parts.steps);
    let with = |manifest: &[u8], steps: &[u8]| {
        load(&put_together(manifest, steps, &parts.vocabulary, &parts.constants))
    };
    for length in 0..manifest.len() {
        assert_eq!(with(&manifest[..length], &steps), Err(LoadError::Manifest), "{length}");
    }
    let longer = [&manifest[..], &[0]].concat();
    assert_eq!(with(&longer, &steps), Err(LoadError::Manifest));
    for length in 0..steps.len() {
        let error = with(&manifest, &steps[..length]).unwrap_err();
        assert!(length % RECORD == 0 || error == LoadError::Steps, "{length}: {error}");
    }
    // Any byte of the two changed to anything telling: an error, or a plan that runs. Layers are alike: the first and what
    // follows the last will do.
    let layer = |step: &Step| step.role.layer > 1 && matches!(step.role.part, Part::Attention | Part::Mlp);
    let telling = parts.steps.iter().enumerate().filter(|(_, step)| !layer(step));
    let bytes_of_steps = telling.flat_map(|(index, _)| index * RECORD..(index + 1) * RECORD);
    for at in (0..manifest.len()).chain(bytes_of_steps.map(|at| manifest.len() + at)) {
        for value in [0, 1, 2, 0xff] {
            let (mut manifest, mut steps) = (manifest.clone(), steps.clone());
            let place = match at.checked_sub(manifest.len()) {
                Some(at) => &mut steps[at],
                None => &mut manifest[at],
            };
            if *place != value {
                *place = value;
                let _ = with(&manifest, &steps);
            }
        }
    }
}

/// A step has one record: words that it does not use are zero.
#[test]
fn records_with_words_that_mean_nothing_are_refused() {
    let parts = Parts::of(&two_towers());
    for (index, step) in parts.steps.iter().enumerate() {
        assert_eq!(Step::of_record(&step.record()), Some(*step));
        for word in step.record().iter().enumerate().filter(|(_, word)| **word == 0).map(|(word, _)| word) {
            let mut record = step.record();
            record[word] = 0x7f00_0000;
            let changed = Step::of_record(&record);
            // What reads is another step, told by all its words.
            assert!(
                changed.is_none_or(|changed| changed != *step && changed.record() == record),
                "{index}, {word}"
            );
        }
    }
    let mut unknown = parts.steps[0].record();
    unknown[0] |= 0xff;
    assert_eq!(Step::of_record(&unknown), None);
}

#[test]
fn contexts_and_paddings_that_do_not_fit_are_refused() {
    let parts = Parts::of(&one_tower());
    let with = |change: &dyn Fn(&mut Manifest<'_>)| {
        let mut parts = parts.clone();
        change(&mut parts.manifest);
        parts.load()
    };
    for context in [0, 1, 257, u16::MAX] {
        assert!(matches!(with(&|m| m.context = context), Err(LoadError::Tokenizer(_))), "{context}");
    }
    let rows = LoadError::Step { index: 0, fault: StepFault::Rows };
    assert_eq!(with(&|m| m.context = 76), Err(rows), "the position table would be another");
    assert_eq!(with(&|m| m.hidden.offset ^= 64), Err(LoadError::Output));
    assert_eq!(with(&|m| m.hidden.format = Format::Codes), Err(LoadError::Output));
    assert_eq!(with(&|m| m.pooled = Some(m.hidden)), Err(LoadError::Output));
    assert!(with(&|m| m.arena_bytes = 0).is_err());
    assert!(with(&|m| m.arena_bytes -= 64).is_err());
    for scale in [-0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(with(&|m| m.logit_scale = Some(scale)), Err(LoadError::LogitScale));
    }
    assert!(with(&|m| m.logit_scale = Some(100.0)).is_ok());
}

#[test]
fn paddings_that_are_not_in_the_vocabulary_are_refused() {
    let parts = Parts::of(&two_towers());
    let embeds: Vec<usize> =
        (0..parts.steps.len()).filter(|&index| matches!(parts.steps[index].op, Op::Embed(_))).collect();
    assert_eq!(embeds.len(), 2);
    let padded = |index: usize, padding| {
        let mut parts = parts.clone();
        let Op::Embed(embed) = &mut parts.steps[index].op else { panic!() };
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
    let index = parts.first(|op| matches!(op, Op::Join));
    let (left, right) = (parts.steps[index].input.unwrap(), parts.steps[index].second.unwrap());
    let lie = |change: &dyn Fn(&mut Step)| parts.with_step(index, change);
    assert_eq!(lie(&|s| s.out.columns += 1), StepFault::Columns);
    assert_eq!(lie(&|s| s.out.columns = left.columns), StepFault::Columns);
    assert_eq!(lie(&|s| (s.out.axis, s.out.rows) = (Axis::Sequence, 1)), StepFault::Rows);
    assert_eq!(lie(&|s| s.input = Some(Place { columns: u32::MAX - 23, ..left })), StepFault::Columns);
    assert_eq!(lie(&|s| s.input = Some(Place { format: Format::Codes, ..left })), StepFault::Format);
    assert_eq!(lie(&|s| s.input = Some(Place { rows: 76, ..left })), StepFault::Rows);
    assert_eq!(lie(&|s| s.second = None), StepFault::Places);
    assert_eq!(lie(&|s| s.scratch = Some(right)), StepFault::Places);
    assert_eq!(lie(&|s| s.codes = Some(Place { format: Format::Codes, ..s.out })), StepFault::Places);
    // Columns that agree, of a value that is not there.
    let narrower = |s: &mut Step| {
        s.input = Some(Place { columns: left.columns - 8, ..left });
        s.out.columns -= 8;
    };
    assert_eq!(lie(&narrower), StepFault::UnknownInput);
    assert_eq!(
        lie(&|s| s.second = Some(Place { offset: right.offset ^ 64, ..right })),
        StepFault::UnknownInput
    );
    let last = parts.manifest.arena_bytes - parts.steps[index].out.bytes() as u32;
    assert_eq!(lie(&|s| s.out.offset = left.offset.min(last)), StepFault::Overlap);
    assert_eq!(lie(&|s| s.out.offset = right.offset.min(last)), StepFault::Overlap);
    assert_eq!(lie(&|s| (s.second, s.out.columns) = (s.input, 2 * left.columns)), StepFault::Overlap);
    assert_eq!(lie(&|s| s.out.offset = 32), StepFault::Misaligned);
    assert_eq!(lie(&|s| s.out.offset = u32::MAX - 63), StepFault::OutsideArena);
}

#[test]
fn a_second_tower_with_a_shorter_table_is_refused() {
    let mut parts = Parts::of(&two_towers());
    let index = parts.steps.iter().rposition(|step| matches!(step.op, Op::Embed(_))).unwrap();
    shorten_table(&mut parts, index, 16);
    assert_eq!(parts.load(), Err(LoadError::TokenRange { ids: 600, rows: 584 }));
}

/// Takes the last `removed` rows and their scales out of an embedding's int8 table, so that all sizes agree.
fn shorten_table(parts: &mut Parts, index: usize, removed: u32) {
    let before = parts.steps[index].constant_arrays().unwrap();
    let step = &mut parts.steps[index];
    let Op::Embed(embed) = &mut step.op else { panic!() };
    embed.vocabulary -= removed;
    let after = step.constant_arrays().unwrap();
    // The scales first: they are behind the codes.
    for array in [1, 0] {
        let end = before[array + 1].offset as usize;
        let kept = (after[array + 1].offset - after[array].offset) as usize;
        parts.constants.drain(before[array].offset as usize + kept..end);
    }
}

#[test]
fn steps_that_lie_are_refused() {
    let parts = Parts::of(&one_tower());
    let embed = parts.first(|op| matches!(op, Op::Embed(_)));
    let norm = parts.first(|op| matches!(op, Op::Norm { .. }));
    let linear = parts.first(|op| matches!(op, Op::Linear { .. }));
    let attention = parts.first(|op| matches!(op, Op::Attention { .. }));
    let pool = parts.first(|op| matches!(op, Op::Pool));
    let cached = parts.first(|op| matches!(op, Op::CachedRow { .. }));
    let lie = |index: usize, change: &dyn Fn(&mut Step)| parts.with_step(index, change);
    macro_rules! operation {
        ($index:expr, $kind:pat => $change:expr) => {
            lie($index, &|step| {
                let $kind = &mut step.op else { panic!() };
                $change;
            })
        };
    }
    // Places: outside, off the alignment, overflowing, over each other, empty.
    assert_eq!(lie(embed, &|s| s.out.offset = 1), StepFault::Misaligned);
    assert_eq!(lie(embed, &|s| s.out.offset = u32::MAX - 63), StepFault::OutsideArena);
    assert_eq!(lie(embed, &|s| s.out.offset = parts.manifest.arena_bytes / 64 * 64), StepFault::OutsideArena);
    assert_eq!(lie(embed, &|s| (s.out.axis, s.out.rows) = (Axis::Sequence, 1)), StepFault::Rows);
    assert_eq!(lie(embed, &|s| s.out.rows = 78), StepFault::Rows);
    assert_eq!(lie(embed, &|s| s.out.columns = 0), StepFault::Empty);
    assert_eq!(lie(linear, &|s| s.out.offset = s.input.unwrap().offset), StepFault::Overlap);
    assert_eq!(
        lie(linear, &|s| s.codes = Some(Place { format: Format::Codes, ..s.out })),
        StepFault::Overlap
    );
    let scratch = parts.steps[attention].scratch.unwrap();
    let with_scratch =
        |change: &dyn Fn(&Step) -> Place| lie(attention, &|step| step.scratch = Some(change(step)));
    let qkv = parts.steps[attention].input.unwrap();
    assert_eq!(with_scratch(&|_| Place { offset: qkv.offset, ..scratch }), StepFault::Overlap);
    assert_eq!(with_scratch(&|_| Place { offset: 32, ..scratch }), StepFault::Misaligned);
    assert_eq!(with_scratch(&|_| Place { columns: scratch.columns - 1, ..scratch }), StepFault::Scratch);
    assert_eq!(with_scratch(&|_| Place { axis: Axis::Token, ..scratch }), StepFault::Rows);
    // Places that are missing, or that nothing uses.
    assert_eq!(lie(attention, &|s| s.scratch = None), StepFault::Places);
    assert_eq!(lie(norm, &|s| s.input = None), StepFault::Places);
    assert_eq!(lie(embed, &|s| s.input = Some(s.out)), StepFault::Places);
    assert_eq!(lie(pool, &|s| s.second = s.input), StepFault::Places);
    assert_eq!(
        lie(cached, &|s| s.input = Some(Place { offset: s.out.offset ^ 64, ..s.out })),
        StepFault::Places
    );
    // Constants: too many, elsewhere.
    assert_eq!(
        operation!(embed, Op::Embed(embed) => embed.vocabulary = u32::MAX),
        StepFault::MissingConstants
    );
    let mut moved = parts.clone();
    moved.steps[linear].constants += 64;
    let error = LoadError::Step { index: linear, fault: StepFault::ConstantsPlace };
    assert_eq!(load(&moved.bytes_as_they_are()), Err(error));
    moved.steps[linear].constants = u64::MAX - 63;
    assert_eq!(load(&moved.bytes_as_they_are()), Err(error));
    // Sizes that contradict.
    assert_eq!(lie(linear, &|s| s.out.columns = 0), StepFault::Empty);
    let with_input =
        |index: usize, change: &dyn Fn(&mut Place)| lie(index, &|step| change(step.input.as_mut().unwrap()));
    assert_eq!(with_input(linear, &|input| (input.axis, input.rows) = (Axis::Sequence, 1)), StepFault::Rows);
    assert_eq!(with_input(linear, &|input| input.columns = 31), StepFault::UnknownInput);
    assert_eq!(with_input(linear, &|input| input.format = Format::F32), StepFault::Format);
    assert_eq!(operation!(attention, Op::Attention { heads, .. } => *heads = 0), StepFault::Heads);
    assert_eq!(operation!(attention, Op::Attention { heads, .. } => *heads = 5), StepFault::Heads);
    assert_eq!(lie(attention, &|s| s.out.columns = 16), StepFault::Columns);
    assert_eq!(lie(attention, &|s| s.codes.as_mut().unwrap().columns = 16), StepFault::Columns);
    assert_eq!(lie(pool, &|s| s.out.columns = 16), StepFault::Columns);
    assert_eq!(lie(pool, &|s| (s.out.axis, s.out.rows) = (Axis::Token, 77)), StepFault::Rows);
    assert_eq!(lie(pool, &|s| s.out.rows = 2), StepFault::Rows);
    let both = |s: &mut Step, change: &dyn Fn(&mut Place)| {
        change(&mut s.out);
        s.input = Some(s.out);
    };
    assert_eq!(
        lie(cached, &|s| both(s, &|place| (place.axis, place.rows) = (Axis::Sequence, 1))),
        StepFault::Rows
    );
    assert_eq!(lie(cached, &|s| both(s, &|place| place.offset ^= 64)), StepFault::UnknownInput);
    let packing = operation!(linear, Op::Linear { packing, .. } => *packing = Packing::Int8x16);
    assert_eq!(packing, StepFault::Packing);
    let f32_table = operation!(embed, Op::Embed(embed) => {
        (embed.precision, embed.f16_rows) = (EmbedPrecision::F32, 1);
    });
    assert_eq!(f32_table, StepFault::Tables);
    // Roles: towers and layers in their order.
    for role in [
        Role { tower: 1, layer: 0, part: Part::Embedding },
        Role { tower: 0, layer: 1, part: Part::Embedding },
        Role { tower: 0, layer: 0, part: Part::Attention },
    ] {
        assert_eq!(lie(embed, &|s| s.role = role), StepFault::Role);
    }
    assert_eq!(lie(norm, &|s| s.role.layer = 3), StepFault::Role);
    assert_eq!(lie(norm, &|s| s.role.layer = 0), StepFault::Role);
    assert_eq!(lie(norm, &|s| s.role.tower = 1), StepFault::Role);
    assert_eq!(lie(norm, &|s| s.role.part = Part::Embedding), StepFault::Role);
    // Reads of what is not there.
    assert_eq!(with_input(norm, &|input| input.offset ^= 64), StepFault::UnknownInput);
    assert_eq!(with_input(linear, &|input| input.offset ^= 64), StepFault::UnknownInput);
    assert_eq!(lie(linear, &|s| s.second = Some(s.out)), StepFault::UnknownInput);
    // Numbers.
    for number in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(operation!(norm, Op::Norm { epsilon } => *epsilon = number), StepFault::Number);
    }
    assert_eq!(operation!(attention, Op::Attention { scale, .. } => *scale = f32::NAN), StepFault::Number);
    // Sums that might not fit their 32 bits, with all the weights that they would be of.
    let mut longer = parts.clone();
    longer.constants.extend([0; 4 << 20]);
    let fault = longer.with_step(linear, |step| step.input.as_mut().unwrap().columns = (1 << 14) + 1);
    assert_eq!(fault, StepFault::TooLarge);
}

/// A first row that depends on those behind it can't be known when the plan is made.
#[test]
fn a_cached_row_behind_unmasked_attention_is_refused() {
    let mut parts = Parts::of(&one_tower());
    for step in &mut parts.steps {
        if let Op::Attention { mask, .. } = &mut step.op {
            *mask = Mask::None;
        }
    }
    let Err(LoadError::Step { index, fault }) = parts.load() else { panic!() };
    assert_eq!(fault, StepFault::CachedWithoutMask);
    assert!(matches!(parts.steps[index].op, Op::CachedRow { .. }));
}

/// Numbers that are none, too large or false cost accuracy and no more.
#[test]
fn constants_of_any_value_are_run_with_every_kernel() {
    let original = Parts::of(&one_tower());
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
        let memory = AlignedBytes::copy_of(&parts.bytes());
        let plan = Plan::load(&memory).unwrap();
        for kernels in common::kernels_for(&plan) {
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
            let mut encoder = Encoder::with(&plan, &mut arena, kernels, cliptext::threads::Solo).unwrap();
            let rows = encoder.encode_unpadded("a running dog").tokens();
            assert_eq!(rows, 5, "{} in round {round}", kernels.name());
        }
    }
}

#[test]
fn steps_left_out_or_doubled_are_refused() {
    for file in [one_tower(), two_towers()] {
        let parts = Parts::of(&file);
        for index in 0..parts.steps.len() {
            let mut missing = parts.clone();
            missing.steps.remove(index);
            // Without an attention the next step may find codes of the same shape in the same place: wrong, in bounds.
            let harmless = matches!(parts.steps[index].op, Op::Attention { .. }) && missing.load().is_ok();
            assert!(harmless || missing.load().is_err(), "without step {index}");
        }
    }
    let parts = Parts::of(&one_tower());
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
    let mut parts = Parts::of(&one_tower());
    shorten_table(&mut parts, 0, 16);
    assert_eq!(parts.load(), Err(LoadError::TokenRange { ids: 49408, rows: 49408 - 16 }));
}

#[test]
fn damaged_vocabularies_are_refused_or_harmless() {
    let parts = Parts::of(&one_tower());
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
