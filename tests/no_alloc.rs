//! From the first byte of a prompt to the last byte of its embedding nothing is allocated.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cliptext::prompt::{Chunks, MAX_CHUNKS, Options, Prompt, Weighting};
use cliptext::threads::{Solo, Team, Threads};
use cliptext::{AlignedBytes, Encoder, ImageEncoder, ImagePlan, Pack, Plan, PlanFile};
use common::{PROMPTS, image, kernels_for, one_tower, pack, two_towers, typing};

/// Counts what the current thread asks of the heap.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nothing to count.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn calls() -> usize {
    CALLS.with(Cell::get)
}

fn encodes_without_heap(team: impl Team) {
    for file in [one_tower(), two_towers(), typing()] {
        encodes_plan_without_heap(&file, &team);
    }
}

fn encodes_plan_without_heap(file: &PlanFile, team: &impl Team) {
    let plan = Plan::load(file.bytes()).unwrap();
    let long = "word ".repeat(100_000);
    for kernels in kernels_for(&plan) {
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, team).unwrap();
        let mut hidden = vec![0.0; MAX_CHUNKS * plan.context() * plan.width()];
        let mut read = Prompt::new();
        for text in ["a (b:1.2) [c] BREAK d", &long] {
            for weighting in [Weighting::None, Weighting::A1111, Weighting::Comfy] {
                let before = calls();
                let options = Options { weighting, chunks: Chunks::Exactly(2), comma: 20 };
                read.read(plan.tokenizer(), text, options).unwrap();
                let hidden = &mut hidden[..read.chunks() * plan.context() * plan.width()];
                encoder.encode_prompt(&read, None, hidden, None).unwrap();
                assert_eq!(calls() - before, 0, "{} {text:.40?}", kernels.name());
            }
        }
        for prompt in PROMPTS.into_iter().chain([long.as_str()]) {
            let before = calls();
            let last = encoder.encode(prompt).hidden().last().copied();
            let unpadded = encoder.encode_unpadded(prompt).pooled().map(<[f32]>::len);
            let after = calls();
            assert!(last.is_some() && unpadded.is_some());
            assert_eq!(after - before, 0, "{} {prompt:.40?}", kernels.name());
        }
    }
}

#[test]
fn images_are_encoded_without_heap() {
    let file = image("generic");
    let before = calls();
    let plan = ImagePlan::load(file.bytes()).unwrap();
    assert_eq!(calls() - before, 0);
    let pixels = vec![9; plan.grid().bytes()];
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let mut encoder = ImageEncoder::new(&plan, &mut arena).unwrap();
    let before = calls();
    assert!(encoder.encode(&pixels).unwrap().pooled().is_some());
    encoder.pass(&[&pixels, &pixels], &mut ()).unwrap();
    assert_eq!(calls() - before, 0);
}

#[test]
fn the_counter_counts() {
    let before = calls();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(calls() - before, 2);
}

#[test]
fn alone() {
    encodes_without_heap(Solo);
}

#[test]
fn in_a_team() {
    encodes_without_heap(Threads::start(2).unwrap());
}

#[test]
fn loading_a_plan_takes_no_heap_either() {
    let file = one_tower();
    let before = calls();
    assert!(Plan::load(file.bytes()).is_ok());
    assert_eq!(calls() - before, 0);
}

#[test]
fn a_pack_is_read_without_heap() {
    let bytes = pack(&one_tower());
    let mut hidden = vec![0.0; 77 * 32];
    let before = calls();
    let pack = Pack::load(&bytes).unwrap();
    let entry = pack.find("dog").unwrap();
    entry.hidden().copy_to(&mut hidden).unwrap();
    let count = pack.entries().filter(|entry| entry.pooled().is_some() && !entry.prompt().is_empty()).count();
    assert_eq!((calls() - before, count), (0, 1));
    assert!(hidden.iter().any(|&value| value != 0.0));
}

mod serving {
    use std::convert::Infallible;

    use cliptext::serve::{Chunks, Client, Counters, Encode, Receiver, Request, Server};
    use embedded_io::{ErrorType, Read, Write};

    use super::*;

    #[test]
    fn answering_requests_takes_no_heap_either() {
        let file = one_tower();
        let plan = Plan::load(file.bytes()).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
        let counters = Counters::new();
        let mut prompt = Prompt::new();
        let mut server = Server::new(Encoder::new(&plan, &mut arena).unwrap(), &counters, &mut prompt);
        let mut line = Line { asked: vec![], read: 0, answered: 0 };
        let mut client = Client::new(&mut line, &mut []);
        for chunks in [Chunks::One, Chunks::Auto] {
            let texts = PROMPTS.into_iter().collect();
            client.ask(&Request::Encode(Encode { texts, chunks, ..Encode::default() })).unwrap();
        }
        client.ask(&Request::Hello).unwrap();
        line.asked.extend(b"noise\0, and a frame that is damaged\0");
        let mut buffer = [0; 1024];
        let before = calls();
        server.serve(&mut Served(&mut line), &mut Receiver::new(&mut buffer)).unwrap();
        assert_eq!(calls() - before, 0);
        assert!(
            counters.statistics().answered == 3 && line.answered > 100_000,
            "{:?}",
            counters.statistics()
        );
    }

    /// What a client asked, and how many bytes it was answered.
    struct Line {
        asked: Vec<u8>,
        read: usize,
        answered: usize,
    }

    impl ErrorType for Line {
        type Error = Infallible;
    }

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            self.asked.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    impl Read for Line {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
            Ok(0)
        }
    }

    /// The line's other end.
    struct Served<'l>(&'l mut Line);

    impl ErrorType for Served<'_> {
        type Error = Infallible;
    }

    impl Write for Served<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
            self.0.answered += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    impl Read for Served<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
            let rest = &self.0.asked[self.0.read..];
            let count = rest.len().min(bytes.len());
            bytes[..count].copy_from_slice(&rest[..count]);
            self.0.read += count;
            Ok(count)
        }
    }
}
