//! Two text towers in one plan, as Stable Diffusion XL has them: side by side, each with its own padding. And a tower of 248
//! tokens.

mod common;

use cliptext::plan::format::crc32c;
use cliptext::plan::{Mask, Op};
use cliptext::threads::Threads;
use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Embedding, Encoder, Plan};
use common::parts::Parts;
use common::{PROMPTS, hash, kernels_for, long, two_towers};

/// Columns of the towers' hidden states.
const WIDTHS: [usize; 2] = [16, 24];
/// The end token of the plan's small vocabulary.
const END: u32 = 599;
/// Hashes of the hidden states and the pooled rows of [`PROMPTS`], whatever the machine.
const GOLDEN: u32 = 0x30db_2757;
/// The same, of the tower of 248 tokens.
const LONG_GOLDEN: u32 = 0xf745_c18b;

fn hashes(embedding: &Embedding<'_>) -> [u8; 8] {
    let both = [hash(embedding.hidden()), hash(embedding.pooled().unwrap())].map(u32::to_le_bytes);
    both.concat().try_into().unwrap()
}

/// The bits of one tower's columns.
fn columns(embedding: &Embedding<'_>, tower: usize) -> Vec<u32> {
    let range = [0..WIDTHS[0], WIDTHS[0]..WIDTHS[0] + WIDTHS[1]][tower].clone();
    let rows = embedding.hidden().chunks_exact(embedding.width());
    rows.flat_map(|row| row[range.clone()].iter().map(|value| value.to_bits())).collect()
}

#[test]
fn the_plan_tells_its_towers() {
    let file = two_towers();
    let plan = Plan::load(file.bytes()).unwrap();
    let towers: Vec<_> = plan
        .towers()
        .map(|tower| (tower.layers, tower.width, tower.heads, tower.tokens, tower.mask, tower.padding))
        .collect();
    // The first computes what its penultimate states need; the second all, for the pooled row.
    let first = (2, 16, 2, 77, Mask::Causal, Padding::End);
    assert_eq!(towers, [first, (3, 24, 3, 77, Mask::Causal, Padding::Id(0))]);
    assert_eq!((plan.width(), plan.token_rows()), (40, 600));
    assert!(plan.is_projected());
    assert_eq!(plan.manifest().logit_scale, Some(100.0));
    assert_eq!(plan.tokenizer().padding(), Padding::End);
}

#[test]
fn every_kernel_and_team_gives_the_golden_bits() {
    let file = two_towers();
    let plan = Plan::load(file.bytes()).unwrap();
    for kernels in kernels_for(&plan) {
        for threads in [1, 2, 4] {
            let team = Threads::start(threads).unwrap();
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
            let mut encoder = Encoder::with(&plan, &mut arena, kernels, &team).unwrap();
            let all: Vec<u8> = PROMPTS.iter().flat_map(|prompt| hashes(&encoder.encode(prompt))).collect();
            assert_eq!(crc32c(&all), GOLDEN, "{} on {threads}: {:#010x}", kernels.name(), crc32c(&all));
            for (pair, hashed) in PROMPTS.chunks_exact(2).zip(all.chunks_exact(16)) {
                let both = encoder.encode_pair([pair[0], pair[1]]).unwrap();
                assert_eq!(both.each_ref().map(hashes).concat(), hashed, "{} on {threads}", kernels.name());
            }
        }
    }
}

#[test]
fn a_long_context_gives_the_golden_bits() {
    let file = long();
    let plan = Plan::load(file.bytes()).unwrap();
    assert_eq!((plan.context(), plan.width()), (248, 16));
    for kernels in kernels_for(&plan) {
        let team = Threads::start(2).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, &team).unwrap();
        let mut all = Vec::new();
        for prompt in PROMPTS {
            let embedding = encoder.encode(prompt);
            assert_eq!((embedding.tokens(), embedding.hidden().len()), (248, 248 * 16));
            all.extend(hashes(&embedding));
            let (whole, pooled) = (embedding.hidden().to_vec(), hash(embedding.pooled().unwrap()));
            let short = encoder.encode_unpadded(prompt);
            assert_eq!(hash(short.hidden()), hash(&whole[..short.hidden().len()]), "{prompt:?}");
            assert_eq!(hash(short.pooled().unwrap()), pooled, "{prompt:?}");
        }
        assert!(encoder.encode(PROMPTS[5]).ids()[77..].iter().any(|&id| id != END), "a long prompt");
        assert_eq!(crc32c(&all), LONG_GOLDEN, "{}: {:#010x}", kernels.name(), crc32c(&all));
    }
}

#[test]
fn unpadded_rows_are_the_first_rows_of_the_padded() {
    common::unpadded_rows_are_the_first_of_the_padded(&two_towers());
}

/// The ids that a tower with `padding` must see, by the words of the specification.
fn padded(own: &[u32], padding: Padding) -> Vec<u32> {
    let mut ids = own.to_vec();
    let pad = match padding {
        Padding::End => END,
        Padding::Id(id) => id,
        Padding::ZeroAfterEnd => {
            let end = ids.iter().position(|&id| id == END).unwrap();
            ids.truncate(end + 1);
            0
        }
    };
    ids.resize(77, pad);
    ids
}

#[test]
fn each_tower_pads_in_its_own_way() {
    let original = Parts::of(&two_towers());
    let paddings = [Padding::End, Padding::Id(0), Padding::Id(7), Padding::ZeroAfterEnd];
    for first in paddings {
        for second in paddings {
            let mut parts = original.clone();
            let mut wanted = [first, second].into_iter();
            for step in &mut parts.steps {
                if let Op::Embed(embed) = &mut step.op {
                    embed.padding = wanted.next().unwrap();
                }
            }
            let memory = AlignedBytes::copy_of(&parts.bytes());
            let plan = Plan::load(&memory).unwrap();
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
            let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
            for prompt in PROMPTS {
                let named = format!("{first} and {second}: {prompt:?}");
                let embedding = encoder.encode(prompt);
                let found = [0, 1].map(|tower| columns(&embedding, tower));
                let shown = embedding.ids().to_vec();
                let plain = original_ids(prompt);
                assert_eq!(shown, padded(&plain, first), "{named}");
                for (tower, padding) in [first, second].into_iter().enumerate() {
                    let by_ids = encoder.encode_ids(&padded(&plain, padding)).unwrap();
                    assert!(columns(&by_ids, tower) == found[tower], "{named}, tower {tower}");
                }
            }
        }
    }
}

/// The text's own ids, by a tokenizer that pads with nothing of its own.
fn original_ids(prompt: &str) -> Vec<u32> {
    let file = two_towers();
    Plan::load(file.bytes()).unwrap().tokenizer().encode(prompt).unpadded().to_vec()
}

#[test]
fn zero_after_eos_differs_from_zero_by_literal_end_tokens_only() {
    let file = two_towers();
    let vocabulary = *Plan::load(file.bytes()).unwrap().tokenizer().vocabulary();
    let tokenizer = |padding| cliptext::Tokenizer::new(vocabulary, 77, padding).unwrap();
    let (zero, after) = (tokenizer(Padding::Id(0)), tokenizer(Padding::ZeroAfterEnd));
    for prompt in PROMPTS {
        let (zero, after) = (zero.encode(prompt), after.encode(prompt));
        assert_eq!(zero.ids() == after.ids(), !prompt.contains("<|endoftext|>"), "{prompt:?}");
        let end = after.end_position();
        assert_eq!((after.ids()[end], after.end_position()), (END, zero.end_position()));
        assert!(after.ids()[end + 1..].iter().all(|&id| id == 0));
        assert_eq!((after.len(), after.is_truncated()), (zero.len(), zero.is_truncated()));
        if zero.is_truncated() {
            assert_eq!(after.ids()[76], END);
        }
    }
}

#[test]
fn paddings_are_written_and_read() {
    for (text, padding) in [
        ("eot", Padding::End),
        ("zero", Padding::Id(0)),
        ("49407", Padding::Id(49407)),
        ("zero-after-eos", Padding::ZeroAfterEnd),
    ] {
        assert_eq!(text.parse(), Ok(padding));
        assert_eq!(padding.to_string(), text);
    }
    for text in ["", "nothing", "-1", "4294967296", "EOT"] {
        assert!(text.parse::<Padding>().is_err(), "{text}");
    }
}
