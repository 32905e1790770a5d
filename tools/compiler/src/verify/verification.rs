//! What a verification tells.

use std::fmt;

use serde::Serialize;

use crate::verify::compare::Quality;
use crate::verify::cost::Cost;
use crate::verify::decibels::Decibels;
use crate::verify::figures::Figures;
use crate::verify::steps::StepFigures;
use crate::verify::unet::UnetFigures;

/// A plan beside the f32 model that it was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// The kernels that it ran with.
    pub kernels: &'static str,
    /// Distances.
    pub figures: Figures,
    /// What it does to a UNet's output, where one was given.
    pub unet: Option<UnetFigures>,
    /// Bytes and milliseconds of each step.
    pub steps: Vec<StepFigures>,
    /// What a prompt in the whole context takes.
    pub cost: Cost,
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let Quality { cosine_mean, cosine_min, sqnr_db } = figures.hidden;
        writeln!(
            f,
            "  hidden states, {} prompts, all {} tokens",
            figures.prompts.len(),
            figures.positions.len()
        )?;
        writeln!(f, "    SQNR {sqnr_db:.2} dB, cosine mean {cosine_mean:.5}, min {cosine_min:.5}")?;
        let psnr = figures.hidden_psnr;
        writeln!(f, "    PSNR mean {:.2} dB, min {:.2}", psnr.mean_db, psnr.min_db)?;
        if let Some(specific) = figures.prompt_specific_db {
            writeln!(f, "    prompt-specific SQNR {specific:.2} dB")?;
        }
        if let Some(Quality { cosine_mean, cosine_min, sqnr_db }) = figures.pooled {
            writeln!(f, "  pooled")?;
            writeln!(f, "    SQNR {sqnr_db:.2} dB, cosine mean {cosine_mean:.5}, min {cosine_min:.5}")?;
        }
        if let Some(psnr) = figures.pooled_psnr {
            writeln!(f, "    PSNR mean {:.2} dB, min {:.2}", psnr.mean_db, psnr.min_db)?;
        }
        writeln!(f, "  residual stream without the first row, dB (prompt-specific dB)")?;
        for layer in &figures.layers {
            let specific = layer.prompt_specific_db.map_or(String::new(), |db| format!(" ({db:.1})"));
            let tower = if layer.tower > 0 { format!("tower {}, ", layer.tower + 1) } else { String::new() };
            writeln!(f, "    {tower}layer {:<3} {:>6.1}{specific}", layer.layer, layer.sqnr_db)?;
        }
        let at = |position: usize| figures.positions.get(position).copied().unwrap_or(Decibels(f64::NAN));
        let last = figures.positions.len().saturating_sub(1);
        let (least, worst) = figures
            .positions
            .iter()
            .enumerate()
            .min_by(|a, b| a.1.worst_first(b.1))
            .map_or((0, Decibels(f64::NAN)), |(position, db)| (position, *db));
        writeln!(
            f,
            "  positions: the first {:.1} dB, the second {:.1}, the last {:.1}, the worst {worst:.1} at {least}",
            at(0),
            at(1),
            at(last)
        )?;
        writeln!(f, "  prompts, the worst first")?;
        for prompt in figures.prompts.iter().take(5) {
            let text: String = prompt.prompt.chars().take(70).collect();
            writeln!(f, "    {:>6.1} dB, cosine min {:.5}  {text:?}", prompt.sqnr_db, prompt.cosine_min)?;
        }
        if let Some(unet) = &self.unet {
            writeln!(f, "  UNet's output, {} runs", unet.runs)?;
            writeln!(
                f,
                "    SQNR {:.2} dB; of what the prompt changes {:.2} dB",
                unet.sqnr_db, unet.guidance_sqnr_db
            )?;
        }
        writeln!(f, "  a prompt {}", self.cost)?;
        write!(f, "  measured with the kernels {}", self.kernels)
    }
}
