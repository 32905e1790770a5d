//! Matrix products in f32.

use super::linear::{Epilogue, Task, block_at, channels, finish};
use super::math::activate;
use crate::kernels::layout::{PANEL, Panels, Piece};
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::Simd;

/// Rows that go through an f32 panel together.
pub(crate) const F32_ROWS: usize = 4;

/// A linear step over f32 rows.
pub(crate) struct LinearF32<'a> {
    /// `[rows, inputs]`.
    pub(crate) input: &'a [f32],
    pub(crate) panels: Panels,
    /// The panels at hand.
    pub(crate) weights: Piece<'a>,
    pub(crate) epilogue: Epilogue,
    /// `[rows, outputs]`.
    pub(crate) out: SharedMut<'a, f32>,
}

impl LinearF32<'_> {
    /// Whether all that a task reads and writes is there.
    pub(crate) fn holds(&self, task: &Task) -> bool {
        let inputs = self.panels.inputs as usize;
        task.fits(&self.panels, self.weights, &self.out) && task.rows.end * inputs <= self.input.len()
    }
}

/// `rows` of `panels`: each sum is one chain of fused multiply-adds from the first input to the last.
///
/// # Safety
/// As [`linear_int8`](super::linear_int8::linear_int8).
#[inline(always)]
pub(crate) unsafe fn linear_f32<S: Simd>(s: S, step: &LinearF32<'_>, task: Task) {
    let Task { panels, rows, .. } = task;
    for panel in panels {
        let mut row = rows.start;
        while row < rows.end {
            // SAFETY: the caller's promise.
            unsafe {
                if row + F32_ROWS <= rows.end {
                    f32_tile::<S, F32_ROWS>(s, step, row, panel);
                    row += F32_ROWS;
                } else {
                    f32_tile::<S, 1>(s, step, row, panel);
                    row += 1;
                }
            }
        }
    }
}

/// `R` rows of one panel.
///
/// # Safety
/// As [`linear_int8`](super::linear_int8::linear_int8); the rows exist.
#[inline(always)]
unsafe fn f32_tile<S: Simd, const R: usize>(s: S, step: &LinearF32<'_>, row: usize, panel: usize) {
    let (inputs, outputs) = (step.panels.inputs as usize, step.panels.outputs as usize);
    let channels = channels(&step.panels, panel);
    let (piece, at_hand) = (step.weights.bytes.as_ptr(), channels.start - step.weights.first * PANEL);
    let mut sums = [s.splat(0.0); R];
    // SAFETY: the rows exist.
    let rows = unsafe { step.input.as_ptr().add(row * inputs) };
    for k in 0..inputs {
        // SAFETY: `k` is one of the panel's inputs.
        let weights = s.load(unsafe { block_at(piece, step.panels.weight_at(at_hand, k)) });
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let x = unsafe { *rows.add(r * inputs + k) };
            *sum = s.mul_add(s.splat(x), weights, *sum);
        }
    }
    // SAFETY: the biases belong to the panel.
    let bias = s.load(unsafe { block_at(piece, step.panels.bias_at(at_hand)) });
    for (r, sum) in sums.into_iter().enumerate() {
        let place = (row + r) * outputs + channels.start..(row + r) * outputs + channels.end;
        // SAFETY: these channels are this task's.
        unsafe {
            let value = activate(s, step.epilogue.activation, s.add(sum, bias));
            finish(s, step.epilogue.residual, value, step.out, place);
        }
    }
}
