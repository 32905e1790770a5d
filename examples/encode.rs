//! A prompt to its embedding, in the memory that the program gives: `cargo run --release --example encode -- "a running dog"`.

use cliptext::{ArenaBuf, Encoder, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../models/demo.plan");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompt = std::env::args().nth(1).unwrap_or("a running dog".into());
    let plan = Plan::load(PLAN)?;
    let mut arena = ArenaBuf::<{ 160 * 1024 }>::new();
    println!("{} of {} bytes of arena are used", plan.arena_bytes(1), 160 * 1024);
    let mut encoder = Encoder::new(&plan, arena.bytes())?;

    let embedding = encoder.encode(&prompt);
    println!("{prompt:?}: [{}, {}]", embedding.tokens(), embedding.width());
    let rows = embedding.hidden().chunks_exact(embedding.width());
    for (id, row) in embedding.ids().iter().zip(rows).take(8) {
        println!("{id:>7}: {:?} …", &row[..4]);
    }
    if embedding.is_truncated() {
        eprintln!("the prompt is longer than {} tokens: its end is not in the embedding", plan.context());
    }
    Ok(())
}
