//! A plan of one text tower through the whole executor: the same bytes whatever the kernel, the team and the pass.

use std::format;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

use super::*;
use crate::kernels::Kernels;
use crate::kernels::float_mode::hostile;
use crate::kernels::set::{KernelSet, MixError};
use crate::plan::Plan;
use crate::threads::{Solo, Team, Threads};
use crate::{AlignedBytes, include_plan};

const PROMPTS: [&str; 4] =
    ["", "a photo of a cat", "low quality, blurry", "a ä 猫 🐈 of some longer kind, oil on canvas"];

fn plan() -> Plan<'static> {
    Plan::load(include_plan!("../../tests/fixtures/one-tower.plan")).unwrap()
}

/// Hidden and pooled values by their bits.
fn bits(embedding: &Embedding<'_>) -> (Vec<u32>, Option<Vec<u32>>) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    (bits(embedding.hidden()), embedding.pooled().map(bits))
}

/// Runs `f` with an encoder over two sequences' arena for each kernel and several teams.
fn everywhere(plan: &Plan<'_>, mut f: impl FnMut(&str, &mut Encoder<'_, &Threads>)) {
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(2));
    for threads in [1, 2, 3, 8] {
        let team = Threads::start(threads).unwrap();
        for kernels in Kernels::available().filter(|kernels| kernels.reads(plan.manifest().packing)) {
            let name = format!("{} on {threads}", kernels.name());
            f(&name, &mut Encoder::with(plan, &mut memory, kernels, &team).unwrap());
        }
    }
}

#[test]
fn every_kernel_and_team_gives_the_same_bytes() {
    let plan = plan();
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    let scalar = Kernels::named("scalar").unwrap();
    let mut reference = Encoder::with(&plan, &mut memory, scalar, Solo).unwrap();
    for prompt in PROMPTS {
        let want = bits(&reference.encode(prompt));
        everywhere(&plan, |name, encoder| assert!(bits(&encoder.encode(prompt)) == want, "{name}: {prompt}"));
    }
}

#[test]
fn a_pair_is_two_single_encodings() {
    let plan = plan();
    everywhere(&plan, |name, encoder| {
        for first in PROMPTS {
            for second in PROMPTS {
                let single = [first, second].map(|text| bits(&encoder.encode(text)));
                let pair = encoder.encode_pair([first, second]).unwrap();
                assert!(pair.each_ref().map(bits) == single, "{name}: {first:?} and {second:?}");
                let single = [first, second].map(|text| bits(&encoder.encode_unpadded(text)));
                let pair = encoder.encode_pair_unpadded([first, second]).unwrap();
                assert!(pair.each_ref().map(bits) == single, "{name}, unpadded: {first:?} and {second:?}");
                for (embedding, text) in pair.iter().zip([first, second]) {
                    assert_eq!(embedding.ids(), plan.tokenizer().encode(text).unpadded());
                }
            }
        }
    });
}

#[test]
fn the_observer_sees_every_step_in_order() {
    let plan = plan();
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut memory).unwrap();
    let mut seen = Vec::new();
    let mut hidden = Vec::new();
    let embedding = encoder.encode_observed("a cat", |observed| {
        seen.push((observed.index, *observed.step));
        if observed.step.out == plan.manifest().hidden {
            hidden = observed.values.to_vec();
        }
    });
    assert_eq!(embedding.hidden(), hidden);
    let steps: Vec<_> = plan.steps().enumerate().collect();
    assert_eq!(seen, steps);
}

/// Takes turns: task `n` is worker `n mod workers`'s, on one thread.
struct Turns(usize);

// SAFETY: one task after the other.
#[allow(unsafe_code)]
unsafe impl Team for Turns {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        (0..tasks).for_each(|number| task(number % self.0, number));
    }

    fn workers(&self) -> usize {
        self.0
    }
}

#[test]
fn workers_with_different_kernels_give_the_same_bytes() {
    let plan = plan();
    let packing = plan.manifest().packing;
    let all: Vec<Kernels> = Kernels::available().filter(|kernels| kernels.reads(packing)).collect();
    let (mut memory, mut other) =
        (AlignedBytes::zeroed(plan.arena_bytes(1)), AlignedBytes::zeroed(plan.arena_bytes(1)));
    let scalar = Kernels::named("scalar").unwrap();
    let mut reference = Encoder::with(&plan, &mut memory, scalar, Solo).unwrap();
    for pair in all.iter().flat_map(|&first| all.iter().map(move |&second| [first, second])) {
        let mixed = match KernelSet::per_worker(&pair) {
            Ok(mixed) => mixed,
            Err(error) => {
                assert!(matches!(error, MixError::Codes { .. }) && pair[0] != pair[1], "{error}");
                continue;
            }
        };
        // The third worker runs the first's.
        let mut encoder = Encoder::with(&plan, &mut other, mixed, Turns(3)).unwrap();
        for prompt in PROMPTS {
            let want = bits(&reference.encode(prompt));
            assert!(bits(&encoder.encode(prompt)) == want, "{pair:?}: {prompt}");
        }
    }
    assert_eq!(KernelSet::per_worker(&[]).unwrap_err(), MixError::Empty);
}

#[test]
fn the_host_s_floating_point_mode_changes_nothing_and_stays() {
    let plan = plan();
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    for kernels in Kernels::available().filter(|kernels| kernels.reads(plan.manifest().packing)) {
        let team = Threads::start(3).unwrap();
        let mut encoder = Encoder::with(&plan, &mut memory, kernels, &team).unwrap();
        let want = PROMPTS.map(|prompt| bits(&encoder.encode(prompt)));
        // Each worker waits until all have come, so that all are set.
        let everywhere = |what: &(dyn Fn() + Sync)| {
            let come = AtomicUsize::new(0);
            team.run(3, &|_, _| {
                come.fetch_add(1, Ordering::SeqCst);
                while come.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
                what();
            });
        };
        everywhere(&hostile::set);
        for (prompt, want) in PROMPTS.into_iter().zip(&want) {
            assert!(bits(&encoder.encode(prompt)) == *want, "{}: {prompt}", kernels.name());
        }
        everywhere(&|| assert!(hostile::is_set()));
        everywhere(&hostile::unset);
    }
}
