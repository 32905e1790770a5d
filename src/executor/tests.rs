//! The demonstration plan through the whole executor: the same bytes whatever the kernel, the team and the pass.

use std::format;
use std::vec::Vec;

use super::*;
use crate::plan::Plan;
use crate::threads::{Solo, Threads};
use crate::{AlignedBytes, Kernels, include_plan};

const PROMPTS: [&str; 4] =
    ["", "a photo of a cat", "low quality, blurry", "a ä 猫 🐈 of some longer kind, oil on canvas"];

fn plan() -> Plan<'static> {
    Plan::load(include_plan!("../../models/demo.plan")).unwrap()
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
