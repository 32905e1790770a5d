//! Whether a plan that was measured is written.

use anyhow::{Result, ensure};

use crate::compile::report::TowerReport;
use crate::verify::compare::Quality;

/// Below this SQNR a plan is written with a warning.
const DOUBTFUL_DB: f64 = 20.0;
/// Below this SQNR a plan is written only if that is forced: images and rankings no longer follow the prompt.
const UNUSABLE_DB: f64 = 10.0;

/// Decides by its outputs' distances from the f32 model whether a plan is written. `force`: however far they are, so
/// long as they are numbers.
///
/// # Errors
/// When an output is too far from the f32 model's: says which one, and what to try.
pub fn quality(towers: &[TowerReport], force: bool, mut warn: impl FnMut(&str)) -> Result<()> {
    const TRY: &str =
        "try --quality best, --budget 5%, prompts of your own with --calibrate, or --precision f32";
    for tower in towers {
        let outputs = [("hidden states", tower.hidden_quality), ("pooled output", tower.pooled_quality)];
        for (what, quality) in outputs {
            output(&format!("{}, {what}", tower.name), quality, TRY, force, &mut warn)?;
        }
    }
    Ok(())
}

/// [`quality`] of one output, `what` it is; `advice` says what to try.
///
/// # Errors
/// As [`quality`].
pub fn output(
    what: &str,
    quality: Option<Quality>,
    advice: &str,
    force: bool,
    mut warn: impl FnMut(&str),
) -> Result<()> {
    let Some(quality) = quality else { return Ok(()) };
    let db = quality.sqnr_db;
    ensure!(
        !db.0.is_nan() && db > f64::NEG_INFINITY && quality.cosine_min.is_finite(),
        "{what}: the plan computes values that are no numbers (SQNR {db} dB against the f32 model): the model's are too large \
         for it; nothing is written: try --precision f32"
    );
    let far = format!("{what}: SQNR of only {db:.1} dB against the f32 model");
    if db < UNUSABLE_DB {
        ensure!(
            force,
            "{far}, below the {UNUSABLE_DB} dB that a plan must have: nothing is written; {advice}; --force writes it all the same"
        );
    }
    if db < DOUBTFUL_DB {
        warn(&format!("{far}; {advice}"));
    }
    Ok(())
}
