//! A prompt with weights in two chunks, beside its negative: all memory is fixed beforehand.

use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
use cliptext::{ArenaBuf, Encoder, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../models/demo.plan");

/// Rows and columns of the demonstration plan's states for two chunks.
const STATES: usize = 2 * 77 * 64;

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let plan = Plan::load(PLAN)?;
    let mut arena = ArenaBuf::<{ 288 * 1024 }>::new(); // room for both chunks in one pass
    let mut encoder = Encoder::new(&plan, arena.bytes())?;
    let options = Options { weighting: Weighting::A1111, chunks: Chunks::Auto, comma: 20 };

    let (mut prompt, mut negative) = (Prompt::new(), Prompt::new());
    prompt.read(plan.tokenizer(), "a (red:1.3) fox, [blurry] BREAK at night", options)?;
    negative.read(plan.tokenizer(), "(low quality:1.2)", options)?;
    // A UNet takes both at once: they have as many chunks.
    negative.fill(prompt.chunks())?;
    assert_eq!((prompt.chunks(), negative.chunks()), (2, 2));
    assert_eq!((prompt.ids(0)[1], prompt.weights(0)[1]), (736, 1.3));

    let (mut hidden, mut pooled) = ([[0.0; STATES]; 2], [0.0; 64]);
    encoder.encode_prompt(&prompt, None, &mut hidden[0], Some(&mut pooled))?;
    encoder.encode_prompt(&negative, None, &mut hidden[1], None)?;
    println!("[2, {}, {}], pooled [{}]", 2 * plan.context(), plan.width(), pooled.len());
    Ok(())
}
