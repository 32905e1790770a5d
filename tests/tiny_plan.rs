//! A plan small enough for Miri, from its bytes to its embedding: load, tokenize, every step by the scalar kernels, alone and in
//! a team. `.ci/miri` runs it there; here it is an ordinary test.

use cliptext::plan::Program;
use cliptext::threads::{Solo, Team, Threads};
use cliptext::{ArenaBuf, Encoder, Input, Kernels, Plan, include_plan};

static PLAN: &[u8] = include_plan!("fixtures/two-towers.plan");
const ARENA: usize = 512 * 1024;

fn encoded(plan: &Plan<'_>, team: impl Team, texts: [&str; 2]) -> Vec<u32> {
    let mut arena = ArenaBuf::<ARENA>::new();
    let scalar = Kernels::named("scalar").expect("every build has it");
    let mut encoder = Encoder::with(plan, arena.bytes(), scalar, team).expect("the arena is large enough");
    let mut bits = Vec::new();
    for embedding in encoder.encode_pair_unpadded(texts).expect("the arena is large enough for two") {
        bits.extend(embedding.hidden().iter().chain(embedding.pooled().unwrap_or(&[])).map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn a_pass_from_bytes_to_embedding() {
    let plan = Plan::load(PLAN).expect("the plan was checked");
    assert!(plan.arena_bytes(2) <= ARENA, "{}", plan.arena_bytes(2));
    let texts = ["ab, c!", ""];
    let alone = encoded(&plan, Solo, texts);
    let together = encoded(&plan, Threads::start(2).expect("two threads"), texts);
    assert!(alone.iter().any(|&bits| bits != 0));
    assert_eq!(alone, together);
}

#[test]
fn a_part_of_a_prompt_goes_to_the_caller_s_memory() {
    let plan = Plan::load(PLAN).expect("the plan was checked");
    let tokens = plan.tokenizer().encode("a b");
    let ids = &tokens.ids()[..4];
    let mut hidden = vec![0.0; ids.len() * plan.width()];
    let mut arena = ArenaBuf::<ARENA>::new();
    let scalar = Kernels::named("scalar").expect("every build has it");
    let mut encoder = Encoder::with(&plan, arena.bytes(), scalar, Solo).expect("the arena is large enough");
    let embedding = encoder.encode_into(Input::Ids(ids), &mut hidden).expect("the ids are the plan's own");
    assert_eq!(embedding.hidden(), hidden);
}

#[test]
fn a_program_without_its_constants() {
    let program = Program::load(PLAN).expect("the head is whole");
    assert_eq!(program.towers().count(), 2);
    assert!(program.steps().all(|step| step.constant_arrays().is_some()));
}
