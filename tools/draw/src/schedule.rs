//! From noise to picture: the points on the way where the UNet is asked. At each a sample is `signal · picture + noise · normal`.

use std::f64::consts::FRAC_PI_2;

use anyhow::{Result, ensure};

/// A point on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Share of the picture, papers' α.
    pub signal: f64,
    /// Share of the noise, their σ.
    pub noise: f64,
    /// What the UNet calls it.
    pub timestep: f64,
}

/// The end of the way.
const PICTURE: Point = Point { signal: 1.0, noise: 0.0, timestep: 0.0 };

/// How signal and noise change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Flow matching: `signal = 1 - noise`.
    Flow {
        /// How much longer the way stays near noise, `shift` (Stable Diffusion 3, arXiv:2403.03206, section 5.3.2); 1: not at all.
        shift: f64,
        /// The timestep of noise alone.
        timesteps: u32,
    },
    /// `squaredcos_cap_v2` (improved DDPM, arXiv:2102.09672): `signal² + noise² = 1`.
    Cosine {
        /// Into how many steps training cuts the way.
        timesteps: u32,
    },
}

impl Schedule {
    /// The points of so many steps: one before each, and the picture behind the last. They lie as diffusers' pipelines have them: of flow
    /// matching as Flux's, else with `timestep_spacing="trailing"`, so that the first is the noisiest (arXiv:2305.08891).
    ///
    /// # Errors
    /// When training had fewer steps.
    pub fn points(&self, steps: u16) -> Result<Vec<Point>> {
        let left = (1..=steps).rev().map(|left| f64::from(left) / f64::from(steps));
        let mut points: Vec<Point> = match *self {
            Self::Flow { shift, timesteps } => left
                .map(|noise| shift * noise / (1.0 + (shift - 1.0) * noise))
                .map(|noise| Point { signal: 1.0 - noise, noise, timestep: noise * f64::from(timesteps) })
                .collect(),
            Self::Cosine { timesteps } => {
                ensure!(u32::from(steps) <= timesteps, "the UNet was trained for {timesteps} timesteps");
                let squares = cosine(timesteps);
                let at = |left: f64| libm::rint(left * f64::from(timesteps)) - 1.0;
                left.map(at)
                    .map(|timestep| {
                        let square = squares[timestep as usize];
                        Point { signal: libm::sqrt(square), noise: libm::sqrt(1.0 - square), timestep }
                    })
                    .collect()
            }
        };
        points.push(PICTURE);
        Ok(points)
    }
}

/// `signal²` at each timestep, diffusers' `alphas_cumprod`.
fn cosine(timesteps: u32) -> Vec<f64> {
    let bar = |at: u32| {
        let cos = libm::cos((f64::from(at) / f64::from(timesteps) + 0.008) / 1.008 * FRAC_PI_2);
        cos * cos
    };
    let product = |product: &mut f64, at: u32| {
        // A step adds less noise than would leave nothing.
        let beta = (1.0 - bar(at + 1) / bar(at)).min(0.999);
        *product *= 1.0 - beta;
        Some(*product)
    };
    (0..timesteps).scan(1.0, product).collect()
}
