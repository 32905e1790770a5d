//! The encoder of images.

use core::convert::Infallible;

use super::arena::{Arena, Layout, values};
use super::batch::Batch;
use super::encoder::can_run;
use super::error::{EncoderError, PassError};
use super::sink::{EachStep, Sink, StepOutput};
use super::steps::{self, Given};
use crate::kernels::Kernels;
use crate::kernels::float_mode::Exact;
use crate::kernels::set::KernelSet;
use crate::plan::{Graph, Grid, ImagePlan, MAX_SEQUENCES, Resident, Source};
use crate::threads::{Solo, Team};

/// Turns images into embeddings with one plan, in one arena: CLIP's other half, of a
/// [text encoder](crate::Encoder)'s guarantees. What it makes of an image is the same on every CPU, bit for bit, alone or beside
/// others.
///
/// An image is its pixels, `[side, side, 3]` bytes: red, green and blue of each, row after row from the top left, scaled and cropped as the
/// model's preprocessing does. What that does to the pixels' values (1/255, mean, deviation) is in the plan's weights.
pub struct ImageEncoder<'a, T = Solo, S = Resident<'a>> {
    graph: Graph<'a>,
    grid: Grid,
    source: S,
    kernels: KernelSet<'a>,
    team: T,
    arena: &'a mut [u8],
}

impl<'a> ImageEncoder<'a> {
    /// An encoder on the calling thread, with the fastest kernels of this CPU.
    ///
    /// `arena` starts at a multiple of 64 and has [`Graph::arena_bytes`]`(1)` bytes or more.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena does not do, or the plan was compiled for another kind of CPU.
    pub fn new(plan: &ImagePlan<'a>, arena: &'a mut [u8]) -> Result<Self, EncoderError> {
        ImageEncoder::with(plan, arena, plan.kernels().map_err(EncoderError::Packing)?, Solo)
    }
}

impl<'a, T: Team> ImageEncoder<'a, T> {
    /// An encoder with chosen kernels, the same for all workers or a [`KernelSet`], and workers.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena or the kernels do not do.
    pub fn with(
        plan: &ImagePlan<'a>,
        arena: &'a mut [u8],
        kernels: impl Into<KernelSet<'a>>,
        team: T,
    ) -> Result<Self, EncoderError> {
        ImageEncoder::over(plan, plan.constants(), arena, kernels, team)
    }
}

impl<'a, T: Team, S: Source> ImageEncoder<'a, T, S> {
    /// An encoder that takes the constants of `plan` from `source`.
    ///
    /// # Errors
    /// [`EncoderError`] where the arena or the kernels do not do.
    pub fn over(
        plan: &ImagePlan<'a>,
        source: S,
        arena: &'a mut [u8],
        kernels: impl Into<KernelSet<'a>>,
        team: T,
    ) -> Result<Self, EncoderError> {
        let kernels = kernels.into();
        can_run(plan, arena, kernels)?;
        Ok(Self { graph: plan.graph(), grid: plan.grid(), source, kernels, team, arena })
    }

    /// The kernels in use, those of the first worker.
    pub fn kernels(&self) -> Kernels {
        self.kernels.first()
    }

    /// What it runs.
    pub fn graph(&self) -> &Graph<'a> {
        &self.graph
    }

    /// The size of the images.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Encodes an image; `sink` is given the rows, which also stay in the arena.
    ///
    /// # Errors
    /// [`PassError::Pixels`] where the image has another size, and where the source failed.
    pub fn encode_from(
        &mut self,
        image: &[u8],
        sink: &mut impl Sink,
    ) -> Result<ImageEmbedding<'_>, PassError<S::Error>> {
        self.pass(&[image], sink)?;
        Ok(self.embedding(1, 0))
    }

    /// Encodes up to [`MAX_SEQUENCES`] images in one pass, in which the weights are read once. What comes out of each is what it
    /// gives alone, bit for bit.
    ///
    /// The arena has [`Graph::arena_bytes`] of their number, or more.
    ///
    /// # Errors
    /// [`PassError`] where there are none or too many, the arena has no room for them, one has another size, or the source failed.
    pub fn pass(&mut self, images: &[&[u8]], sink: &mut impl Sink) -> Result<(), PassError<S::Error>> {
        if !(1..=MAX_SEQUENCES).contains(&images.len()) {
            return Err(PassError::Inputs { given: images.len() });
        }
        let bytes = self.grid.bytes();
        if let Some(given) = images.iter().map(|image| image.len()).find(|&given| given != bytes) {
            return Err(PassError::Pixels { given, needed: bytes });
        }
        let (needed, given) = (self.graph.arena_bytes(images.len()), self.arena.len());
        if given < needed {
            return Err(PassError::Arena(EncoderError::ArenaTooSmall { needed, given }));
        }
        let mut batch = Batch::new();
        images.iter().for_each(|_| batch.push_image(self.grid.tokens()));
        let layout = self.layout(images.len());
        let mut arena = Arena::new(self.arena, layout);
        let exact = Exact::enter();
        let workers = (self.kernels, &self.team);
        let given = (&batch, Given::Images(images));
        steps::run(&self.graph, &mut self.source, workers, &mut arena, given, sink)
            .map_err(PassError::Source)?;
        drop(exact);
        for index in 0..images.len() {
            let embedding = self.embedding(images.len(), index);
            sink.hidden(index, embedding.hidden());
            if let Some(row) = embedding.pooled() {
                sink.pooled(index, row);
            }
        }
        Ok(())
    }

    /// What stands in the arena of image `index` of `count`.
    fn embedding(&self, count: usize, index: usize) -> ImageEmbedding<'_> {
        let (layout, manifest, tokens) = (self.layout(count), self.graph.manifest(), self.grid.tokens());
        let hidden = layout.place(manifest.hidden, index * tokens..(index + 1) * tokens);
        let pooled = manifest.pooled.map(|place| layout.place(place, index..index + 1));
        ImageEmbedding {
            width: self.graph.width(),
            hidden: values(self.arena.get(hidden).unwrap_or(&[])),
            pooled: pooled.map(|place| values(self.arena.get(place).unwrap_or(&[]))),
        }
    }

    /// Where a pass over so many images has its places.
    fn layout(&self, images: usize) -> Layout {
        let cut = self.graph.cut();
        Layout { cut, room: cut.room(images, images * self.grid.tokens()) }
    }
}

impl<'a, T: Team, S: Source<Error = Infallible>> ImageEncoder<'a, T, S> {
    /// Encodes an image.
    ///
    /// # Errors
    /// [`PassError::Pixels`] where it has another size.
    pub fn encode(&mut self, image: &[u8]) -> Result<ImageEmbedding<'_>, PassError<Infallible>> {
        self.encode_from(image, &mut ())
    }

    /// [`encode`](Self::encode), telling `after_step` of each step as soon as it is done.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_observed(
        &mut self,
        image: &[u8],
        after_step: impl FnMut(StepOutput<'_>),
    ) -> Result<ImageEmbedding<'_>, PassError<Infallible>> {
        self.encode_from(image, &mut EachStep(after_step))
    }
}

/// What an image became: a view into the arena.
#[derive(Clone, Debug)]
pub struct ImageEmbedding<'e> {
    width: usize,
    hidden: &'e [f32],
    pooled: Option<&'e [f32]>,
}

impl<'e> ImageEmbedding<'e> {
    /// The last layer's hidden states, `[tokens, width]` row by row: the class token's, then the patches' from the top left to the
    /// bottom right.
    pub fn hidden(&self) -> &'e [f32] {
        self.hidden
    }

    /// Columns of the hidden states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The image's embedding, `[columns]`: the class token's row behind the last norm, projected into the space of the texts where
    /// the plan has the projection.
    pub fn pooled(&self) -> Option<&'e [f32]> {
        self.pooled
    }
}
