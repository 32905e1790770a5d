//! Prompt packs: what is written is read, in place and by name; a pack that was cut, damaged or made to attack is refused or
//! harmless.

mod common;

use std::io::Cursor;

use cliptext::pack::{
    Dtype, EntryFault, NAME, NewEntry, Pack, PackError, PackManifest, PackWriteError, PackWriter, TEXT,
    VERSION, Values, is_name,
};
use cliptext::plan::format::{BLOCK, crc32c};
use cliptext::{AlignedBytes, Encoder, Plan, PlanHash};
use common::{PROMPTS, hash, one_tower, two_towers};

const BODY: usize = 192;

fn manifest(dtype: Dtype) -> PackManifest<'static> {
    let plan = core::array::from_fn(|at| at as u8);
    PackManifest { producer: "cliptext 0.1.0", source: "a model", plan, width: 3, pooled: 2, dtype }
}

fn entry<'a>(name: &'a str, prompt: &'a str, tokens: u32) -> NewEntry<'a> {
    NewEntry { name, prompt, options: "", tokens, dropped: None }
}

/// Two entries, of two tokens and of one.
fn small(dtype: Dtype) -> AlignedBytes {
    let entries = [
        NewEntry { options: "no-pad", ..entry("cat", "a cat", 2) },
        NewEntry { dropped: Some(2..5), ..entry("dog", "a dog", 1) },
    ];
    let mut writer = PackWriter::new(Cursor::new(vec![]), manifest(dtype), &entries).unwrap();
    writer.write(&[7, 9], &[0.5, -1.0, 2.0, 0.0, 65504.0, 0.25], Some(&[1.0, 3.0])).unwrap();
    writer.write(&[9], &[1.5, 2.5, -3.5], Some(&[-0.5, 4.0])).unwrap();
    AlignedBytes::copy_of(writer.finish().unwrap().get_ref())
}

#[test]
fn what_is_written_is_read() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let bytes = small(dtype);
        let pack = Pack::load(&bytes).unwrap();
        assert!(Pack::is_one(&bytes) && !Pack::is_one(one_tower().bytes()));
        assert_eq!((pack.len(), pack.is_empty(), pack.width()), (2, false, 3));
        assert_eq!(*pack.manifest(), manifest(dtype));
        assert_eq!(pack.manifest().plan_hash(), PlanHash::from_bytes(manifest(dtype).plan));
        let names: Vec<_> = pack.entries().map(|entry| entry.name()).collect();
        assert_eq!(names, ["cat", "dog"]);
        let (cat, dog) = (pack.find("cat").unwrap(), pack.find("dog").unwrap());
        assert_eq!((cat.prompt(), cat.options(), cat.dropped()), ("a cat", "no-pad", None));
        assert_eq!((dog.prompt(), dog.options(), dog.dropped()), ("a dog", "", Some(2..5)));
        assert_eq!((cat.tokens(), cat.ids(), dog.tokens(), dog.ids()), (2, &[7, 9][..], 1, &[9][..]));
        let values = |values: Values<'_>| {
            let mut copied = vec![0.0; values.len()];
            values.copy_to(&mut copied).unwrap();
            assert!(values.iter().eq(copied.iter().copied()) && !values.is_empty());
            assert_eq!(values.as_f32().is_some(), dtype == Dtype::F32);
            copied
        };
        assert_eq!(values(cat.hidden()), [0.5, -1.0, 2.0, 0.0, 65504.0, 0.25]);
        assert_eq!(values(cat.pooled().unwrap()), [1.0, 3.0]);
        assert_eq!(values(dog.hidden()), [1.5, 2.5, -3.5]);
        assert_eq!(values(dog.pooled().unwrap()), [-0.5, 4.0]);
        for none in ["", "ca", "cats", "cow", "zebra", "Cat"] {
            assert!(pack.find(none).is_none(), "{none}");
        }
        assert!(pack.entry(2).is_none() && pack.entry(usize::MAX).is_none());
        let wrong = dog.hidden().copy_to(&mut [0.0; 2]).unwrap_err();
        assert_eq!((wrong.given, wrong.needed), (2, 3));
        // The arrays lie where a processor's vectors can be loaded from.
        if let Values::F32(values) = dog.hidden() {
            assert!(values.as_ptr().addr().is_multiple_of(64));
        }
    }
}

/// The specification shows this very file.
#[test]
fn the_specification_s_file_is_written_so() {
    let bytes = small(Dtype::F16);
    let mut dump = String::new();
    for (line, row) in bytes.chunks(16).enumerate() {
        if row.iter().any(|&byte| byte != 0) {
            let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown = |&byte: &u8| if (32..127).contains(&byte) { char::from(byte) } else { '.' };
            let text: String = row.iter().map(shown).collect();
            dump += &format!("{:06x}  {}  {text}\n", 16 * line, hex.join(" "));
        }
    }
    let page = include_str!("../docs/pack-format.md");
    assert!(page.contains(&dump), "the page should show\n{dump}");
}

#[test]
fn names_are_found_among_many() {
    let names: Vec<String> = (0..1000).map(|number| format!("é{number:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, name, 1)).collect();
    let one = PackManifest { width: 1, pooled: 0, ..manifest(Dtype::F32) };
    let mut writer = PackWriter::new(Cursor::new(vec![]), one, &entries).unwrap();
    for number in 0..1000u16 {
        writer.write(&[number.into()], &[number.into()], None).unwrap();
    }
    // More than one block of checksums.
    let bytes = AlignedBytes::copy_of(writer.finish().unwrap().get_ref());
    assert!(bytes.len() > 3 * BLOCK);
    let pack = Pack::load(&bytes).unwrap();
    for (number, name) in names.iter().enumerate() {
        let entry = pack.find(name).unwrap();
        assert_eq!((entry.hidden(), entry.pooled()), (Values::F32(&[number as f32]), None));
    }
    let none = PackWriter::new(Cursor::new(vec![]), one, &[]).unwrap().finish().unwrap();
    let empty = AlignedBytes::copy_of(none.get_ref());
    assert!(Pack::load(&empty).unwrap().is_empty() && Pack::load(&empty).unwrap().find("").is_none());
}

/// A pack gives what the plan gives: in single precision the same bytes, in half precision 68 dB and more.
#[test]
fn embeddings_of_plans_are_kept() {
    for file in [one_tower(), two_towers()] {
        let plan = Plan::load(file.bytes()).unwrap();
        let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut memory).unwrap();
        let mut order: Vec<(String, &str)> =
            PROMPTS.iter().enumerate().map(|(number, prompt)| (format!("{number}"), *prompt)).collect();
        order.sort();
        for dtype in [Dtype::F32, Dtype::F16] {
            let entries: Vec<_> =
                order.iter().map(|(name, prompt)| entry(name, prompt, plan.context() as u32)).collect();
            let manifest = PackManifest {
                source: plan.manifest().source,
                plan: *plan.hash().bytes(),
                width: plan.width() as u32,
                pooled: plan.manifest().pooled.unwrap().columns,
                ..manifest(dtype)
            };
            let mut writer = PackWriter::new(Cursor::new(vec![]), manifest, &entries).unwrap();
            for (_, prompt) in &order {
                let embedding = encoder.encode(prompt);
                writer.write(embedding.ids(), embedding.hidden(), embedding.pooled()).unwrap();
            }
            let bytes = AlignedBytes::copy_of(writer.finish().unwrap().get_ref());
            let pack = Pack::load(&bytes).unwrap();
            assert_eq!(pack.manifest().plan_hash(), plan.hash());
            for (name, prompt) in &order {
                let (entry, embedding) = (pack.find(name).unwrap(), encoder.encode(prompt));
                assert_eq!((entry.prompt(), entry.ids()), (*prompt, embedding.ids()));
                let both = [(entry.hidden(), embedding.hidden())]
                    .into_iter()
                    .chain(entry.pooled().zip(embedding.pooled()));
                for (kept, computed) in both {
                    let kept: Vec<f32> = kept.iter().collect();
                    if dtype == Dtype::F32 {
                        assert_eq!(hash(&kept), hash(computed));
                    }
                    let energy = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
                    let signal = energy(&mut computed.iter().map(|&x| x.into()));
                    let noise =
                        energy(&mut kept.iter().zip(computed).map(|(&a, &b)| f64::from(a) - f64::from(b)));
                    let decibels = 10.0 * (signal / noise).log10();
                    assert!(decibels > 68.0, "{decibels} dB");
                }
            }
        }
    }
}

#[test]
fn entries_that_are_none_are_not_written() {
    let fault =
        |entries: &[NewEntry<'_>]| match PackWriter::new(Cursor::new(vec![]), manifest(Dtype::F32), entries)
            .unwrap_err()
        {
            PackWriteError::Entry { index, fault } => (index, fault),
            other => panic!("{other}"),
        };
    let long = "x".repeat(NAME + 1);
    for name in ["", "a\tb", "a\nb", "\u{7f}", "\u{85}", &long] {
        assert!(!is_name(name));
        assert_eq!(fault(&[entry(name, "", 1)]), (0, EntryFault::Name));
    }
    assert!(is_name(&long[1..]) && is_name("a dog, 東京 🌆"));
    for second in ["a", "b", "B"] {
        assert_eq!(fault(&[entry("b", "", 1), entry(second, "", 1)]), (1, EntryFault::Order));
    }
    assert_eq!(fault(&[entry("a", "", 0)]), (0, EntryFault::Tokens));
    for dropped in [0..0, 3..3, 0..4, 1..2, 4..9] {
        let wrong = NewEntry { dropped: Some(dropped), ..entry("a", "é!", 1) };
        assert_eq!(fault(&[wrong]), (0, EntryFault::Dropped));
    }
    for wrong in [
        PackManifest { width: 0, ..manifest(Dtype::F32) },
        PackManifest { source: &long[..TEXT + 1], ..manifest(Dtype::F32) },
    ] {
        let error = PackWriter::new(Cursor::new(vec![]), wrong, &[]).unwrap_err();
        assert!(matches!(error, PackWriteError::Manifest), "{error}");
    }
    let huge = PackManifest { width: u32::MAX, ..manifest(Dtype::F32) };
    let error = PackWriter::new(Cursor::new(vec![]), huge, &[entry("a", "", u32::MAX)]).unwrap_err();
    assert!(matches!(error, PackWriteError::TooLarge), "{error}");
}

#[test]
fn values_that_are_none_are_not_written() {
    let start = |dtype| PackWriter::new(Cursor::new(vec![]), manifest(dtype), &[entry("a", "", 1)]).unwrap();
    let count = |result: Result<(), PackWriteError>| assert!(matches!(result, Err(PackWriteError::Count)));
    count(start(Dtype::F32).write(&[], &[0.0; 3], Some(&[0.0; 2])));
    count(start(Dtype::F32).write(&[1], &[0.0; 4], Some(&[0.0; 2])));
    count(start(Dtype::F32).write(&[1], &[0.0; 3], None));
    count(start(Dtype::F32).finish().map(drop));
    let mut twice = start(Dtype::F32);
    twice.write(&[1], &[0.0; 3], Some(&[0.0; 2])).unwrap();
    count(twice.write(&[1], &[0.0; 3], Some(&[0.0; 2])));
    for (value, shown) in [(65520.0, "65520"), (f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let error = start(Dtype::F16).write(&[1], &[0.0, 0.0, value], Some(&[0.0; 2])).unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.contains(shown) && sentence.contains("token 0, column 2"), "{sentence}");
        let error = start(Dtype::F16).write(&[1], &[0.0; 3], Some(&[value, 0.0])).unwrap_err();
        assert!(error.to_string().contains("pooled output"), "{error}");
    }
    // The largest that rounds down, and ties to even.
    let mut writer = start(Dtype::F16);
    writer.write(&[1], &[65519.9, 2049.0, 2051.0], Some(&[1e-8, -0.0])).unwrap();
    let bytes = AlignedBytes::copy_of(writer.finish().unwrap().get_ref());
    let entry = Pack::load(&bytes).unwrap().find("a").unwrap();
    assert!(entry.hidden().iter().eq([65504.0, 2048.0, 2052.0]));
    assert!(entry.pooled().unwrap().iter().map(f32::to_bits).eq([0, 1 << 31]));
}

#[test]
fn packs_cut_short_anywhere_are_refused() {
    let mut memory = small(Dtype::F32);
    let bytes = &mut *memory;
    for length in 0..bytes.len() {
        assert_eq!(Pack::load(&bytes[..length]).unwrap_err(), PackError::Truncated, "{length}");
    }
    let longer = AlignedBytes::copy_of(&[&bytes[..], &[0]].concat());
    assert_eq!(Pack::load(&longer).unwrap_err(), PackError::TooLong);
    assert_eq!(Pack::load(&longer[1..]).unwrap_err(), PackError::Misaligned);
}

#[test]
fn any_flipped_bit_is_found() {
    let mut memory = small(Dtype::F32);
    let bytes = &mut *memory;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(Pack::load(bytes).is_err(), "byte {at}, bit {bit}");
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(Pack::load(bytes).is_ok());
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    let plan = one_tower();
    assert_eq!(Pack::load(plan.bytes()).unwrap_err(), PackError::NotAPack);
    let mut bytes = small(Dtype::F32);
    assert!(Plan::load(&bytes).unwrap_err().to_string().contains("not a cliptext plan"));
    bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = Pack::load(&bytes).unwrap_err();
    assert_eq!(error, PackError::Version { found: VERSION + 1, reads: VERSION });
    assert!(error.to_string().contains("make it again"));
}

/// Gives the bytes checksums that fit.
fn fit(bytes: &mut [u8]) {
    let sums: Vec<u8> = bytes[BODY..].chunks(BLOCK).flat_map(|block| crc32c(block).to_le_bytes()).collect();
    bytes[128..128 + sums.len()].copy_from_slice(&sums);
    let mut both = [0; 8];
    both[..4].copy_from_slice(&crc32c(&bytes[..124]).to_le_bytes());
    both[4..].copy_from_slice(&crc32c(&sums).to_le_bytes());
    let sum = crc32c(&both).to_le_bytes();
    bytes[124..128].copy_from_slice(&sum);
}

/// Loads, and asks a pack that loads for all that it has.
fn read_all(bytes: &[u8]) -> Result<usize, PackError> {
    let pack = Pack::load(bytes)?;
    let mut seen = 0;
    let mut last: Option<&str> = None;
    for entry in pack.entries() {
        assert!(last < Some(entry.name()) && is_name(entry.name()));
        last = Some(entry.name());
        assert_eq!(entry.ids().len(), entry.tokens());
        assert_eq!(entry.hidden().len(), entry.tokens() * pack.width());
        assert_eq!(entry.pooled().map_or(0, |values| values.len()), pack.manifest().pooled as usize);
        if let Some(range) = entry.dropped() {
            assert!(!entry.prompt()[range].is_empty());
        }
        assert_eq!(pack.find(entry.name()).unwrap().prompt(), entry.prompt());
        seen += entry.hidden().iter().chain(entry.pooled().iter().flat_map(Values::iter)).count();
        seen += entry.options().len();
    }
    Ok(seen)
}

#[test]
fn any_byte_with_fitting_checksums_is_refused_or_harmless() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let original = small(dtype);
        let mut refused = 0;
        for at in (0..124).chain(BODY..original.len()) {
            for value in
                [0, 1, 2, 0x3f, 0x40, 0x7f, 0x80, 0xc3, 0xff, original[at] ^ 1, original[at].wrapping_sub(1)]
            {
                let mut bytes = AlignedBytes::copy_of(&original);
                bytes[at] = value;
                fit(&mut bytes);
                refused += usize::from(read_all(&bytes).is_err());
            }
        }
        assert!(refused > 1000, "{refused}");
    }
}

#[test]
fn fields_that_lie_are_refused() {
    let original = small(Dtype::F32);
    let header = |section: usize| {
        let at = 24 + 16 * section;
        u64::from_le_bytes(original[at..at + 8].try_into().unwrap()) as usize
    };
    let (manifest, index, texts) = (header(1), header(2), header(3));
    assert_eq!(manifest, BODY);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = AlignedBytes::copy_of(&original);
        bytes[at..at + value.len()].copy_from_slice(value);
        fit(&mut bytes);
        read_all(&bytes)
    };
    assert!(with(texts, b"cat").is_ok());
    // Every number of the header, with values that make sums overflow.
    for field in (16..104).step_by(8) {
        let value = u64::from_le_bytes(original[field..field + 8].try_into().unwrap());
        let lies = [0, 1, value + 64, value.wrapping_sub(64), value + 1, 1 << 63, u64::MAX, u64::MAX - 63];
        for lie in lies.into_iter().filter(|lie| *lie != value) {
            assert!(with(field, &lie.to_le_bytes()).is_err(), "field at {field}: {lie}");
        }
    }
    assert_eq!(with(104, &[1]), Err(PackError::Header));
    let fault = |entry: usize, word: usize, value: u32| match with(
        index + 64 * entry + 4 * word,
        &value.to_le_bytes(),
    ) {
        Err(PackError::Entry { index, fault }) => {
            assert_eq!(index, entry);
            Some(fault)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    for entry in [0, 1] {
        for (word, lies, expected) in [
            (0, &[1, 64, u32::MAX][..], EntryFault::Values),
            (1, &[1, u32::MAX], EntryFault::Values),
            (2, &[1000, u32::MAX], EntryFault::Values),
            (2, &[0], EntryFault::Tokens),
            (3, &[1, 7, u32::MAX], EntryFault::Text),
            (4, &[0], EntryFault::Name),
            (4, &[1000, u32::MAX], EntryFault::Text),
            (5, &[1000, u32::MAX], EntryFault::Text),
            (6, &[1000, u32::MAX], EntryFault::Text),
            (8, &[1000, u32::MAX], EntryFault::Dropped),
        ] {
            for &lie in lies {
                assert_eq!(fault(entry, word, lie), Some(expected), "entry {entry}, word {word}: {lie}");
            }
        }
        for word in 9..16 {
            assert_eq!(fault(entry, word, 1), Some(EntryFault::Reserved));
        }
    }
    assert_eq!(fault(1, 7, 5), Some(EntryFault::Dropped), "from where it ends");
    assert_eq!(fault(1, 6, 0), None, "it has no options");
    assert_eq!(
        with(index + 64 + 20, &4u32.to_le_bytes()),
        Err(PackError::Entry { index: 1, fault: EntryFault::Dropped })
    );
    // A name that is another's, one behind it, one with an end of line, and no UTF-8.
    let name_fault = |value: &[u8]| with(texts, value).unwrap_err();
    assert_eq!(name_fault(b"dog"), PackError::Entry { index: 1, fault: EntryFault::Order });
    assert_eq!(name_fault(b"eel"), PackError::Entry { index: 1, fault: EntryFault::Order });
    assert_eq!(name_fault(b"c\nt"), PackError::Entry { index: 0, fault: EntryFault::Name });
    assert_eq!(name_fault(b"c\xfft"), PackError::Entry { index: 0, fault: EntryFault::Text });
    // Columns that overflow, or leave bytes over.
    let at = manifest + 1 + 14 + 1 + 7 + 32;
    assert_eq!(&original[at..at + 3], [3, 2, 0]);
    assert_eq!(with(at, &[0]), Err(PackError::Manifest));
    assert!(with(at, &[127]).is_err());
    assert_eq!(with(at + 2, &[2]), Err(PackError::Manifest));
}
