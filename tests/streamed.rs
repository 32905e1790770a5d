//! The constants of a plan from storage, read block by block, each checked as it is read: the whole plan is never in memory.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::time::{Duration, Instant};

use cliptext::plan::format::{BLOCK, HEADER, Header};
use cliptext::plan::{Op, Program};
use cliptext::stream::{
    BLOCKS, BufferError, FileStorage, Seekable, SeekableError, Storage, Stream, StreamError,
};
use cliptext::threads::{Solo, Team, Threads};
use cliptext::{AlignedBytes, Encoder, Input, Kernels, LoadError, PassError, Plan};
use common::parts::Parts;
use common::{PROMPTS, hash, kernels_for, one_tower, two_towers};

/// A card with a plan, which counts what is read and may be pulled out.
struct Card<'a> {
    bytes: &'a [u8],
    reads: &'a Cell<usize>,
    /// The read that fails, and all that come until this is set back.
    out_at: &'a Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PulledOut;

impl Storage for Card<'_> {
    type Error = PulledOut;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PulledOut> {
        let read = self.reads.replace(self.reads.get() + 1);
        if read >= self.out_at.get() {
            // Half of it is there.
            let half = into.len() / 2;
            into[..half].fill(0xee);
            return Err(PulledOut);
        }
        into.copy_from_slice(&self.bytes[offset as usize..][..into.len()]);
        Ok(())
    }
}

/// The front of a plan that must be in memory.
fn head(bytes: &[u8]) -> AlignedBytes {
    let header = Header::read(&bytes[..HEADER]).unwrap();
    AlignedBytes::copy_of(&bytes[..header.head_bytes() as usize])
}

/// What the plan in `storage` makes of each prompt, or the error that ends it: streamed with `blocks` in a half of the buffer.
struct Run<'a> {
    head: &'a AlignedBytes,
    blocks: usize,
    kernels: Kernels,
}

impl Run<'_> {
    /// Calls `work` with an encoder.
    fn with<R: Storage, T: Team>(
        &self,
        storage: R,
        team: T,
        work: impl FnOnce(&mut Encoder<'_, T, Stream<'_, R>>),
    ) {
        let program = Program::load(self.head).unwrap();
        let mut buffer = AlignedBytes::zeroed(Stream::<R>::buffer_bytes(&program, self.blocks).unwrap());
        let stream = Stream::new(&program, storage, &mut buffer).unwrap();
        let mut arena = AlignedBytes::zeroed(program.arena_bytes(2));
        // Whatever stands in it is of no account.
        arena.fill(0xff);
        work(&mut Encoder::over(program, stream, &mut arena, self.kernels, team).unwrap());
    }
}

/// Hash of the hidden states and of the pooled row.
fn hashes(embedding: &cliptext::Embedding<'_>) -> [u32; 2] {
    [hash(embedding.hidden()), hash(embedding.pooled().unwrap_or(&[]))]
}

fn in_memory(bytes: &[u8], kernels: Kernels, input: Input<'_>) -> [u32; 2] {
    let plan = Plan::load(bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    hashes(&Encoder::with(&plan, &mut arena, kernels, Solo).unwrap().encode_from(input, &mut ()).unwrap())
}

#[test]
fn streamed_constants_give_the_same_bits() {
    for (name, whole) in [("one-tower", one_tower()), ("two-towers", two_towers())] {
        let plan = Plan::load(whole.bytes()).unwrap();
        let head = head(whole.bytes());
        assert!(head.len() < whole.bytes().len());
        for kernels in kernels_for(&plan) {
            for blocks in [1, 2, 3, BLOCKS, 32] {
                let (reads, out_at) = (Cell::new(0), Cell::new(usize::MAX));
                let card = Card { bytes: whole.bytes(), reads: &reads, out_at: &out_at };
                Run { head: &head, blocks, kernels }.with(card, Solo, |encoder| {
                    for prompt in &PROMPTS[..3] {
                        for input in [Input::Text(prompt), Input::Unpadded(prompt)] {
                            let ours = hashes(&encoder.encode_from(input, &mut ()).unwrap());
                            assert_eq!(ours, in_memory(whole.bytes(), kernels, input), "{name}: {prompt:?}");
                        }
                    }
                });
            }
        }
    }
}

/// Inputs side by side, and several workers.
#[test]
fn pairs_and_teams_are_streamed_too() {
    let whole = two_towers();
    let head = head(whole.bytes());
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    for threads in [1, 4] {
        let (reads, out_at) = (Cell::new(0), Cell::new(usize::MAX));
        let card = Card { bytes: whole.bytes(), reads: &reads, out_at: &out_at };
        let team = Threads::start(threads).unwrap();
        Run { head: &head, blocks: 2, kernels }.with(card, team, |encoder| {
            let inputs = [Input::Text("a cat"), Input::Unpadded("a dog on a bench")];
            let mut rows = Rows::default();
            encoder.pass(&inputs, &mut rows).unwrap();
            for (rows, input) in rows.0.iter().zip(inputs) {
                assert_eq!(hash(rows), in_memory(whole.bytes(), kernels, input)[0]);
            }
        });
    }
}

/// The hidden states of a pass.
#[derive(Default)]
struct Rows(Vec<Vec<f32>>);

impl cliptext::Sink for Rows {
    fn hidden(&mut self, _: usize, rows: &[f32]) {
        self.0.push(rows.to_vec());
    }
}

#[test]
fn a_file_is_read_by_a_thread_of_its_own() {
    let whole = one_tower();
    let path = std::env::temp_dir().join(format!("cliptext-streamed-{}.plan", std::process::id()));
    std::fs::write(&path, whole.bytes()).unwrap();
    let head = head(whole.bytes());
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    let storage = FileStorage::new(File::open(&path).unwrap()).unwrap();
    Run { head: &head, blocks: 2, kernels }.with(storage, Solo, |encoder| {
        for prompt in &PROMPTS[..4] {
            let ours = hashes(&encoder.encode_from(Input::Text(prompt), &mut ()).unwrap());
            assert_eq!(ours, in_memory(whole.bytes(), kernels, Input::Text(prompt)));
        }
        // Cut short meanwhile: an error of the system, where a mapped plan would end the program.
        File::options().write(true).open(&path).unwrap().set_len(whole.bytes().len() as u64 / 2).unwrap();
        let error = encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap_err();
        let PassError::Source(StreamError::Storage { error, .. }) = &error else { panic!("{error}") };
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        std::fs::write(&path, whole.bytes()).unwrap();
        let ours = hashes(&encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap());
        assert_eq!(ours, in_memory(whole.bytes(), kernels, Input::Text("a cat")));
    });
    std::fs::remove_file(path).unwrap();
}

/// Whichever read fails, the next pass is right.
#[test]
fn a_card_that_is_pulled_out_ends_the_pass_and_not_the_next() {
    let whole = one_tower();
    let head = head(whole.bytes());
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    let wanted = in_memory(whole.bytes(), kernels, Input::Text("a cat"));
    for blocks in [1, 2] {
        let (reads, out_at) = (Cell::new(0), Cell::new(usize::MAX));
        let card = Card { bytes: whole.bytes(), reads: &reads, out_at: &out_at };
        Run { head: &head, blocks, kernels }.with(card, Solo, |encoder| {
            encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap();
            for read in 0.. {
                reads.set(0);
                out_at.set(read);
                let result = encoder.encode_from(Input::Text("a cat"), &mut ()).map(|found| hashes(&found));
                out_at.set(usize::MAX);
                match result {
                    Err(PassError::Source(StreamError::Storage { error: PulledOut, .. })) => {}
                    Ok(found) => {
                        assert!(read > 2, "hardly anything was read");
                        assert_eq!((found, reads.get()), (wanted, read));
                        break;
                    }
                    Err(error) => panic!("{error:?}"),
                }
                let again = hashes(&encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap());
                assert_eq!(again, wanted, "after read {read} failed");
            }
        });
    }
}

/// Each block is checked before its numbers are used: one that is damaged ends the pass by its place, or is not read at all.
#[test]
fn damage_is_found_wherever_it_is() {
    let whole = one_tower();
    let head = head(whole.bytes());
    let header = Header::read(whole.bytes()).unwrap();
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    let wanted = in_memory(whole.bytes(), kernels, Input::Text("a cat"));
    let mut found = 0;
    for block in 0..header.blocks() {
        let (offset, length) = header.block(block);
        if offset < head.len() as u64 {
            continue;
        }
        let mut damaged = whole.bytes().to_vec();
        damaged[(offset + length * (block % 7) / 7) as usize] ^= 1 << (block % 8);
        let (reads, out_at) = (Cell::new(0), Cell::new(usize::MAX));
        let card = Card { bytes: &damaged, reads: &reads, out_at: &out_at };
        Run { head: &head, blocks: 2, kernels }.with(card, Solo, |encoder| {
            match encoder.encode_from(Input::Text("a cat"), &mut ()).map(|found| hashes(&found)) {
                Ok(hashes) => assert_eq!(hashes, wanted),
                Err(error) => {
                    assert_eq!(error, PassError::Source(StreamError::Checksum { offset }));
                    found += 1;
                }
            }
        });
    }
    // All weights, and some of the rows of tables.
    assert!(found > 4, "{found}");
}

/// What is read of the weights is read once, and of the tables little.
#[test]
fn a_pass_reads_each_weight_once() {
    let whole = one_tower();
    let plan = Plan::load(whole.bytes()).unwrap();
    let head = head(whole.bytes());
    let weights = plan.steps().filter(|step| matches!(step.op, Op::Linear { .. }));
    let weights: u64 = weights.filter_map(|step| step.constant_bytes()).sum();
    let kernels = plan.kernels().unwrap();
    let (reads, out_at) = (Cell::new(0), Cell::new(usize::MAX));
    let card = Card { bytes: whole.bytes(), reads: &reads, out_at: &out_at };
    Run { head: &head, blocks: 4, kernels }.with(card, Solo, |encoder| {
        encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap();
        let read = encoder.source().bytes_read();
        // Blocks of a few tokens, scales, positions and norms.
        assert!((weights..weights + 16 * BLOCK as u64).contains(&read), "{read} of {weights}");
    });
}

/// A card that gives so many bytes a second, while others compute, and adds up how long it took over it.
struct Rated<'a> {
    bytes: &'a [u8],
    per_second: f64,
    took: &'a Cell<Duration>,
}

/// Reads at a card's pace; returns how long that really took.
fn paced(bytes: &[u8], per_second: f64, offset: u64, into: &mut [u8]) -> Duration {
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(into.len() as f64 / per_second));
    into.copy_from_slice(&bytes[offset as usize..][..into.len()]);
    start.elapsed()
}

impl Storage for Rated<'_> {
    type Error = PulledOut;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PulledOut> {
        self.took.set(self.took.get() + paced(self.bytes, self.per_second, offset, into));
        Ok(())
    }

    fn read_while(
        &mut self,
        offset: u64,
        into: &mut [u8],
        check: &(dyn Fn(&[u8]) + Sync),
        work: impl FnOnce(),
    ) -> Result<(), PulledOut> {
        let (bytes, per_second) = (self.bytes, self.per_second);
        let took = std::thread::scope(|scope| {
            let read = scope.spawn(|| {
                let took = paced(bytes, per_second, offset, into);
                check(into);
                took
            });
            work();
            read.join().unwrap()
        });
        self.took.set(self.took.get() + took);
        Ok(())
    }
}

/// Of a slow card the encoding takes the time: the arithmetic goes on meanwhile.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "an emulated core may be slower than the card")]
fn a_slow_card_sets_the_pace() {
    let whole = one_tower();
    let head = head(whole.bytes());
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    let took = Cell::new(Duration::ZERO);
    let card = Rated { bytes: whole.bytes(), per_second: 2e6, took: &took };
    Run { head: &head, blocks: BLOCKS, kernels }.with(card, Solo, |encoder| {
        let mut ratio = || {
            took.set(Duration::ZERO);
            let start = Instant::now();
            encoder.encode_from(Input::Text("a running dog"), &mut ()).unwrap();
            start.elapsed().as_secs_f64() / took.get().as_secs_f64()
        };
        // Once is enough: another program may take the cores at any time.
        let least = (0..10).map(|_| ratio()).find(|ratio| *ratio < 1.1);
        assert!(least.is_some(), "ten times more than 1.1 times what the card takes");
    });
}

/// `embedded_io` reads as little as it likes.
struct Slow<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl embedded_io::ErrorType for Slow<'_> {
    type Error = core::convert::Infallible;
}

impl embedded_io::Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let count = into.len().min(rest.len()).min(1 + self.at % 5000);
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl embedded_io::Seek for Slow<'_> {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> Result<u64, Self::Error> {
        let embedded_io::SeekFrom::Start(at) = to else { panic!("{to:?}") };
        self.at = at as usize;
        Ok(at)
    }
}

#[test]
fn short_reads_are_repeated_and_an_early_end_is_told() {
    let whole = one_tower();
    let head = head(whole.bytes());
    let kernels = Plan::load(whole.bytes()).unwrap().kernels().unwrap();
    let run = Run { head: &head, blocks: 2, kernels };
    run.with(Seekable(Slow { bytes: whole.bytes(), at: 0 }), Solo, |encoder| {
        let ours = hashes(&encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap());
        assert_eq!(ours, in_memory(whole.bytes(), kernels, Input::Text("a cat")));
    });
    let cut = &whole.bytes()[..whole.bytes().len() - 1];
    run.with(Seekable(Slow { bytes: cut, at: 0 }), Solo, |encoder| {
        let error = encoder.encode_from(Input::Text("a cat"), &mut ()).unwrap_err();
        let PassError::Source(StreamError::Storage { error: SeekableError::End, .. }) = error else {
            panic!("{error}")
        };
    });
}

#[test]
fn buffers_that_do_not_do_are_refused() {
    let whole = one_tower();
    let head = head(whole.bytes());
    let program = Program::load(&head).unwrap();
    let bytes = |blocks| Stream::<FileStorage>::buffer_bytes(&program, blocks);
    assert_eq!(bytes(0), Err(BufferError::Blocks { given: 0, most: 32 }));
    assert_eq!(bytes(33), Err(BufferError::Blocks { given: 33, most: 32 }));
    let least = bytes(1).unwrap();
    assert_eq!(bytes(3).unwrap(), least + 4 * BLOCK);
    let (reads, out_at) = (Cell::new(0), Cell::new(0));
    let mut buffer = AlignedBytes::zeroed(least);
    for (range, aligned) in [(0..least - 1, true), (1..least, false)] {
        let card = Card { bytes: whole.bytes(), reads: &reads, out_at: &out_at };
        let given = range.len();
        let error = Stream::new(&program, card, &mut buffer[range]).err();
        assert_eq!(error, Some(BufferError::Buffer { given, needed: least, aligned }));
    }
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
    let whole = one_tower();
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
