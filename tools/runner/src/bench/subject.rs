//! What is measured: a text encoder's plan or an image encoder's.

use std::hint::black_box;
use std::ops::Deref;

use cliptext::plan::{Axis, Step};
use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Encoder, Graph, Kernels, Plan, StepOutput};
#[cfg(feature = "pictures")]
use cliptext::{ImageEncoder, ImagePlan};

use super::workload::PROMPT;
use crate::failure::Outcome;
use crate::plan::Source;
use crate::setup::cannot_encode;

/// A plan.
pub(super) enum Subject<'p> {
    Text(Box<Plan<'p>>),
    #[cfg(feature = "pictures")]
    Image(Box<ImagePlan<'p>>),
}

impl<'p> Deref for Subject<'p> {
    type Target = Graph<'p>;

    fn deref(&self) -> &Graph<'p> {
        match self {
            Self::Text(plan) => plan,
            #[cfg(feature = "pictures")]
            Self::Image(plan) => plan,
        }
    }
}

impl<'p> Subject<'p> {
    /// The text encoder's plan in a file, or the image encoder's where it is asked for or alone there.
    pub(super) fn load(source: &'p Source, image: bool) -> Outcome<Self> {
        #[cfg(feature = "pictures")]
        if image || !source.holds().0 {
            return Ok(Self::Image(Box::new(source.load_image()?)));
        }
        let _ = image;
        Ok(Self::Text(Box::new(source.load()?)))
    }

    /// What one encoding reads.
    pub(super) fn input(&self) -> &'static str {
        match self {
            Self::Text(_) => "prompt",
            #[cfg(feature = "pictures")]
            Self::Image(_) => "image",
        }
    }

    /// The rows of a step that an encoding computes: the first one of tokens may be known.
    pub(super) fn computed_rows(&self, step: &Step) -> u64 {
        let known = match self {
            Self::Text(plan) => plan.cached_token().is_some(),
            #[cfg(feature = "pictures")]
            Self::Image(_) => false,
        };
        u64::from(step.out.rows) - u64::from(known && step.out.axis == Axis::Token)
    }

    /// An encoder of it over `memory`, with what it encodes.
    pub(super) fn encoder<'a>(
        &self,
        memory: &'a mut AlignedBytes,
        kernels: Kernels,
        team: &'a Threads,
    ) -> Outcome<Encodes<'a>>
    where
        'p: 'a,
    {
        match self {
            Self::Text(plan) => {
                let encoder = Encoder::with(plan, memory, kernels, team).map_err(cannot_encode)?;
                Ok(Encodes::Prompt(Box::new(encoder)))
            }
            #[cfg(feature = "pictures")]
            Self::Image(plan) => {
                // What the pixels are changes no time.
                let pixels = (0..plan.grid().bytes()).map(|at| (at * 31 % 251) as u8).collect();
                let encoder = ImageEncoder::with(plan, memory, kernels, team).map_err(cannot_encode)?;
                Ok(Encodes::Pixels(Box::new(encoder), pixels))
            }
        }
    }
}

/// An encoder and what it encodes, the same each time.
pub(super) enum Encodes<'a> {
    Prompt(Box<Encoder<'a, &'a Threads>>),
    #[cfg(feature = "pictures")]
    Pixels(Box<ImageEncoder<'a, &'a Threads>>, Vec<u8>),
}

impl Encodes<'_> {
    /// Encodes it, all of it.
    pub(super) fn once(&mut self) {
        match self {
            Self::Prompt(encoder) => {
                encoder.forget();
                black_box(encoder.encode(PROMPT).hidden());
            }
            #[cfg(feature = "pictures")]
            Self::Pixels(encoder, pixels) => {
                // The pixels have the plan's size.
                let _ = black_box(encoder.encode(pixels).map(|found| found.hidden().len()));
            }
        }
    }

    /// Encodes it, telling of each step as soon as it is done.
    pub(super) fn observed(&mut self, after_step: impl FnMut(StepOutput<'_>)) {
        match self {
            Self::Prompt(encoder) => {
                encoder.encode_observed(PROMPT, after_step);
            }
            #[cfg(feature = "pictures")]
            Self::Pixels(encoder, pixels) => {
                let _ = encoder.encode_observed(pixels, after_step);
            }
        }
    }
}
