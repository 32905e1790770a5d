//! Our encoder, tract and rten on the full-size model, in turns: `cargo bench -p cliptext-bench`.
//!
//! What else runs on the machine then slows all of them down alike; the ratios of their medians say more than the
//! milliseconds. `CLIPTEXT_INT8_ONNX` names the int8 model for rten (`tools/bench/compare.py` makes it); without it
//! rten is left out. `CLIPTEXT_BENCH_RUNS` is the number of turns, 15 without it.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Encoder, Plan, PlanFile};
use rten::{ModelOptions, RunOptions, ThreadPool, Value};
use rten_tensor::NdTensor;
use tract_onnx::prelude::*;

const PROMPT: &str = "a photograph of an astronaut riding a horse";

/// One runtime with its threads, ready to encode the prompt.
struct Peer<'a> {
    name: String,
    encode: Box<dyn FnMut() -> Result<()> + 'a>,
    ms: Vec<f64>,
}

impl<'a> Peer<'a> {
    fn new(name: impl Into<String>, encode: impl FnMut() -> Result<()> + 'a) -> Self {
        Self { name: name.into(), encode: Box::new(encode), ms: Vec::new() }
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        (self.encode)().with_context(|| self.name.clone())?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

fn main() -> Result<()> {
    let runs = std::env::var("CLIPTEXT_BENCH_RUNS").map_or(Ok(15), |runs| runs.parse())?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (plan, onnx) = (folder.join("model.plan"), folder.join("model.onnx"));
    cliptext_bench::write_plan(&plan)?;
    if !onnx.exists() {
        cliptext_bench::write_onnx(&onnx)?;
    }
    let file = PlanFile::read(&plan)?;
    let plan = Plan::load(file.bytes())?;
    let ids: Vec<i64> = plan.tokenizer().encode(PROMPT).ids().iter().map(|&id| id.into()).collect();

    let mut peers = vec![ours(&plan, 1)?, ours(&plan, 2)?, tract(&onnx, &ids)?];
    match std::env::var_os("CLIPTEXT_INT8_ONNX") {
        Some(int8) => {
            peers.push(rten(&PathBuf::from(&int8), &ids, 1)?);
            peers.push(rten(&PathBuf::from(&int8), &ids, 2)?);
        }
        None => println!("rten is skipped: CLIPTEXT_INT8_ONNX names no int8 model for it"),
    }
    for turn in 0..=runs {
        for peer in &mut peers {
            let ms = peer.turn()?;
            // The first turn warms up.
            if turn > 0 {
                peer.ms.push(ms);
            }
        }
    }
    let median = |peer: &Peer<'_>| {
        let mut ms = peer.ms.clone();
        ms.sort_by(f64::total_cmp);
        ms[ms.len() / 2]
    };
    let ours = median(&peers[0]);
    println!("{:<36} {:>10} {:>18}", "median of the turns", "ms", "of ours, 1 thread");
    for peer in &peers {
        println!("{:<36} {:>10.2} {:>18.2}", peer.name, median(peer), median(peer) / ours);
    }
    Ok(())
}

fn ours<'a>(plan: &'a Plan<'a>, threads: usize) -> Result<Peer<'a>> {
    let team = Threads::start(threads)?;
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    let kernels = plan.kernels()?;
    let name = format!("cliptext {}, threads: {threads}", kernels.name());
    // Checked once here; making an encoder in each turn costs nothing.
    Encoder::with(plan, &mut memory, kernels, &team)?;
    Ok(Peer::new(name, move || {
        let mut encoder = Encoder::with(plan, &mut memory, kernels, &team)?;
        black_box(encoder.encode(PROMPT).hidden());
        Ok(())
    }))
}

fn tract<'a>(path: &Path, ids: &[i64]) -> Result<Peer<'a>> {
    let model = tract_onnx::onnx()
        .model_for_path(path)?
        .with_input_fact(0, i64::fact([1, ids.len()]).into())?
        .into_optimized()?
        .into_runnable()?;
    let input = tract_ndarray::Array2::from_shape_vec((1, ids.len()), ids.to_vec())?.into_tensor();
    Ok(Peer::new("tract f32, threads: 1", move || {
        black_box(model.run(tvec!(input.clone().into()))?);
        Ok(())
    }))
}

fn rten<'a>(path: &Path, ids: &[i64], threads: usize) -> Result<Peer<'a>> {
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(path)?;
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let ids: Vec<i32> = ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>()?;
    let input = NdTensor::from_data([1, ids.len()], ids);
    let output = *model.output_ids().first().context("the int8 model has no output")?;
    let input_id = *model.input_ids().first().context("the int8 model has no input")?;
    Ok(Peer::new(format!("rten int8 prepacked, threads: {threads}"), move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let inputs = vec![(input_id, Value::from(input.clone()).into())];
        black_box(model.run(inputs, &[output], Some(options))?);
        Ok(())
    }))
}
