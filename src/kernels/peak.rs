//! What the inner loop of a kernel can do at most, for benchmarks.

use core::hint::black_box;

use super::choice::Kernels;
use super::layout::{CODE_ALIGN, PANEL, Packing};
use super::ops::attention::{EXERCISE, Exercise};
use super::ops::quantize::QuantParams;
use super::ops::tile::{Accumulators, Ahead, MAX_TILE_PANELS, MAX_TILE_ROWS, TileInput};
use super::simd::LANES;

/// Inputs of the products: few enough that everything stays in the first-level cache.
const INPUTS: usize = 256;
/// A row sum per channel follows the weights, as in a plan.
const PANEL_BYTES: usize = INPUTS * PANEL + 4 * PANEL;

#[repr(C, align(64))]
struct Data {
    codes: [u8; MAX_TILE_ROWS * INPUTS],
    panels: [i8; MAX_TILE_PANELS * PANEL_BYTES],
    params: [QuantParams; MAX_TILE_ROWS],
}

const _: () = assert!(INPUTS.is_multiple_of(CODE_ALIGN));

impl Kernels {
    /// Runs the inner loop for `packing` over data in the first-level cache, `rounds` times; returns the number of
    /// multiplications, 0 where it has no inner loop of its own. Time it, and you know how many this core can do.
    pub fn exercise(self, packing: Packing, rounds: usize) -> u64 {
        let Some(product) = self.product(packing) else { return 0 };
        let data = Data {
            codes: [1; _],
            panels: [1; _],
            params: [QuantParams { scale: 1.0, neg_zero_point: 1 }; _],
        };
        let mut sums = Accumulators::new();
        for _ in 0..rounds {
            let input = TileInput {
                codes: black_box(&data.codes).as_ptr(),
                stride: INPUTS,
                params: data.params.as_ptr(),
                panel: data.panels.as_ptr(),
                panel_stride: PANEL_BYTES,
                groups: INPUTS / packing.group(),
                group: packing.group(),
                ahead: Ahead::NONE,
            };
            // SAFETY: `data` has the rows and panels of the largest tile; holding `self` proves the instructions.
            unsafe { (product.tile)(&input, &mut sums) };
            black_box(&sums);
        }
        (rounds * product.rows * product.panels * PANEL * INPUTS) as u64
    }

    /// As [`exercise`](Self::exercise), with the inner loop of attention, which is f32.
    pub fn exercise_f32(self, rounds: usize) -> u64 {
        let data = Exercise { factors: [0.5; EXERCISE], vectors: [[[0.25; LANES]; 2]; EXERCISE] };
        let (mut out, mut products) = ([0.0; LANES], 0);
        for _ in 0..rounds {
            // SAFETY: holding `self` proves the instructions.
            products += unsafe { (self.0.vector.exercise)(black_box(&data), &mut out) };
            black_box(&out);
        }
        products as u64
    }
}
