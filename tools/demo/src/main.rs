//! Writes the built-in demonstration plan: `cargo run --release -p cliptext-demo`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo.plan"));
    let plan = cliptext_demo::plan()?;
    cliptext_compiler::emit::write(path, &plan)?;
    println!("models/demo.plan: {} bytes", plan.len());
    Ok(())
}
