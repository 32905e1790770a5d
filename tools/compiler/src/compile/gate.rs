//! Whether a plan that was measured is written.

use anyhow::{Result, ensure};

use crate::compile::report::TowerReport;

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
    for tower in towers {
        for (what, quality) in
            [("hidden states", tower.hidden_quality), ("pooled output", tower.pooled_quality)]
        {
            let Some(quality) = quality else { continue };
            let (name, db) = (&tower.name, quality.sqnr_db);
            ensure!(
                !db.0.is_nan() && db > f64::NEG_INFINITY && quality.cosine_min.is_finite(),
                "{name}, {what}: the plan computes values that are no numbers (SQNR {db} dB against the f32 model): the model's are \
                 too large for it; nothing is written: try --precision f32"
            );
            let far = format!("{name}, {what}: SQNR of only {db:.1} dB against the f32 model");
            const TRY: &str =
                "try --quality best, --budget 5%, prompts of your own with --calibrate, or --precision f32";
            if db < UNUSABLE_DB {
                ensure!(
                    force,
                    "{far}, below the {UNUSABLE_DB} dB that a plan must have: nothing is written; {TRY}; --force writes it all the \
                     same"
                );
            }
            if db < DOUBTFUL_DB {
                warn(&format!("{far}; {TRY}"));
            }
        }
    }
    Ok(())
}
