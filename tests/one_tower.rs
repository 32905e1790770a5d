//! The built-in plan, end to end: the same bits from every kernel, on every machine.

mod common;

use cliptext::plan::format::crc32c;
use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, EncoderError, IdsError, Plan};
use common::{PROMPTS, hash, kernels_for, one_tower};

/// Hashes of the hidden states and the pooled rows of [`PROMPTS`], whatever the machine.
const GOLDEN: u32 = 0xaf0c_f230;

#[test]
fn every_kernel_gives_the_golden_bits() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    for kernels in kernels_for(&plan) {
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        let mut hashes = Vec::new();
        for prompt in PROMPTS {
            let embedding = encoder.encode(prompt);
            assert_eq!(embedding.hidden().len(), 77 * 32);
            assert!(embedding.hidden().iter().all(|value| value.is_finite()));
            hashes.extend(hash(embedding.hidden()).to_le_bytes());
            hashes.extend(hash(embedding.pooled().unwrap()).to_le_bytes());
        }
        assert_eq!(crc32c(&hashes), GOLDEN, "{}: {:#010x}", kernels.name(), crc32c(&hashes));
    }
}

#[test]
fn unpadded_rows_are_the_first_rows_of_the_padded() {
    common::unpadded_rows_are_the_first_of_the_padded(&one_tower());
}

#[test]
fn the_pooled_row_is_the_first_end_token_s() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    for prompt in PROMPTS {
        let embedding = encoder.encode(prompt);
        let end = embedding.ids().iter().position(|&id| id == 49407).unwrap();
        assert_eq!(embedding.pooled().unwrap(), &embedding.hidden()[end * 32..][..32], "{prompt:?}");
    }
}

#[test]
fn ids_from_elsewhere_give_what_their_text_gives() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let by_text = hash(encoder.encode("a running dog").hidden());
    let mut ids = vec![49406, 320, 2761, 1929, 49407];
    ids.resize(77, 49407);
    assert_eq!(hash(encoder.encode_ids(&ids).unwrap().hidden()), by_text);
    assert_eq!(encoder.encode_ids(&[]).unwrap_err(), IdsError::Count { given: 0, context: 77 });
    assert_eq!(encoder.encode_ids(&[1; 78]).unwrap_err(), IdsError::Count { given: 78, context: 77 });
    assert_eq!(encoder.encode_ids(&[49408]).unwrap_err(), IdsError::Range { id: 49408, rows: 49408 });
    assert_eq!(encoder.encode_ids(&[1; 300]).unwrap_err(), IdsError::Count { given: 300, context: 77 });
}

#[test]
fn nothing_stays_in_the_arena_from_one_prompt_to_the_next() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let fresh = hash(Encoder::new(&plan, &mut arena).unwrap().encode_unpadded("a running dog").hidden());
    for filling in [0x00, 0xff, 0x7f] {
        arena.fill(filling);
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        assert_eq!(hash(encoder.encode_unpadded("a running dog").hidden()), fresh);
        encoder.encode(PROMPTS[5]);
        assert_eq!(hash(encoder.encode_unpadded("a running dog").hidden()), fresh);
    }
}

#[test]
fn arenas_that_do_not_do_are_refused_with_the_size_needed() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let needed = plan.arena_bytes(1);
    let mut arena = AlignedBytes::zeroed(needed);
    let error = |result: Result<Encoder<'_>, EncoderError>| result.err().unwrap();
    let small = error(Encoder::new(&plan, &mut arena[..needed - 1]));
    assert_eq!(small, EncoderError::ArenaTooSmall { needed, given: needed - 1 });
    assert!(small.to_string().contains(&needed.to_string()));
    let skewed = error(Encoder::new(&plan, &mut arena[1..]));
    assert_eq!(skewed, EncoderError::ArenaMisaligned { needed });
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let pair = encoder.encode_pair(["a", "b"]).err();
    assert_eq!(pair, Some(EncoderError::ArenaTooSmall { needed: plan.arena_bytes(2), given: needed }));
    assert_eq!(encoder.encode("a").tokens(), plan.context());
}
