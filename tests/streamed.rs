//! The constants of a plan from a file that is never in memory as a whole, read block by block, each checked as it is read:
//! what a board with an SD card and little RAM does.

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use cliptext::plan::format::{BLOCK, HEADER, Header, Section};
use cliptext::plan::{Extent, Op, Program};
use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, Input, LoadError, PassError, Plan, Source};
use common::parts::Parts;
use common::{PROMPTS, demo, hash, kernels_for, two_towers};

/// Reads constants from a file when they are asked for.
struct Card<'h> {
    file: File,
    head: &'h [u8],
    header: Header,
    block: Vec<u8>,
    buffer: AlignedBytes,
    /// The most bytes that were asked for at once.
    largest: usize,
}

impl<'h> Card<'h> {
    fn new(path: &Path, head: &'h [u8], buffer: usize) -> Self {
        let header = Header::read(head).unwrap();
        let file = File::open(path).unwrap();
        Self { file, head, header, block: vec![], buffer: AlignedBytes::zeroed(buffer), largest: 0 }
    }

    /// Reads and checks the blocks of `extent`, and copies its bytes to `at` in the buffer.
    fn read(&mut self, extent: Extent, at: usize) -> Result<(), LoadError> {
        let start = self.header.place(Section::Constants).0 + extent.offset;
        let end = start + extent.bytes;
        let mut from = start;
        while from < end {
            let index = (from - self.header.body()) / BLOCK as u64;
            let (offset, length) = self.header.block(index);
            self.block.resize(length as usize, 0);
            self.file.seek(SeekFrom::Start(offset)).unwrap();
            self.file.read_exact(&mut self.block).unwrap();
            self.header.verify_block(self.head, index, &self.block)?;
            let to = end.min(offset + length);
            let part = &self.block[(from - offset) as usize..(to - offset) as usize];
            self.buffer[at + (from - start) as usize..][..part.len()].copy_from_slice(part);
            from = to;
        }
        Ok(())
    }
}

impl Source for Card<'_> {
    type Error = LoadError;

    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], LoadError> {
        let mut at = 0;
        let places = extents.map(|extent| {
            let start = at;
            at += (extent.bytes as usize).next_multiple_of(64);
            start..start + extent.bytes as usize
        });
        self.largest = self.largest.max(at);
        for (extent, place) in extents.into_iter().zip(&places) {
            self.read(extent, place.start)?;
        }
        Ok(places.map(|place| &self.buffer[place]))
    }
}

/// The front of a plan that must be in memory.
fn head(bytes: &[u8]) -> AlignedBytes {
    let header = Header::read(&bytes[..HEADER]).unwrap();
    AlignedBytes::copy_of(&bytes[..header.head_bytes() as usize])
}

fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("cliptext-{name}-{}.plan", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn streamed_constants_give_the_same_bits() {
    for (name, whole) in [("demo", demo()), ("two-towers", two_towers())] {
        let plan = Plan::load(whole.bytes()).unwrap();
        let path = file(name, whole.bytes());
        let head = head(whole.bytes());
        let program = Program::load(&head).unwrap();
        assert_eq!(program.steps().count(), plan.step_count());
        // Single rows of tables, other steps whole.
        let step_bytes = |op: fn(&Op) -> bool| {
            let steps = plan.steps().filter(move |step| op(&step.op));
            steps.filter_map(|step| step.constant_bytes()).max().unwrap() as usize
        };
        let most = step_bytes(|op| !matches!(op, Op::Embed(_)));
        assert!(most < step_bytes(|op| matches!(op, Op::Embed(_))));
        for kernels in kernels_for(&plan) {
            let [mut one, mut other] = [(); 2].map(|()| AlignedBytes::zeroed(plan.arena_bytes(1)));
            let mut resident = Encoder::with(&plan, &mut one, kernels, Solo).unwrap();
            let card = Card::new(&path, &head, most);
            let mut streamed = Encoder::over(program, card, &mut other, kernels, Solo).unwrap();
            for prompt in &PROMPTS[..4] {
                let theirs = resident.encode(prompt);
                let ours = streamed.encode_from(Input::Text(prompt), &mut ()).unwrap();
                assert_eq!(hash(ours.hidden()), hash(theirs.hidden()), "{name}: {prompt:?}");
                assert_eq!(hash(ours.pooled().unwrap()), hash(theirs.pooled().unwrap()));
            }
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_card_that_lies_ends_the_pass_with_its_error() {
    let whole = demo();
    let mut damaged = whole.bytes().to_vec();
    let last = damaged.len() - 100;
    damaged[last] ^= 1;
    let path = file("damaged", &damaged);
    let head = head(whole.bytes());
    let program = Program::load(&head).unwrap();
    let mut arena = AlignedBytes::zeroed(program.arena_bytes(1));
    let card = Card::new(&path, &head, 1 << 20);
    let kernels = program.kernels().unwrap();
    let mut encoder = Encoder::over(program, card, &mut arena, kernels, Solo).unwrap();
    let error = encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap_err();
    let PassError::Source(LoadError::Checksum { offset }) = error else { panic!("{error}") };
    assert!((offset..offset + BLOCK as u64).contains(&(last as u64)));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn heads_that_are_cut_or_damaged_are_refused() {
    let whole = two_towers();
    let head = head(whole.bytes());
    assert!(head.len() < whole.bytes().len());
    assert!(Program::load(&head).is_ok());
    for length in (0..head.len()).step_by(97).chain([head.len() - 1]) {
        assert_eq!(Program::load(&head[..length]).unwrap_err(), LoadError::Truncated, "{length}");
    }
    for at in (0..head.len()).step_by(61) {
        let mut damaged = AlignedBytes::copy_of(&head);
        damaged[at] ^= 0x10;
        assert!(Program::load(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn each_block_is_checked_by_itself() {
    let whole = demo();
    let header = Header::read(whole.bytes()).unwrap();
    let mut end = header.body();
    for index in 0..header.blocks() {
        let (offset, length) = header.block(index);
        assert_eq!(offset, end);
        end += length;
        let mut block = whole.bytes()[offset as usize..end as usize].to_vec();
        assert_eq!(header.verify_block(whole.bytes(), index, &block), Ok(()));
        assert!(header.verify_block(whole.bytes(), index, &block[1..]).is_err());
        block[0] ^= 0x80;
        assert_eq!(header.verify_block(whole.bytes(), index, &block), Err(LoadError::Checksum { offset }));
    }
    assert_eq!(end, header.file_bytes());
    assert!(header.verify_block(whole.bytes(), header.blocks(), &[]).is_err());
}

/// The records in a plan and those that it is put together from are the same steps.
#[test]
fn steps_are_read_where_they_are() {
    let whole = two_towers();
    let steps = Parts::of(&whole).steps;
    let plan = Plan::load(whole.bytes()).unwrap();
    let mut constants = 0;
    for (step, read) in steps.iter().zip(plan.steps()) {
        assert_eq!((*step, step.constants), (read, constants));
        constants += step.constant_bytes().unwrap();
    }
    assert_eq!(constants, plan.constant_bytes());
}
