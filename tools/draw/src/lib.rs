//! `cliptext-draw`: a prompt to a picture. The prompt and its negative go through a plan, a diffusion UNet reads their hidden states, a
//! sampler turns noise into a picture.
//!
//! A library, so that the tests can give each part what other programs gave theirs.

mod arguments;
pub mod embed;
pub mod noise;
mod picture;
pub mod recipe;
pub mod sampler;
pub mod schedule;
pub mod unet;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cliptext_files::{Output, same_file, to_stderr};

use arguments::Arguments;
use embed::PlanBytes;
use sampler::{Sampling, sample};
use unet::{Ready, Unet};

/// Does what the process' arguments ask for; errors are told on standard error.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Which would be lost, read whole or not.
    for (option, input) in [("--unet", Some(&arguments.unet)), ("--plan", arguments.plan.as_ref())] {
        if input.is_some_and(|input| same_file(input, &arguments.output)) {
            to_stderr!("cliptext-draw: {}: both {option} and --output", arguments.output.display());
            return ExitCode::from(2);
        }
    }
    match draw(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            to_stderr!("cliptext-draw: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn draw(arguments: &Arguments) -> Result<()> {
    let output = || arguments.output.display().to_string();
    Output::check(&arguments.output).with_context(output)?;
    let unet = Unet::read(&arguments.unet)?;
    let recipe = unet.recipe();
    let guidance = arguments.guidance.unwrap_or(recipe.guidance);
    let is_guided = guidance != 1.0;
    if !is_guided && arguments.negative.is_some() {
        to_stderr!("cliptext-draw: --negative has no effect without guidance (a scale of 1)");
    }
    let points =
        recipe.schedule.points(arguments.steps).with_context(|| format!("--steps {}", arguments.steps))?;

    let plan = PlanBytes::open(arguments.plan.as_deref())?;
    let negative = arguments.negative.as_deref().unwrap_or_default();
    let texts = [arguments.prompt.as_str(), negative];
    let texts = if is_guided { &texts[..] } else { &texts[..1] };
    let states = embed::embed(&plan, texts, |tokens, width| {
        let wants = unet.embedding();
        ensure!(
            wants == (tokens, width),
            "{}: it reads embeddings of {} x {}, {} gives {tokens} x {width}: take the plan of the text encoder that the UNet was trained with",
            arguments.unet.display(),
            wants.0,
            wants.1,
            plan.name()
        );
        Ok(())
    })?;

    let mut ready: Ready = unet.ready(texts.len(), &states)?;
    let noise = noise::normals(arguments.seed, unet.pixels());
    let sampling = Sampling { recipe, points: &points, solver: arguments.sampler, guidance };
    let shows_progress = std::io::stderr().is_terminal();
    let pixels = sample(
        &sampling,
        noise,
        |x, timestep| ready.run(x, timestep),
        |done| {
            if shows_progress {
                // Written over by the next (ECMA-48).
                let _ = write!(std::io::stderr(), "\r{done} of {} steps\x1b[K\r", arguments.steps);
            }
        },
    );
    if shows_progress {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let told = arguments.told(guidance, &plan.hash()?);
    let picture = picture::png(&pixels?, unet.size(), &told)?;
    cliptext_files::write(&arguments.output, &picture).with_context(output)
}
