//! Pictures to embeddings, by an image plan.

use std::num::NonZero;
use std::path::PathBuf;

use cliptext::{AlignedBytes, ImageEncoder, ImagePlan};

use crate::arguments::RunArgs;
use crate::failure::{Outcome, work};
use crate::setup::{cannot_encode, kernels, team};

/// Calls `each` with the number and the embedding of every picture, in their order.
///
/// # Errors
/// When a picture can't be read, the plan can't be run here, or `each` fails.
pub(crate) fn encode(
    plan: &ImagePlan<'_>,
    pictures: &[PathBuf],
    run: &RunArgs,
    mut each: impl FnMut(usize, &[f32]) -> Outcome,
) -> Outcome {
    let kernels = kernels(plan, run.kernel.as_deref())?;
    let team = team(run.threads.map(usize::from))?;
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = ImageEncoder::with(plan, &mut memory, kernels, &team).map_err(cannot_encode)?;
    // A plan without pixels does not load.
    let side = NonZero::new(plan.grid().side).unwrap_or(NonZero::<u16>::MIN);
    for (index, path) in pictures.iter().enumerate() {
        let pixels = cliptext_pictures::read(path, side).map_err(|error| work(path.display(), error))?;
        let found = encoder.encode(&pixels).map_err(|error| work(path.display(), error))?;
        each(index, found.pooled().unwrap_or(&[]))?;
    }
    Ok(())
}
