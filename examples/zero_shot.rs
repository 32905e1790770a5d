//! What a picture shows, by its and the texts' embeddings: `cargo run --release --example zero_shot`.

use cliptext::{ArenaBuf, Encoder, ImageEncoder, ImagePlan, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../models/demo.plan"); // a text encoder and an image encoder
static CAT: &[u8] = include_bytes!("../models/pictures/cat.rgb"); // [64, 64, 3]: red, green, blue

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let (texts, images) = (Plan::load(PLAN)?, ImagePlan::load(PLAN)?);
    let mut arena = ArenaBuf::<{ 384 * 1024 }>::new(); // the larger of what both need

    let mut image = [0.0; 64];
    image.copy_from_slice(ImageEncoder::new(&images, arena.bytes())?.encode(CAT)?.pooled().unwrap_or(&[]));

    // Embeddings of this plan have length 1: the cosine is the product.
    let mut encoder = Encoder::new(&texts, arena.bytes())?;
    let mut cosine = |text: &str| {
        let embedding = encoder.encode(text);
        embedding.pooled().unwrap_or(&[]).iter().zip(&image).map(|(a, b)| a * b).sum::<f32>()
    };
    let labels = ["a cat", "a car", "a tree", "a dog", "a house"];
    for label in labels {
        println!("{:>6.3}  {label}", cosine(label));
    }
    assert!(labels[1..].iter().all(|other| cosine("a cat") > cosine(other)));
    Ok(())
}
