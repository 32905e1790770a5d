//! Which techniques a quantization uses.

/// How much work goes into a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Under a minute for CLIP ViT-L on two cores.
    Fast,
    /// Up to a quarter of an hour.
    Best,
}

/// Which of the techniques are used, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Prompts of the calibration that are used, at most.
    pub prompts: usize,
    /// Further ones that are made by joining some of them.
    pub joined: usize,
    /// Whether outlier channels are smoothed (SmoothQuant).
    pub smooth: bool,
    /// Whether rounding errors are compensated by the weights still to be rounded (GPTQ); else each weight goes to its nearest
    /// code.
    pub compensate: bool,
    /// Parts of the full scale that are tried for each row where errors are compensated.
    pub clips: &'static [f32],
    /// By what part of itself a plan may grow for the sake of precision, 0 to 1.
    pub budget: f64,
}

impl Recipe {
    /// Each weight to its nearest code.
    pub const PLAIN: Recipe =
        Recipe { prompts: 32, joined: 0, smooth: false, compensate: false, clips: &[1.0], budget: 0.0 };

    /// What measures best in the time that there is.
    pub const fn of(quality: Quality) -> Self {
        let fast = Recipe {
            prompts: 32,
            joined: 0,
            smooth: true,
            compensate: true,
            clips: &[1.0, 0.9, 0.8, 0.7],
            budget: 0.01,
        };
        match quality {
            Quality::Fast => fast,
            Quality::Best => Recipe {
                prompts: 256,
                joined: 256,
                clips: &[1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65],
                ..fast
            },
        }
    }
}
