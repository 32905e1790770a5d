//! Damaged plans whose checksums fit: refused, or run within bounds by every kernel.
#![no_main]

use cliptext::plan::format::{BLOCK, HEADER, Header, Kind, Section, crc32c};
use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, ImageEncoder, ImagePlan, Input, Kernels, Plan};
use libfuzzer_sys::fuzz_target;

/// What is damaged: text plans of one tower, of two, with kept rows, of 248 tokens; image plans.
const PLANS: [&[u8]; 6] = [
    include_bytes!("../../tests/fixtures/one-tower.plan"),
    include_bytes!("../../tests/fixtures/two-towers.plan"),
    include_bytes!("../../tests/fixtures/typing.plan"),
    include_bytes!("../../tests/fixtures/long.plan"),
    include_bytes!("../../tests/fixtures/image-generic.plan"),
    include_bytes!("../../tests/fixtures/image-i8mm.plan"),
];

/// Arenas beyond it are refused by any program; a fuzzer's memory is small.
const MOST_ARENA: usize = 8 << 20;

/// Sections that are damaged, and of each the bytes at the front that are: a vocabulary's header counts most.
const DAMAGED: [(Section, usize); 4] = [
    (Section::Manifest, usize::MAX),
    (Section::Steps, usize::MAX),
    (Section::Vocabulary, 4096),
    (Section::Constants, 1 << 20),
];

fuzz_target!(|data: &[u8]| {
    let Some((&which, changes)) = data.split_first() else { return };
    let plan = PLANS[usize::from(which) % PLANS.len()];
    let header = Header::read(plan).unwrap();
    let mut sections = DAMAGED.map(|(section, _)| {
        let (offset, length) = header.place(section);
        plan[offset as usize..][..length as usize].to_vec()
    });
    // Each change is a section, a place in it, and what becomes of the byte there.
    for change in changes.chunks_exact(5) {
        let kind = usize::from(change[0]) % DAMAGED.len();
        let section = &mut sections[kind];
        let at = usize::from(change[1]) << 8 | usize::from(change[2]);
        let most = section.len().min(DAMAGED[kind].1);
        match change[3] % 4 {
            0 if most > 0 => section[at % most] = change[4],
            1 if most > 0 => section[at % most] ^= 1 << (change[4] % 8),
            2 => section.truncate(section.len() - section.len().min(at % 256)),
            _ => section.extend(std::iter::repeat_n(change[4], at % 256)),
        }
    }
    let bytes = AlignedBytes::copy_of(&put_together(header.kind(), &sections));
    match header.kind() {
        Kind::Text => run(&bytes),
        Kind::Image => run_images(&bytes),
    }
});

fn put_together(kind: Kind, sections: &[Vec<u8>; 4]) -> Vec<u8> {
    let [manifest, steps, vocabulary, constants] = sections.each_ref().map(|section| section.len() as u64);
    let header = Header::lay_out(kind, manifest, steps, vocabulary, constants).unwrap();
    let mut bytes = vec![0; header.file_bytes() as usize];
    for ((section, _), content) in DAMAGED.into_iter().zip(sections) {
        bytes[header.place(section).0 as usize..][..content.len()].copy_from_slice(content);
    }
    let sums: Vec<u8> = bytes[header.body() as usize..]
        .chunks(BLOCK)
        .flat_map(|block| crc32c(block).to_le_bytes())
        .collect();
    bytes[HEADER..][..sums.len()].copy_from_slice(&sums);
    let head = header.encode(&sums);
    bytes[..HEADER].copy_from_slice(&head);
    bytes
}

fn run(bytes: &[u8]) {
    let Ok(plan) = Plan::load(bytes) else { return };
    if plan.arena_bytes(2) > MOST_ARENA {
        return;
    }
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let packing = plan.manifest().packing;
    for kernels in Kernels::available().filter(|kernels| kernels.reads(packing)) {
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        encoder.encode("a running dog, 12 cats");
        encoder.encode("a running dog, 13 cats");
        encoder.pass(&[Input::Text("x"), Input::Unpadded("y")], &mut ()).unwrap();
    }
}

fn run_images(bytes: &[u8]) {
    let Ok(plan) = ImagePlan::load(bytes) else { return };
    if plan.arena_bytes(2) > MOST_ARENA {
        return;
    }
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let image: Vec<u8> = (0..plan.grid().bytes()).map(|at| at as u8).collect();
    let packing = plan.manifest().packing;
    for kernels in Kernels::available().filter(|kernels| kernels.reads(packing)) {
        let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        encoder.pass(&[&image, &image], &mut ()).unwrap();
    }
}
