//! Damaged prompt packs whose checksums fit: refused, or read within bounds.
#![no_main]

use std::io::Cursor;

use cliptext::pack::{Dtype, NewEntry, Pack, PackManifest, PackWriter};
use cliptext::plan::format::crc32c;
use cliptext::{AlignedBytes, PackEntry};
use libfuzzer_sys::fuzz_target;

/// Bytes of the header, the last four of which are a checksum of it and of the list of checksums behind it.
const HEADER: usize = 128;
/// Where the sections begin of a pack of one block.
const BODY: usize = 192;

thread_local! {
    static PACKS: [Vec<u8>; 2] = [Dtype::F32, Dtype::F16].map(small);
}

/// Three entries of a few tokens.
fn small(dtype: Dtype) -> Vec<u8> {
    let plan = core::array::from_fn(|at| at as u8);
    let manifest = PackManifest { producer: "fuzz", source: "a model", plan, width: 3, pooled: 2, dtype };
    let entry = |name, prompt, tokens, dropped| NewEntry { name, prompt, options: "no-pad", tokens, dropped };
    let entries =
        [entry("cat", "a cat", 2, None), entry("dog", "a dog", 1, Some(2..5)), entry("é", "", 3, None)];
    let mut writer = PackWriter::new(Cursor::new(vec![]), manifest, &entries).expect("a pack");
    for tokens in [2, 1, 3] {
        let hidden = vec![0.5; 3 * tokens];
        writer.write(&vec![7; tokens], &hidden, Some(&[1.0, 3.0])).expect("an entry");
    }
    writer.finish().expect("a pack").into_inner()
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, changes)) = data.split_first() else { return };
    PACKS.with(|packs| {
        let mut bytes = packs[usize::from(which) % packs.len()].clone();
        damage(&mut bytes, changes);
        let bytes = AlignedBytes::copy_of(&bytes);
        let Ok(pack) = Pack::load(&bytes) else { return };
        let mut last = None;
        for (index, entry) in pack.entries().enumerate() {
            assert!(last < Some(entry.name()), "names ascend");
            last = Some(entry.name());
            assert_eq!(pack.position(entry.name()), Some(index));
            read(&entry, &pack);
        }
        assert!(pack.entry(pack.len()).is_none() && pack.find("no such entry").is_none());
    });
});

/// Each change is a place and what becomes of the byte there; then the checksums fit again.
fn damage(bytes: &mut Vec<u8>, changes: &[u8]) {
    for change in changes.chunks_exact(4) {
        let at = (usize::from(change[0]) << 8 | usize::from(change[1])) % bytes.len();
        match change[2] % 8 {
            0..3 => bytes[at] = change[3],
            3..6 => bytes[at] ^= 1 << (change[3] % 8),
            6 => bytes.truncate(bytes.len().saturating_sub(usize::from(change[3])).max(BODY)),
            _ => bytes.extend(std::iter::repeat_n(0, usize::from(change[3]))),
        }
    }
    let body = crc32c(&bytes[BODY..]).to_le_bytes();
    bytes[HEADER..HEADER + 4].copy_from_slice(&body);
    let both = [crc32c(&bytes[..HEADER - 4]), crc32c(&body)].map(u32::to_le_bytes);
    let head = crc32c(both.as_flattened()).to_le_bytes();
    bytes[HEADER - 4..HEADER].copy_from_slice(&head);
}

fn read(entry: &PackEntry<'_>, pack: &Pack<'_>) {
    assert_eq!(entry.ids().len(), entry.tokens());
    assert_eq!(entry.hidden().len(), entry.tokens() * pack.width());
    if let Some(dropped) = entry.dropped() {
        assert!(entry.prompt().get(dropped).is_some());
    }
    let mut hidden = vec![0.0; entry.hidden().len()];
    entry.hidden().copy_to(&mut hidden).expect("room");
    if let Some(pooled) = entry.pooled() {
        assert_eq!(pooled.iter().count(), pooled.len());
    }
    let _ = (entry.options(), entry.ids().iter().fold(0, |sum: u32, id| sum.wrapping_add(*id)));
}
