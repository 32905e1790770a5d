//! Writes the plans that the repository holds: `cargo run --release -p cliptext-demo`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let plans = [
        ("models/demo.plan", cliptext_demo::plan()?),
        ("tests/fixtures/two-towers.plan", cliptext_demo::two_towers()?),
        ("tests/fixtures/long.plan", cliptext_demo::long()?),
        ("tests/fixtures/typing.plan", cliptext_demo::typing()?),
    ];
    for (name, plan) in plans {
        cliptext_compiler::output::write(&root.join(name), &plan)?;
        println!("{name}: {} bytes", plan.len());
    }
    Ok(())
}
