//! The first row, where the plan knows it: it is not computed, and nothing depends on what stands in its place.

mod common;

use cliptext::plan::{Format, Op, Place, Step};
use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, Plan, PlanFile};
use common::parts::Parts;
use common::{PROMPTS, hash, kernels_for, one_tower, two_towers};

const START: u32 = 49406;

/// What an encoder makes of `ids` in an arena full of `fill`: the bits of the hidden states and of the pooled row.
fn encode(plan: &Plan<'_>, ids: &[u32], fill: u8) -> [Vec<u32>; 2] {
    let mut found = kernels_for(plan).map(|kernels| {
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        arena.fill(fill);
        let mut encoder = Encoder::with(plan, &mut arena, kernels, Solo).unwrap();
        let embedding = encoder.encode_ids(ids).unwrap();
        [embedding.hidden(), embedding.pooled().unwrap()]
            .map(|values| values.iter().map(|value| value.to_bits()).collect())
    });
    let first = found.next().unwrap();
    assert!(found.all(|other| other == first), "kernels differ on {ids:?}");
    first
}

/// The plan and `ids` in an arena of zeros, which must be what they give in one of quiet NaNs (`0xffff_ffff`).
fn encode_anywhere(plan: &Plan<'_>, ids: &[u32]) -> [Vec<u32>; 2] {
    let zeros = encode(plan, ids, 0);
    assert!(encode(plan, ids, 0xff) == zeros, "stale values were read: {ids:?}");
    zeros
}

/// The plan without its `removed`th step of a cached row.
fn without(file: &PlanFile, removed: usize) -> Parts {
    let mut parts = Parts::of(file);
    let index = cached_rows(&parts).nth(removed).unwrap();
    parts.remove(index);
    parts
}

/// The steps that cache a row.
fn cached_rows(parts: &Parts) -> impl DoubleEndedIterator<Item = usize> {
    let is_cached = |index: &usize| matches!(parts.steps[*index].op, Op::CachedRow { .. });
    (0..parts.steps.len()).filter(is_cached)
}

/// The token of a step that caches a row.
fn token_of(step: &mut Step) -> Option<&mut u32> {
    match &mut step.op {
        Op::CachedRow { token } => Some(token),
        _ => None,
    }
}

/// A step that brings `rows` to length 1, behind `before`.
fn normalize(before: &Step, rows: Place) -> Step {
    Step { op: Op::Normalize, input: Some(rows), out: rows, ..*before }
}

/// Calls `f` with the plan that `parts` make.
fn with_plan(parts: &Parts, f: impl FnOnce(&Plan<'_>)) {
    let memory = AlignedBytes::copy_of(&parts.bytes());
    f(&Plan::load(&memory).unwrap());
}

#[test]
fn plans_tell_whose_first_row_is_known() {
    assert_eq!(Plan::load(one_tower().bytes()).unwrap().cached_token(), Some(START));
    assert_eq!(Plan::load(two_towers().bytes()).unwrap().cached_token(), None, "a plan without such steps");
}

#[test]
fn what_is_not_computed_is_not_read() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    for prompt in PROMPTS {
        let ids = plan.tokenizer().encode(prompt);
        encode_anywhere(&plan, ids.ids());
        encode_anywhere(&plan, ids.unpadded());
    }
    for ids in [&[START][..], &[START, 320], &[START, START, START], &[320, START], &[320], &[49407, START]] {
        encode_anywhere(&plan, ids);
    }
}

#[test]
fn the_start_token_alone_is_the_first_row_of_every_prompt() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let [alone, _] = encode_anywhere(&plan, &[START]);
    for prompt in PROMPTS {
        let [hidden, _] = encode_anywhere(&plan, plan.tokenizer().encode(prompt).ids());
        assert!(hidden[..plan.width()] == alone, "{prompt:?}");
    }
}

#[test]
fn a_row_that_is_known_in_some_places_only_is_computed() {
    let file = one_tower();
    let steps = cached_rows(&Parts::of(&file)).count();
    assert!(steps > 1);
    for removed in 0..steps {
        with_plan(&without(&file, removed), |plan| {
            assert_eq!(plan.cached_token(), None, "without step {removed}");
            encode_anywhere(plan, plan.tokenizer().encode(PROMPTS[1]).ids());
        });
    }
}

#[test]
fn rows_known_for_different_tokens_are_computed() {
    let mut parts = Parts::of(&one_tower());
    *parts.steps.iter_mut().rev().find_map(token_of).unwrap() = 320;
    with_plan(&parts, |plan| {
        assert_eq!(plan.cached_token(), None);
        encode_anywhere(plan, &[START, 320, 49407]);
        encode_anywhere(plan, &[320, START, 49407]);
    });
}

#[test]
fn of_a_known_row_normalizing_makes_a_known_one() {
    let mut parts = Parts::of(&one_tower());
    let last = *parts.steps.last().unwrap();
    parts.steps.push(Step { codes: None, second: None, ..normalize(&last, parts.manifest.hidden) });
    with_plan(&parts, |plan| {
        assert_eq!(plan.cached_token(), Some(START));
        let [hidden, _] = encode_anywhere(plan, &[START, 320, 49407]);
        for row in hidden.chunks_exact(plan.width()) {
            let length: f32 = row.iter().map(|&bits| f32::from_bits(bits).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
    });
}

#[test]
fn rows_normalized_before_they_are_known_are_computed() {
    let mut parts = Parts::of(&one_tower());
    let last = cached_rows(&parts).next_back().unwrap();
    let cached = parts.steps[last];
    parts.steps.insert(last, normalize(&cached, cached.out));
    with_plan(&parts, |plan| {
        assert_eq!(plan.cached_token(), None);
        encode_anywhere(plan, &[START, 320, 49407]);
    });
}

#[test]
fn prompts_that_begin_otherwise_are_computed_whole() {
    let file = one_tower();
    let ids = [320, 2761, 1929, 49407];
    let plan = Plan::load(file.bytes()).unwrap();
    let whole = encode_anywhere(&plan, &ids);
    let mut bare = Parts::of(&file);
    bare.steps.iter_mut().filter_map(token_of).for_each(|token| *token = 1);
    with_plan(&bare, |plan| {
        assert_eq!(plan.cached_token(), Some(1));
        assert!(encode_anywhere(plan, &ids) == whole);
    });
}

#[test]
fn a_second_prompt_s_first_row_is_the_first_s() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    arena.fill(0xff);
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    for pair in PROMPTS.windows(2) {
        let alone = [pair[0], pair[1]].map(|prompt| hash(encoder.encode(prompt).hidden()));
        let both = encoder.encode_pair([pair[0], pair[1]]).unwrap();
        assert_eq!(both.each_ref().map(|embedding| hash(embedding.hidden())), alone);
    }
}

#[test]
fn observers_are_told_which_rows_they_see() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    arena.fill(0xff);
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    encoder.encode_observed("a running dog", |observed| {
        let out = observed.step.out;
        if out.format == Format::Codes {
            return assert!(observed.values.is_empty());
        }
        let rows = usize::from(out.rows) - observed.first;
        assert_eq!(observed.values.len(), rows * out.columns as usize);
        let computed = matches!(observed.step.op, Op::Linear { .. } | Op::Norm { .. });
        assert_eq!(observed.first, usize::from(computed));
        assert!(observed.values.iter().all(|x| x.is_finite()));
    });
}
