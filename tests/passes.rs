//! Inputs and sinks: what goes into a pass, and where its rows go.

mod common;

use cliptext::plan::{Axis, Mask, Op, Place, Step};
use cliptext::threads::{Solo, Team, Threads};
use cliptext::{
    AlignedBytes, Encoder, EncoderError, IdsError, Input, MAX_SEQUENCES, PassError, Plan, PlanFile, Sink,
    StepOutput,
};
use common::parts::Parts;
use common::{PROMPTS, hash, kernels_for, long, one_tower, two_towers};

/// Keeps a copy of what it is given.
#[derive(Default)]
struct Kept {
    steps: usize,
    hidden: Vec<(usize, u32)>,
    pooled: Vec<(usize, u32)>,
}

impl Sink for Kept {
    fn step(&mut self, output: StepOutput<'_>) {
        assert_eq!(output.index, self.steps);
        assert!(self.hidden.is_empty(), "the outputs come last");
        self.steps += 1;
    }

    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        self.hidden.push((sequence, hash(rows)));
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        self.pooled.push((sequence, hash(row)));
    }
}

#[test]
fn a_sink_is_given_what_the_embedding_shows() {
    for file in [one_tower(), two_towers()] {
        let plan = Plan::load(file.bytes()).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let ids = plan.tokenizer().encode("a cat").unpadded().to_vec();
        let inputs = [Input::Text("a dog"), Input::Unpadded("a dog"), Input::Ids(&ids)];
        let alone = inputs.map(|input| {
            let mut kept = Kept::default();
            let shown = encoder.encode_from(input, &mut kept).unwrap();
            assert_eq!(kept.hidden, [(0, hash(shown.hidden()))]);
            assert_eq!(kept.pooled, [(0, hash(shown.pooled().unwrap()))]);
            assert_eq!(kept.steps, plan.step_count());
            (kept.hidden[0].1, kept.pooled[0].1)
        });
        for first in 0..inputs.len() {
            for second in 0..inputs.len() {
                let mut kept = Kept::default();
                encoder.pass(&[inputs[first], inputs[second]], &mut kept).unwrap();
                assert_eq!(kept.hidden, [(0, alone[first].0), (1, alone[second].0)]);
                assert_eq!(kept.pooled, [(0, alone[first].1), (1, alone[second].1)]);
            }
        }
    }
}

/// Texts of one to ten tokens of their own.
const SHORT: [&str; 7] = ["cat", "", "a dog", "traffic light", "a b c", "12", "x y, z!"];

/// Inputs of all kinds, as many as `seed` says, and the rows that they have together.
fn inputs<'i>(plan: &Plan<'_>, ids: &'i [Vec<u32>], seed: usize) -> (Vec<Input<'i>>, usize) {
    let input = |at: usize| match (seed + at) % 5 {
        0 => Input::Text(PROMPTS[(seed * 3 + at) % PROMPTS.len()]),
        1 => Input::Ids(&ids[(seed + 2 * at) % ids.len()]),
        _ => Input::Unpadded(SHORT[(seed * at + at) % SHORT.len()]),
    };
    let inputs: Vec<_> = (0..1 + seed % MAX_SEQUENCES).map(input).collect();
    let rows = |input: &Input<'_>| match *input {
        Input::Ids(ids) => ids.len(),
        Input::Unpadded(text) if plan.is_causal() => plan.tokenizer().encode(text).len(),
        _ => plan.context(),
    };
    let all = inputs.iter().map(rows).sum();
    (inputs, all)
}

/// Passes over up to sixteen inputs, each in an arena of the size that is told, full of what others may have left there.
fn passes_give_what_each_input_gives_alone(plan: &Plan<'_>, team: &impl Team) {
    let tokenizer = plan.tokenizer();
    let ids: Vec<Vec<u32>> = SHORT.map(|text| tokenizer.encode(text).unpadded().to_vec()).into();
    for kernels in kernels_for(plan) {
        let mut one = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut alone = Encoder::with(plan, &mut one, kernels, Solo).unwrap();
        for seed in (0..MAX_SEQUENCES).step_by(3) {
            let (inputs, rows) = inputs(plan, &ids, seed);
            let mut want = Kept::default();
            for (index, input) in inputs.iter().enumerate() {
                let shown = alone.encode_from(*input, &mut ()).unwrap();
                want.hidden.push((index, hash(shown.hidden())));
                want.pooled.extend(shown.pooled().map(|row| (index, hash(row))));
            }
            let bytes = plan.pass_bytes(inputs.len(), rows).max(plan.arena_bytes(1));
            let mut arena = AlignedBytes::zeroed(bytes);
            arena.fill(0xff);
            let mut got = Kept::default();
            Encoder::with(plan, &mut arena, kernels, team).unwrap().pass(&inputs, &mut got).unwrap();
            assert_eq!(got.hidden, want.hidden, "{}, {inputs:?}", kernels.name());
            assert_eq!(got.pooled, want.pooled, "{}, {inputs:?}", kernels.name());
        }
    }
}

/// The plan with the places of sequences in front of those of tokens, where both grow with the sequences.
fn mixed(file: &PlanFile) -> Parts {
    let mut parts = Parts::of(file);
    let scratch: Vec<Place> = parts.steps.iter().filter_map(|step| step.scratch).collect();
    let of_tokens = |place: &Place| place.axis == Axis::Token || scratch.contains(place);
    let places = || parts.steps.iter().flat_map(|step| step.places());
    let end = places().filter(|place| of_tokens(place)).map(|place| place.offset + place.bytes() as u32);
    let end = end.max().unwrap();
    let behind = parts.manifest.arena_bytes - end;
    let moved = |place: Place| {
        let offset = if of_tokens(&place) { place.offset + behind } else { place.offset - end };
        Place { offset, ..place }
    };
    parts.steps = parts.steps.iter().map(|step| step.map(moved)).collect();
    parts.manifest.hidden = moved(parts.manifest.hidden);
    parts.manifest.pooled = parts.manifest.pooled.map(moved);
    parts
}

#[test]
fn a_pass_of_many_is_many_passes_of_one() {
    let files = [one_tower(), two_towers(), long()];
    let kept: Vec<AlignedBytes> = files
        .iter()
        .map(|file| AlignedBytes::copy_of(file.bytes()))
        .chain([AlignedBytes::copy_of(&mixed(&files[1]).bytes()), unmasked()])
        .collect();
    for bytes in &kept {
        let plan = Plan::load(bytes).unwrap();
        passes_give_what_each_input_gives_alone(&plan, &Solo);
        passes_give_what_each_input_gives_alone(&plan, &Threads::start(2).unwrap());
    }
    // More workers than there are places for attention's working memory.
    let plan = Plan::load(&kept[1]).unwrap();
    passes_give_what_each_input_gives_alone(&plan, &Threads::start(9).unwrap());
}

#[test]
fn short_texts_take_little_more_arena_than_a_prompt() {
    for file in [one_tower(), two_towers(), long()] {
        let plan = Plan::load(file.bytes()).unwrap();
        let (one, context) = (plan.arena_bytes(1), plan.context());
        assert_eq!(plan.pass_bytes(1, 5), one);
        assert_eq!(plan.pass_bytes(2, 2 * context), 2 * one);
        let many = plan.pass_bytes(MAX_SEQUENCES, context);
        assert!(many > one && many < 2 * one, "{many}, {one}");
        assert_eq!(plan.arena_bytes(usize::MAX), usize::MAX, "no size wraps");
        let texts = [Input::Unpadded("a"); MAX_SEQUENCES];
        let needed = plan.pass_bytes(MAX_SEQUENCES, 3 * MAX_SEQUENCES);
        let mut arena = AlignedBytes::zeroed(needed);
        Encoder::new(&plan, &mut arena).unwrap().pass(&texts, &mut ()).unwrap();
        let given = needed - 1;
        let mut encoder = Encoder::new(&plan, &mut arena[..given]).unwrap();
        let error = encoder.pass(&texts, &mut ()).unwrap_err();
        assert_eq!(error, PassError::Arena(EncoderError::ArenaTooSmall { needed, given }));
        encoder.pass(&texts[..2], &mut ()).unwrap();
        assert!(encoder.encode_pair_unpadded(["a", "b"]).is_ok());
    }
    let old = AlignedBytes::copy_of(&mixed(&two_towers()).bytes());
    let plan = Plan::load(&old).unwrap();
    assert_eq!(plan.pass_bytes(3, 20), plan.arena_bytes(3), "a plan whose places are mixed");
}

/// A prompt of more tokens than the context, in parts, each between a start and an end token: the parts' rows one behind the
/// other in memory of the caller's, while the arena is used again.
#[test]
fn parts_of_a_long_prompt_are_copied_out_of_the_arena() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let (start, end) = (49406, 49407);
    let words: Vec<u32> = (0..200).map(|word| 320 + word * 7).collect();
    let parts: Vec<Vec<u32>> = words
        .chunks(75)
        .map(|part| {
            let mut ids = [&[start], part].concat();
            ids.resize(77, end);
            ids
        })
        .collect();
    let part = 77 * plan.width();
    for kernels in kernels_for(&plan) {
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        let mut all = vec![f32::NAN; parts.len() * part];
        for (ids, rows) in parts.iter().zip(all.chunks_exact_mut(part)) {
            let shown = encoder.encode_into(Input::Ids(ids), rows).unwrap();
            assert_eq!((shown.tokens(), shown.ids()), (77, &ids[..]));
        }
        for (ids, rows) in parts.iter().zip(all.chunks_exact(part)) {
            assert_eq!(hash(encoder.encode_ids(ids).unwrap().hidden()), hash(rows), "{}", kernels.name());
        }
        let mut rows = vec![7.0; part - 1];
        let error = encoder.encode_into(Input::Ids(&parts[0]), &mut rows).unwrap_err();
        assert_eq!(error, PassError::Length { given: part - 1, needed: part });
        assert!(rows.iter().all(|&value| value == 7.0));
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let (needed, given) = (plan.arena_bytes(2), plan.arena_bytes(1));
    let mut arena = AlignedBytes::zeroed(given);
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let mut error = |inputs: &[Input<'_>]| encoder.pass(inputs, &mut ()).unwrap_err();
    let text = Input::Text("a cat");
    assert_eq!(error(&[]), PassError::Inputs { given: 0 });
    assert_eq!(error(&[text; MAX_SEQUENCES + 1]), PassError::Inputs { given: MAX_SEQUENCES + 1 });
    assert_eq!(error(&[text; 2]), PassError::Arena(EncoderError::ArenaTooSmall { needed, given }));
    assert_eq!(error(&[Input::Ids(&[])]), PassError::Ids(IdsError::Count { given: 0, context: 77 }));
    assert_eq!(error(&[Input::Ids(&[49408])]), PassError::Ids(IdsError::Range { id: 49408, rows: 49408 }));
}

/// An encoder borrows nothing but bytes, and is small: a program in C can keep one in memory of its own.
#[test]
fn an_encoder_is_small_and_outlives_its_plan_view() {
    assert!(size_of::<Encoder<'_>>() <= 1024, "{} bytes", size_of::<Encoder<'_>>());
    assert!(size_of::<Plan<'_>>() <= 1024, "{} bytes", size_of::<Plan<'_>>());
    let file = one_tower();
    let mut arena = AlignedBytes::zeroed(1 << 20);
    let mut encoder = {
        let plan = file.plan().unwrap();
        Encoder::new(&plan, &mut arena).unwrap()
    };
    assert_eq!(encoder.encode(PROMPTS[1]).tokens(), 77);
}

/// A row without a direction stays: 0/0 would be a NaN, whose bits differ among CPUs.
#[test]
fn a_row_of_zeros_is_normalized_to_itself() {
    let mut parts = Parts::of(&two_towers());
    // The projection's weights, scales and biases: zeros make zeros.
    let projection = parts.steps.iter().rposition(|step| step.panels().is_some()).unwrap();
    let range = parts.constants_of(projection);
    parts.constants[range].fill(0);
    let last = parts.steps[projection];
    let (op, input) = (Op::Normalize, Some(last.out));
    parts.steps.insert(projection + 1, Step { op, input, second: None, codes: None, ..last });
    let bytes = AlignedBytes::copy_of(&parts.bytes());
    let plan = Plan::load(&bytes).unwrap();
    for kernels in kernels_for(&plan) {
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        let pooled = encoder.encode(PROMPTS[1]);
        let pooled = pooled.pooled().unwrap();
        assert!(pooled.len() == 20 && pooled.iter().all(|value| value.to_bits() == 0), "{pooled:?}");
    }
}

/// The plan with attention that sees every row.
fn unmasked() -> AlignedBytes {
    let mut parts = Parts::of(&two_towers());
    for step in &mut parts.steps {
        if let Op::Attention { mask, .. } = &mut step.op {
            *mask = Mask::None;
        }
    }
    AlignedBytes::copy_of(&parts.bytes())
}

/// Attention as the specification has it, in f64, of `rows` rows of queries, keys and values side by side.
fn attention(qkv: &[f32], rows: usize, heads: usize, scale: f64) -> Vec<f64> {
    let width = qkv.len() / rows / 3;
    let channels = width / heads;
    let vector = |row: usize, part: usize, head: usize| {
        let start = (3 * row + part) * width + head * channels;
        qkv[start..start + channels].iter().map(|&value| f64::from(value))
    };
    let mut out = vec![0.0; rows * width];
    for row in 0..rows {
        for head in 0..heads {
            let score =
                |other| vector(row, 0, head).zip(vector(other, 1, head)).map(|(q, k)| q * k).sum::<f64>();
            let weights: Vec<f64> = (0..rows).map(|other| (scale * score(other)).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (other, weight) in weights.iter().enumerate() {
                for (channel, value) in vector(other, 2, head).enumerate() {
                    out[row * width + head * channels + channel] += weight / total * value;
                }
            }
        }
    }
    out
}

#[test]
fn attention_without_a_mask_sees_every_row() {
    let bytes = unmasked();
    let plan = Plan::load(&bytes).unwrap();
    assert!(!plan.is_causal() && plan.towers().all(|tower| tower.mask == Mask::None));
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let (mut qkv, mut compared) = (Vec::new(), 0);
    encoder.encode_observed(PROMPTS[2], |output| {
        if let Op::Attention { heads, scale, .. } = output.step.op {
            let exact = attention(&qkv, output.step.out.rows.into(), heads.into(), scale.into());
            let close =
                |(&ours, exact): (&f32, f64)| (f64::from(ours) - exact).abs() < 1e-4 * exact.abs().max(1.0);
            assert!(output.values.iter().zip(exact).all(close), "step {}", output.index);
            compared += 1;
        }
        qkv = output.values.to_vec();
    });
    assert_eq!(compared, 5);
}

/// Its rows depend on the padding, so that it is computed for a text without padding too.
#[test]
fn unpadded_rows_are_the_first_of_the_padded_without_a_mask_too() {
    let bytes = unmasked();
    let plan = Plan::load(&bytes).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    for prompt in PROMPTS {
        let padded = encoder.encode(prompt);
        let (whole, pooled) = (padded.hidden().to_vec(), hash(padded.pooled().unwrap()));
        let unpadded = encoder.encode_unpadded(prompt);
        assert_eq!(hash(unpadded.hidden()), hash(&whole[..unpadded.hidden().len()]), "{prompt:?}");
        assert_eq!(hash(unpadded.pooled().unwrap()), pooled);
        let own = plan.tokenizer().encode(prompt).len();
        assert_eq!((unpadded.tokens(), unpadded.ids().len()), (own, own));
        let pair = encoder.encode_pair_unpadded([prompt, PROMPTS[1]]).unwrap();
        assert_eq!(hash(pair[0].hidden()), hash(&whole[..pair[0].hidden().len()]));
    }
    // And the mask makes a difference.
    let causal = two_towers();
    let plan = causal.plan().unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let masked = hash(Encoder::new(&plan, &mut arena).unwrap().encode(PROMPTS[1]).hidden());
    assert_ne!(hash(encoder.encode(PROMPTS[1]).hidden()), masked);
}
