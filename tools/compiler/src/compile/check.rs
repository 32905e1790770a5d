//! What must hold of a model before anything is made of it.

use crate::arithmetic::extremes::largest_magnitude;
use anyhow::{Result, bail, ensure};

use crate::colours::Colours;
use crate::ir::{ImageModel, Outputs, TextModel};
use crate::pictures;
use crate::reference::{encode_all, relative_error};
use crate::tract::run::{F32Run, ImageRun};
use crate::tract::tower;

/// Refuses a model that holds a value which is no finite number.
///
/// # Errors
/// Names the tensor, the place and the value.
pub fn finite<'m>(tensors: impl Iterator<Item = (String, &'m [f32])>) -> Result<()> {
    for (name, values) in tensors {
        // In vectors, first: nearly all are.
        if largest_magnitude(values).is_finite() {
            continue;
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            bail!(
                "{name}: value {at} is {}: the model, or a change that was merged into it, is damaged",
                values[at]
            );
        }
    }
    Ok(())
}

/// Most that the recognised model may differ from tract's run of the graph, relative to the largest value.
pub const TOLERANCE: f32 = 1e-4;

/// Runs the recognised model and the graph on prompts of arbitrary tokens, over the whole context, and compares.
///
/// # Errors
/// When they differ by more than [`TOLERANCE`], or when tract cannot run the graph.
pub fn recognised(model: &TextModel, outputs: &Outputs, run: &F32Run) -> Result<()> {
    let prompts = prompts(model.context(), model.token_embedding.rows, outputs.end_token);
    for (ids, found) in prompts.iter().zip(encode_all(model, outputs, &prompts)) {
        let expected = run.encode(ids)?;
        let hidden = expected.hidden.map(|hidden| (found.hidden.values, hidden.values));
        let pooled = expected.pooled.map(|pooled| (found.pooled.unwrap_or_default(), pooled));
        for (what, pair) in [("hidden states", hidden), ("pooled output", pooled)] {
            let Some((found, expected)) = pair else { continue };
            ensure!(
                expected.iter().all(|value| value.is_finite()),
                "the model's {what} are no finite numbers on a prompt of arbitrary tokens: it is damaged, or was saved from a broken \
                 run"
            );
            let error = relative_error(&found, &expected);
            ensure!(
                error <= TOLERANCE,
                "what was recognised in this graph computes another {what} than the graph itself ({error:.1e} of the \
                 largest value, {TOLERANCE:.0e} allowed): it is not quite a CLIP text encoder"
            );
        }
    }
    Ok(())
}

/// Embeds pictures by the recognised model and by the graph, and compares.
///
/// # Errors
/// As [`recognised`].
pub fn recognised_image(
    model: &ImageModel,
    normalized: bool,
    colours: Colours,
    run: &ImageRun,
) -> Result<()> {
    let images = pictures::made(CHECKED_FROM, 2, model.side);
    for (image, found) in images.iter().zip(tower::compute_images(model, &images, normalized)?) {
        let expected = run.embed(image, colours)?;
        ensure!(
            expected.iter().all(|value| value.is_finite()),
            "the model's embedding of a made picture has values that are no finite numbers: it is damaged, or was saved from a broken run"
        );
        let error = relative_error(&found.pooled.unwrap_or_default(), &expected);
        ensure!(
            error <= TOLERANCE,
            "what was recognised in this graph computes another embedding than the graph itself ({error:.1e} of the largest value, \
             {TOLERANCE:.0e} allowed): it is not quite a CLIP image encoder"
        );
    }
    Ok(())
}

/// The number of the first picture that recognised models are checked on.
const CHECKED_FROM: u64 = 1 << 40;

/// Prompts as long as the context, of tokens spread over the ids below the end token's: one whose end token stands last,
/// a short one padded with end tokens, and one with a second end token between others, where only the first may count.
fn prompts(context: usize, vocabulary: usize, end: u32) -> [Vec<u32>; 3] {
    let end = end.min(vocabulary.saturating_sub(1) as u32);
    let prompt = |seed: usize, is_end: &dyn Fn(usize) -> bool| -> Vec<u32> {
        let arbitrary = |place: usize| ((place + seed) as u32 + 1).wrapping_mul(2_654_435_761) % end.max(1);
        (0..context).map(|place| if is_end(place) { end } else { arbitrary(place) }).collect()
    };
    let last = context.saturating_sub(1);
    [
        prompt(0, &|place| place == last),
        prompt(1000, &|place| place >= last.min(7)),
        prompt(2000, &|place| place == last / 3 || place == last / 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_fill_the_context_and_one_has_a_second_end_token_inside() {
        const END: u32 = 49407;
        let prompts = prompts(77, 49408, END);
        let ends = |ids: &[u32]| -> Vec<usize> {
            ids.iter().enumerate().filter(|(_, id)| **id == END).map(|(place, _)| place).collect()
        };
        assert!(prompts.iter().all(|ids| ids.len() == 77 && ids.iter().all(|&id| id <= END)));
        assert_eq!(ends(&prompts[0]), [76]);
        assert_eq!(ends(&prompts[1]), (7..77).collect::<Vec<_>>());
        assert_eq!(ends(&prompts[2]), [25, 38]);
        // The smallest there are.
        let smallest = super::prompts(1, 1, END);
        assert!(smallest.iter().all(|ids| ids == &[0]), "{smallest:?}");
    }
}
