//! Encoding takes no more stack than its documentation says.

// Without optimization frames are larger than on any board.
#![cfg(not(debug_assertions))]

mod common;

use cliptext::plan::MAX_SEQUENCES;
use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
use cliptext::threads::Solo;
use cliptext::{
    AlignedBytes, Encoder, ImageEncoder, ImagePlan, Input, Kernels, Pack, Plan, PlanFile, PlanHash,
};
use common::{PROMPTS, image, kernels_for, long, one_tower, pack, two_towers, typing};

/// What `Encoder` promises.
const STACK: usize = if cfg!(target_arch = "aarch64") { 16 << 10 } else { 32 << 10 };
/// What a thread has besides: its start, and its thread-local values.
const THREAD: usize = 8 << 10;

/// Loads a plan and encodes with each kernel, in a thread whose stack ends the program where it is not enough.
fn encode(file: PlanFile) {
    let work = move || {
        let plan = Plan::load(file.bytes()).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(MAX_SEQUENCES));
        // Memory of the caller's, as the arena is.
        let mut prompt = Box::new(Prompt::new());
        let mut hidden = vec![0.0; 2 * plan.context() * plan.width()];
        for kernels in kernels_for(&plan) {
            let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
            for text in ["a (b:1.2) [c] BREAK d", PROMPTS[5]] {
                for weighting in [Weighting::A1111, Weighting::Comfy] {
                    let options = Options { weighting, chunks: Chunks::Exactly(2), comma: 20 };
                    prompt.read(plan.tokenizer(), text, options).unwrap();
                    encoder.encode_prompt(&prompt, None, &mut hidden, None).unwrap();
                }
            }
            for prompt in PROMPTS {
                std::hint::black_box(encoder.encode(prompt).hidden());
                std::hint::black_box(encoder.encode_unpadded(prompt).hidden());
                std::hint::black_box(encoder.encode_pair([prompt, PROMPTS[1]]).unwrap()[1].hidden());
                encoder.pass(&[Input::Text(prompt); MAX_SEQUENCES], &mut ()).unwrap();
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK + THREAD).spawn(work).unwrap().join().unwrap();
}

/// The same for images.
fn encode_images(file: PlanFile) {
    let work = move || {
        let plan = ImagePlan::load(file.bytes()).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(MAX_SEQUENCES));
        let image = vec![77; plan.grid().bytes()];
        let packing = plan.manifest().packing;
        for kernels in Kernels::available().filter(|kernels| kernels.reads(packing)) {
            let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
            std::hint::black_box(encoder.encode(&image).unwrap().hidden());
            encoder.pass(&[&image[..]; MAX_SEQUENCES], &mut ()).unwrap();
        }
    };
    std::thread::Builder::new().stack_size(STACK + THREAD).spawn(work).unwrap().join().unwrap();
}

#[test]
fn loading_and_encoding_take_the_stack_that_is_told() {
    for target in ["generic", "neon", "i8mm"] {
        encode_images(image(target));
    }
    encode(one_tower());
    encode(two_towers());
    encode(long());
    encode(typing());
}

/// What reading a pack and hashing a plan's front take.
const SMALL: usize = 4 << 10;

#[test]
fn packs_and_hashes_take_little() {
    let (file, bytes) = (one_tower(), pack(&one_tower()));
    let mut hidden = vec![0.0; 77 * 32];
    let work = move || {
        let pack = Pack::load(&bytes).unwrap();
        pack.find("dog").unwrap().hidden().copy_to(&mut hidden).unwrap();
        assert!(pack.manifest().plan_hash() == PlanHash::of_front(file.bytes()).unwrap());
    };
    std::thread::Builder::new().stack_size(SMALL + THREAD).spawn(work).unwrap().join().unwrap();
}

mod serving {
    use cliptext::serve::{Chunks, Client, Counters, Encode, Receiver, Request, Server};

    use super::*;

    /// Answers requests, of which the frames and the server itself are in memory of their own, as a board has them in a `static`.
    #[test]
    fn serving_takes_the_stack_that_is_told() {
        let (mut client, mut request) = (Vec::new(), vec![0; 4096]);
        let long = "a very long prompt, ".repeat(25);
        for chunks in [Chunks::One, Chunks::Auto] {
            let texts = [&long[..], PROMPTS[1]].into_iter().collect();
            let mut asker = Client::new(Bytes(&mut client), &mut []);
            asker.ask(&Request::Hello).unwrap();
            asker.ask(&Request::Tokenize { text: PROMPTS[5] }).unwrap();
            asker.ask(&Request::Encode(Encode { texts, chunks, ..Encode::default() })).unwrap();
        }
        for file in [one_tower(), two_towers()] {
            let plan = Plan::load(file.bytes()).unwrap();
            for kernels in kernels_for(&plan) {
                let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
                let counters = Counters::new();
                let encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
                let mut prompt = Prompt::new();
                let mut server = Box::new(Server::new(encoder, &counters, &mut prompt));
                let (mut receiver, mut out) = (Receiver::new(&mut request), Vec::new());
                std::thread::scope(|scope| {
                    let work = || server.feed(&mut receiver, &client, &mut Bytes(&mut out)).unwrap();
                    let thread = std::thread::Builder::new().stack_size(STACK + THREAD);
                    thread.spawn_scoped(scope, work).unwrap().join().unwrap();
                });
                assert_eq!(counters.statistics().answered, 6);
            }
        }
    }

    /// A line that keeps what is written.
    struct Bytes<'b>(&'b mut Vec<u8>);

    impl embedded_io::ErrorType for Bytes<'_> {
        type Error = std::convert::Infallible;
    }

    impl embedded_io::Write for Bytes<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    impl embedded_io::Read for Bytes<'_> {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
            Ok(0)
        }
    }
}
