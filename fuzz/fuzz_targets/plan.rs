//! Damaged plans whose checksums fit: refused, or run within bounds, by the kernel that the input names, from memory or streamed.
#![no_main]

use std::convert::Infallible;

use cliptext::kernels::layout::Packing;
use cliptext::plan::format::{BLOCK, HEADER, Header, Kind, Section, crc32c};
use cliptext::stream::{Storage, Stream};
use cliptext::threads::Solo;
use cliptext::{
    AlignedBytes, Embedding, Encoder, ImageEncoder, ImagePlan, Input, Kernels, Plan, Program,
};
use libfuzzer_sys::fuzz_target;

/// What is damaged: text plans of two towers, with kept rows, of 248 tokens; image plans in two packings; a text plan of 3 MB, which
/// takes a hundred times as long and is chosen by one number in 256.
const PLANS: [&[u8]; 6] = [
    include_bytes!("../../tests/fixtures/two-towers.plan"),
    include_bytes!("../../tests/fixtures/typing.plan"),
    include_bytes!("../../tests/fixtures/long.plan"),
    include_bytes!("../../tests/fixtures/image-generic.plan"),
    include_bytes!("../../tests/fixtures/image-i8mm.plan"),
    include_bytes!("../../tests/fixtures/one-tower.plan"),
];
const SMALL: usize = PLANS.len() - 1;

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
    let &[which, how, ref changes @ ..] = data else { return };
    let plan = PLANS[if which == u8::MAX { SMALL } else { usize::from(which) % SMALL }];
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
        Kind::Text => run(&bytes, how),
        Kind::Image => run_images(&bytes, how),
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

/// One of the kernels that read a plan's weights; mostly the fastest, since the others take more than ten times as long here.
fn kernels(packing: Packing, how: u8) -> Kernels {
    let able: Vec<_> = Kernels::available().filter(|kernels| kernels.reads(packing)).collect();
    able[usize::from((how / 2).saturating_sub(120)) % able.len()]
}

fn run(bytes: &[u8], how: u8) {
    let Ok(plan) = Plan::load(bytes) else { return };
    if plan.arena_bytes(2) > MOST_ARENA {
        return;
    }
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let kernels = kernels(plan.manifest().packing, how);
    let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
    // The second may keep rows of the first.
    encoder.encode("a running dog, 12 cats");
    let hidden = bits(&encoder.encode("a running dog, 13 cats"));
    encoder.pass(&[Input::Text("x"), Input::Unpadded("y")], &mut ()).unwrap();
    if how % 2 == 1 {
        assert_eq!(streamed(bytes, kernels), hidden, "streamed is as in memory");
    }
}

fn bits(embedding: &Embedding<'_>) -> Vec<u32> {
    let values = embedding.hidden().iter().chain(embedding.pooled().unwrap_or(&[]));
    values.map(|value| value.to_bits()).collect()
}

/// A plan in storage.
struct Card<'a>(&'a [u8]);

impl Storage for Card<'_> {
    type Error = Infallible;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Infallible> {
        into.copy_from_slice(&self.0[offset as usize..][..into.len()]);
        Ok(())
    }
}

fn streamed(bytes: &[u8], kernels: Kernels) -> Vec<u32> {
    let header = Header::read(bytes).unwrap();
    let head = AlignedBytes::copy_of(&bytes[..header.head_bytes() as usize]);
    let program = Program::load(&head).expect("a plan that loads in memory");
    let blocks = Stream::<Card<'_>>::buffer_bytes(&program, 1).expect("blocks");
    let mut buffer = AlignedBytes::zeroed(blocks);
    let stream = Stream::new(&program, Card(bytes), &mut buffer).expect("a buffer of that size");
    let mut arena = AlignedBytes::zeroed(program.arena_bytes(1));
    let mut encoder = Encoder::over(program, stream, &mut arena, kernels, Solo).unwrap();
    bits(&encoder.encode_from(Input::Text("a running dog, 13 cats"), &mut ()).expect("storage that does not fail"))
}

fn run_images(bytes: &[u8], how: u8) {
    let Ok(plan) = ImagePlan::load(bytes) else { return };
    if plan.arena_bytes(2) > MOST_ARENA {
        return;
    }
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let image: Vec<u8> = (0..plan.grid().bytes()).map(|at| at as u8).collect();
    let kernels = kernels(plan.manifest().packing, how);
    let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
    encoder.pass(&[&image, &image], &mut ()).unwrap();
}
