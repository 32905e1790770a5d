//! What int8 and f32 matrix products share: how they are cut into tasks, and their epilogue.

use core::ops::Range;

use super::math::Activation;
use crate::kernels::layout::{PANEL, Panels, Piece};
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::{Block, LANES, Simd};

// A panel's channels are the lanes of one vector in every epilogue.
const _: () = assert!(PANEL == LANES);

/// What is applied to a sum before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Applied after the bias.
    pub activation: Activation,
    /// Whether the result is added to the output's previous values.
    pub residual: bool,
}

/// A part of a linear step.
pub(crate) struct Task {
    pub(crate) panels: Range<usize>,
    pub(crate) rows: Range<usize>,
    /// The first panel of the task that this one's worker will probably have next, unless it has the same panels.
    pub(crate) next: Option<usize>,
}

/// How a product is cut into tasks.
#[derive(Clone, Copy)]
pub(crate) struct TaskSize {
    /// Panels of a task, at least.
    pub(crate) least_panels: usize,
    /// The most panels of a task.
    pub(crate) panels: usize,
    /// Rows of a task, at least, where it has not all of them: each task fetches its panels anew.
    pub(crate) rows: usize,
    /// Tasks for each worker, at least, where there are panels and rows for them: the last to end holds up the others by no more than
    /// a task.
    pub(crate) per_worker: usize,
}

impl Task {
    /// Whether its rows lie in `out`, and its panels are among those of `panels` that are at hand: with the rows of the input, which
    /// each kind of product has of its own, what every pointer of a kernel is derived from.
    pub(super) fn fits(&self, panels: &Panels, weights: Piece<'_>, out: &SharedMut<'_, f32>) -> bool {
        let at_hand = weights.first..weights.first + weights.bytes.len() / panels.panel_bytes().max(1);
        let has_panels =
            self.panels.is_empty() || at_hand.start <= self.panels.start && self.panels.end <= at_hand.end;
        has_panels && at_hand.end <= panels.count() && self.rows.end * panels.outputs as usize <= out.len()
    }
}

/// The output channels of `panel` that exist.
pub(super) fn channels(panels: &Panels, panel: usize) -> Range<usize> {
    panel * PANEL..((panel + 1) * PANEL).min(panels.outputs as usize)
}

/// Sixteen f32 in a panel, `at` bytes from the start of the piece that it is in.
///
/// # Safety
/// They lie in the panel, and `at` is a multiple of 4.
#[inline(always)]
pub(super) unsafe fn block_at<'a>(panel: *const u8, at: usize) -> &'a Block {
    // SAFETY: the caller's promise.
    unsafe { &*panel.add(at).cast::<Block>() }
}

/// Adds the residual, if any, and stores.
///
/// # Safety
/// `place` lies in `out` and belongs to the calling task.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    s: S,
    residual: bool,
    value: S::V,
    out: SharedMut<'_, f32>,
    place: Range<usize>,
) {
    // SAFETY: the caller's promise.
    let place = unsafe { out.part(place) };
    if let Some(block) = place.as_mut_array::<LANES>() {
        let value = if residual { s.add(value, s.load(block)) } else { value };
        s.store(value, block);
    } else {
        let value = if residual { s.add(value, s.load_part(place)) } else { value };
        s.store_part(value, place);
    }
}
