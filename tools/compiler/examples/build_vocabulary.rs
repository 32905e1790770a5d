//! Writes the standard vocabulary's table, which the runtime's tests use:
//! `cargo run -p cliptext-compiler --example build_vocabulary`.

use cliptext_compiler::vocabulary::{VocabularySource, build};

fn main() -> anyhow::Result<()> {
    let table = build(VocabularySource::Standard, &[])?;
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/clip.vocab"), table.bytes)?;
    Ok(())
}
