//! A prompt and its negative prompt in one pass, as classifier-free guidance takes them: the weights are read once.
//! `cargo run --release --example pair`

use cliptext::{ArenaBuf, Encoder, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../models/demo.plan");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::load(PLAN)?;
    // Two prompts at once need twice the arena.
    let mut arena = ArenaBuf::<{ 288 * 1024 }>::new();
    let mut encoder = Encoder::new(&plan, arena.bytes())?;

    let [prompt, negative] = encoder.encode_pair(["a running dog", "blurry, low quality"])?;
    // Negative first, the batch that diffusers and local-dream build.
    let batch = [negative.hidden(), prompt.hidden()].concat();
    println!("[2, {}, {}]: {} values", prompt.tokens(), prompt.width(), batch.len());

    // The same bits as one by one.
    let both: Vec<Vec<f32>> =
        [prompt, negative].iter().map(|embedding| embedding.hidden().to_vec()).collect();
    assert_eq!(encoder.encode("a running dog").hidden(), both[0]);
    assert_eq!(encoder.encode("blurry, low quality").hidden(), both[1]);
    Ok(())
}
