//! Writes the full-size model for the benchmarks.

use std::path::PathBuf;

use clap::Parser;

/// Write the full-size model that the benchmarks run: `model.plan` for cliptext-run, `model.onnx` (f32) for the others
#[derive(Parser)]
#[command(name = "cliptext-bench", version)]
struct Arguments {
    /// Where to
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let folder = Arguments::parse().folder;
    std::fs::create_dir_all(&folder)?;
    cliptext_bench::write_plan(&folder.join("model.plan"))?;
    cliptext_bench::write_onnx(&folder.join("model.onnx"))
}
