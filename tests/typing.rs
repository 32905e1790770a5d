//! Rows that stay in the arena from one text to the next: what comes out is what it is without them.

mod common;

use std::cell::Cell;
use std::convert::Infallible;

use cliptext::plan::{Extent, Mask, Op, Place, Resident, Step};
use cliptext::threads::{Solo, Team, Threads};
use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Embedding, Encoder, Input, PassError, Plan, Sink, Source, StepOutput};
use common::parts::Parts;
use common::{PROMPTS, kernels_for, long, one_tower, two_towers, typing};

/// A generator of numbers below a bound.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

type Bits = (Vec<u32>, Option<Vec<u32>>, Vec<u32>, bool);

/// All that an embedding shows.
fn bits(embedding: &Embedding<'_>) -> Bits {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let ids = embedding.ids().to_vec();
    (bits(embedding.hidden()), embedding.pooled().map(bits), ids, embedding.is_truncated())
}

/// What was encoded in a pass of several.
#[derive(Default, PartialEq, Debug)]
struct Outputs(Vec<(usize, Vec<u32>)>);

impl Sink for Outputs {
    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        self.0.push((sequence, rows.iter().map(|value| value.to_bits()).collect()));
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        self.hidden(sequence, row);
    }
}

const WORDS: [&str; 10] =
    ["a", "dog", "in", "the rain", "!", ",", "<|endoftext|>", "ab", "<|startoftext|>", "x1"];

/// Edits a text as somebody does who types.
fn edit(text: &mut Vec<&'static str>, random: &mut Random) {
    let word = WORDS[random.below(WORDS.len())];
    match random.below(8) {
        0..4 => text.push(word),
        4 => text.truncate(text.len().saturating_sub(1 + random.below(3))),
        5 if !text.is_empty() => {
            let at = random.below(text.len());
            text[at] = word;
        }
        6 => text.clear(),
        7 => text.extend([word; 40]),
        _ => {}
    }
}

/// The ids of a text with a tail of padding, sometimes not that of any tower, and sometimes another beginning.
fn ids(plan: &Plan<'_>, text: &str, random: &mut Random) -> Vec<u32> {
    let tokens = plan.tokenizer().encode(text);
    let mut ids = tokens.unpadded().to_vec();
    match random.below(4) {
        0 => ids.resize(plan.context(), 0),
        1 => ids.truncate(1 + random.below(ids.len())),
        2 => ids[0] = 7,
        _ => {}
    }
    ids
}

/// Encodes texts as they are typed, and what comes between; returns how many rows were kept.
fn typed(plan: &Plan<'_>, kept: &mut Encoder<'_, &impl Team>, fresh: &mut Encoder<'_>, seed: u64) -> usize {
    let mut random = Random(seed);
    let (mut text, mut rows) = (Vec::new(), 0);
    for turn in 0..60 {
        edit(&mut text, &mut random);
        let text = text.join(" ");
        let ids = ids(plan, &text, &mut random);
        fresh.forget();
        let context = plan.context();
        match random.below(12) {
            0..4 => {
                let got = kept.encode(&text);
                rows += got.kept();
                assert!(bits(&got) == bits(&fresh.encode(&text)), "seed {seed}, turn {turn}: {text:?}");
            }
            4..8 => {
                let got = kept.encode_unpadded(&text);
                rows += got.kept();
                let want = fresh.encode_unpadded(&text);
                assert_eq!(want.kept(), 0);
                assert!(bits(&got) == bits(&want), "seed {seed}, turn {turn}, unpadded: {text:?}");
            }
            8 => {
                let got = kept.encode_ids(&ids).unwrap();
                rows += got.kept();
                assert!(
                    bits(&got) == bits(&fresh.encode_ids(&ids).unwrap()),
                    "seed {seed}, turn {turn}: {ids:?}"
                );
            }
            9 => {
                let got = kept.encode_pair([&text, "blurry"]).unwrap();
                assert!(got.iter().all(|embedding| embedding.kept() == 0));
                assert!(bits(&got[0]) == bits(&fresh.encode(&text)), "seed {seed}, turn {turn}: {text:?}");
            }
            10 => {
                let inputs = [Input::Unpadded(&text), Input::Unpadded("b"), Input::Ids(&ids[..1])];
                let inputs = &inputs[..1 + random.below(3)];
                let (mut got, mut want) = (Outputs::default(), Outputs::default());
                kept.pass(inputs, &mut got).unwrap();
                for (index, input) in inputs.iter().enumerate() {
                    fresh.forget();
                    let mut one = Outputs::default();
                    fresh.encode_from(*input, &mut one).unwrap();
                    want.0.extend(one.0.into_iter().map(|(_, values)| (index, values)));
                }
                assert!(got == want, "seed {seed}, turn {turn}: {inputs:?}");
            }
            _ => {
                // What is refused changes nothing.
                assert!(kept.encode_ids(&vec![1; context + 1]).is_err());
                assert!(kept.encode_into(Input::Text(&text), &mut [0.0]).is_err());
                assert!(kept.pass(&[Input::Text(&text), Input::Ids(&[])], &mut ()).is_err());
            }
        }
    }
    rows
}

/// Types on a plan with each kernel, alone and in a team, in an arena full of what others may have left there.
fn types(plan: &Plan<'_>, seeds: u64) -> usize {
    let (team, mut rows) = (Threads::start(2).unwrap(), 0);
    for kernels in kernels_for(plan) {
        for seed in 0..seeds {
            let [mut one, mut other] = [(); 2].map(|()| AlignedBytes::zeroed(plan.arena_bytes(3)));
            one.fill(0xff);
            let mut fresh = Encoder::with(plan, &mut other, kernels, Solo).unwrap();
            if seed % 2 == 0 {
                rows += typed(
                    plan,
                    &mut Encoder::with(plan, &mut one, kernels, &Solo).unwrap(),
                    &mut fresh,
                    seed,
                );
            } else {
                rows += typed(
                    plan,
                    &mut Encoder::with(plan, &mut one, kernels, &team).unwrap(),
                    &mut fresh,
                    seed,
                );
            }
        }
    }
    rows
}

/// The plan with other paddings.
fn padded(paddings: [Padding; 2]) -> AlignedBytes {
    let mut parts = Parts::of(&typing());
    let mut paddings = paddings.into_iter();
    for step in &mut parts.steps {
        if let Op::Embed(embed) = &mut step.op {
            embed.padding = paddings.next().unwrap();
        }
    }
    AlignedBytes::copy_of(&parts.bytes())
}

#[test]
fn plans_tell_whether_they_keep_rows() {
    assert!(Plan::load(typing().bytes()).unwrap().keeps_rows());
    for file in [one_tower(), two_towers(), long()] {
        assert!(!Plan::load(file.bytes()).unwrap().keeps_rows());
    }
    let mut parts = Parts::of(&typing());
    parts.steps.retain(|step| !matches!(step.op, Op::CachedRow { .. }));
    for step in &mut parts.steps {
        if let Op::Attention { mask, .. } = &mut step.op {
            *mask = Mask::None;
        }
    }
    let constants = Parts::of(&typing());
    parts.constants = constants
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| !matches!(step.op, Op::CachedRow { .. }))
        .flat_map(|(index, _)| constants.constants[constants.constants_of(index)].to_vec())
        .collect();
    let unmasked = AlignedBytes::copy_of(&parts.bytes());
    assert!(!Plan::load(&unmasked).unwrap().keeps_rows(), "rows that depend on those behind them");
}

#[test]
fn what_is_typed_is_what_it_is_alone() {
    let kinds = [Padding::End, Padding::Id(0), Padding::ZeroAfterEnd, Padding::Id(7)];
    let next = |index: usize| kinds[(index + 1) % kinds.len()];
    for (index, first) in kinds.into_iter().enumerate() {
        for second in [first, next(index)] {
            let bytes = padded([first, second]);
            let plan = Plan::load(&bytes).unwrap();
            assert!(plan.keeps_rows() && plan.cached_token().is_some());
            assert!(types(&plan, 2) > 100, "{first} and {second}");
        }
    }
    types(&Plan::load(typing().bytes()).unwrap(), 4);
    // Those that keep nothing.
    assert_eq!(types(&Plan::load(two_towers().bytes()).unwrap(), 1), 0);
}

/// Behind the row that is cached a step changes it: it must not be put back into rows that are kept.
#[test]
fn a_cached_row_that_later_steps_change_stays_changed() {
    let mut parts = Parts::of(&typing());
    let last = *parts.steps.last().unwrap();
    let hidden = parts.manifest.hidden;
    let cached = parts.steps.iter().rposition(|step| matches!(step.op, Op::CachedRow { .. })).unwrap();
    // A row for the joined hidden states, out of another's constants, then a change of it.
    let row = parts.constants_of(cached);
    let columns = hidden.columns as usize;
    let mut constants = parts.constants[row].to_vec();
    constants.resize((4 * columns).next_multiple_of(64), 0x3f);
    parts.constants.extend(constants);
    let Op::CachedRow { token } = parts.steps[cached].op else { panic!() };
    let step =
        |op| Step { op, input: Some(hidden), second: None, out: hidden, codes: None, scratch: None, ..last };
    parts.steps.extend([step(Op::CachedRow { token }), step(Op::Normalize)]);
    let bytes = AlignedBytes::copy_of(&parts.bytes());
    let plan = Plan::load(&bytes).unwrap();
    assert!(plan.keeps_rows());
    assert!(types(&plan, 2) > 100);
}

#[test]
fn as_many_rows_are_kept_as_texts_have_in_common() {
    let file = typing();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let own = |text: &str| plan.tokenizer().encode(text).len();
    let (first, second) = ("a dog", "a dog in the rain");
    assert_eq!(encoder.encode(first).kept(), 0);
    assert_eq!(encoder.encode(second).kept(), own(first) - 1, "all but the end token");
    assert_eq!(encoder.encode(second).kept(), 77, "the same again");
    assert_eq!(encoder.encode_unpadded(second).kept(), own(second));
    assert_eq!(encoder.encode(second).kept(), own(second), "the padding is new");
    assert_eq!(encoder.encode(first).kept(), own(first) - 1);
    assert_eq!(encoder.encode_unpadded("dog").kept(), 1, "the start token");
    encoder.forget();
    assert_eq!(encoder.encode_unpadded("dog").kept(), 0);
    let mut steps = 0;
    encoder.encode_observed("dog", |output| {
        steps += 1;
        assert!(output.first <= 1);
    });
    assert_eq!(steps, plan.step_count());
    let mut firsts = Vec::new();
    struct Firsts<'f>(&'f mut Vec<(usize, usize)>);
    impl Sink for Firsts<'_> {
        fn step(&mut self, output: StepOutput<'_>) {
            if !output.values.is_empty() {
                self.0.push((output.first, output.values.len() / output.step.out.columns as usize));
            }
        }
    }
    encoder.encode_from(Input::Text("dogs"), &mut Firsts(&mut firsts)).unwrap();
    let kept = encoder.encode("dogs").kept();
    assert_eq!(kept, 77);
    assert!(firsts.iter().all(|&(first, rows)| first + rows == 77 || (first, rows) == (0, 1)), "{firsts:?}");
    assert!(firsts.iter().any(|&(first, _)| first > 1), "{firsts:?}");
}

/// Constants in memory whose source fails after so many requests.
struct Failing<'s> {
    constants: Resident<'s>,
    left: &'s Cell<usize>,
}

impl Source for Failing<'_> {
    type Error = &'static str;

    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], Self::Error> {
        let left = self.left.get().checked_sub(1).ok_or("the card is gone")?;
        self.left.set(left);
        let Ok(found): Result<_, Infallible> = self.constants.get(extents);
        Ok(found)
    }
}

/// A sink that panics at a step.
struct Panicking(usize);

impl Sink for Panicking {
    fn step(&mut self, output: StepOutput<'_>) {
        assert!(output.index < self.0, "the sink is full");
    }
}

#[test]
fn what_ends_a_pass_early_leaves_nothing_to_the_next() {
    let file = typing();
    let plan = Plan::load(file.bytes()).unwrap();
    let [mut one, mut other] = [(); 2].map(|()| AlignedBytes::zeroed(plan.arena_bytes(1)));
    let mut fresh = Encoder::new(&plan, &mut other).unwrap();
    let left = Cell::new(usize::MAX);
    let source = Failing { constants: plan.constants(), left: &left };
    let kernels = plan.kernels().unwrap();
    let mut encoder = Encoder::over(plan.program(), source, &mut one, kernels, Solo).unwrap();
    let mut failed = 0;
    for requests in 0..4000 {
        left.set(usize::MAX);
        encoder.encode_from(Input::Text("a dog"), &mut ()).unwrap();
        left.set(requests);
        match encoder.encode_from(Input::Text("a dog in the rain"), &mut ()) {
            Err(error) => {
                assert_eq!(error, PassError::Source("the card is gone"));
                failed += 1;
            }
            Ok(got) => {
                assert!(got.kept() > 0);
                break;
            }
        }
        left.set(usize::MAX);
        for text in ["a dog in the snow", "a dog"] {
            fresh.forget();
            let got = encoder.encode_from(Input::Text(text), &mut ()).unwrap();
            assert!(bits(&got) == bits(&fresh.encode(text)), "{requests} requests, {text:?}");
        }
    }
    assert!((100..4000).contains(&failed), "{failed}");
    left.set(usize::MAX);
    for step in 0..plan.step_count() {
        encoder.encode_from(Input::Text("a dog"), &mut ()).unwrap();
        let panics = std::panic::AssertUnwindSafe(|| {
            let _ = encoder.encode_from(Input::Text("a dog in the rain"), &mut Panicking(step));
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        fresh.forget();
        let got = encoder.encode_from(Input::Text("a dog in the snow"), &mut ()).unwrap();
        assert_eq!(got.kept(), 0);
        assert!(bits(&got) == bits(&fresh.encode("a dog in the snow")), "a panic at step {step}");
    }
}

/// Every place laid over every other: what loads gives the same with rows of the text before as without.
#[test]
fn places_that_are_used_twice_keep_no_rows() {
    let parts = Parts::of(&typing());
    let mut places: Vec<Place> = Vec::new();
    for step in &parts.steps {
        for place in step.places() {
            if !places.contains(place) {
                places.push(*place);
            }
        }
    }
    let (mut kept, mut lost) = (0, 0);
    for moved in &places {
        for over in &places {
            let mut parts = parts.clone();
            let there =
                |place: Place| if place == *moved { Place { offset: over.offset, ..place } } else { place };
            parts.steps = parts.steps.iter().map(|step| step.map(there)).collect();
            parts.manifest.hidden = there(parts.manifest.hidden);
            parts.manifest.pooled = parts.manifest.pooled.map(there);
            let bytes = AlignedBytes::copy_of(&parts.bytes());
            let Ok(plan) = Plan::load(&bytes) else { continue };
            let counter = if plan.keeps_rows() { &mut kept } else { &mut lost };
            *counter += 1;
            let [mut one, mut other] = [(); 2].map(|()| AlignedBytes::zeroed(plan.arena_bytes(1)));
            one.fill(0xff);
            let mut encoder = Encoder::new(&plan, &mut one).unwrap();
            let mut fresh = Encoder::new(&plan, &mut other).unwrap();
            for text in ["a dog", "a dog in the rain", "a dog in the", "a dog in the", PROMPTS[2], "a dog"] {
                fresh.forget();
                let (got, want) = (encoder.encode_unpadded(text), fresh.encode_unpadded(text));
                assert!(got.kept() == 0 || plan.keeps_rows());
                assert!(bits(&got) == bits(&want), "{moved:?} over {over:?}: {text:?}");
            }
        }
    }
    // Places of the same offset among them; and values that others write over.
    assert!(kept > places.len() && lost > 10, "{kept} kept, {lost} lost, of {} places", places.len());
}
