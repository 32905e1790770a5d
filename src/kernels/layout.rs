//! The packed layouts of linear weights: described here, written by the compiler, read by the kernels.
//!
//! A weight matrix `[outputs, inputs]` is cut into *panels* of [`PANEL`] output channels; the last one is filled up
//! with zeros. A kernel reads a panel from front to back.
//!
//! An int8 panel holds `inputs / group` (rounded up, zeros behind the last input) groups of `PANEL * group` bytes, for
//! each channel in turn its `group` weights (four in the picture; [`Packing`] says how many), then the panel's
//! *trailer*: for each channel the sum of its weights (i32), its scale (f32) and its bias (f32).
//!
//! ```text
//! group 0: c0[k0 k1 k2 k3] c1[k0 k1 k2 k3] … c15[k0 k1 k2 k3]    64 bytes
//! group 1: c0[k4 k5 k6 k7] …
//! …
//! trailer: sum[16] scale[16] bias[16]                           192 bytes
//! ```
//!
//! An f32 panel holds for each input the `PANEL` channels' weights, then `PANEL` biases.
//!
//! Every panel is a multiple of 64 bytes long.
//!
//! A row of activation codes is as long as [`code_stride`] says: what stands behind its last input may be read and is
//! multiplied by zeros.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Half of a row's range below which its activation codes are all zero: its reciprocal would overflow.
pub const TINY: f32 = 1e-30;
/// Half of a row's range is taken for this part of its middle at least: so a zero point is small.
pub const NARROW: f32 = 0.25;
/// Activation codes from the middle of a row's range to its ends. A value and the middle are rounded each by half a code
/// at the most, so they become integers less than 128 apart: no code of finite values is beyond ±127.
pub const HALF: f32 = 126.99;
/// The largest magnitude of a row's zero point: `HALF / NARROW`, rounded.
pub(crate) const MAX_ZERO_POINT: u32 = 508;

/// The most inputs of a linear step: with int8 the sums of its products, of codes less their zero points, fit 32 bits.
pub(crate) const MAX_INPUTS: u32 = 1 << 14;
const _: () = assert!(MAX_INPUTS as u64 * 127 * (127 + MAX_ZERO_POINT as u64) < 1 << 31);

/// Output channels in a panel.
pub const PANEL: usize = 16;

/// Bytes of one value per channel in a panel's trailer.
const VECTOR: usize = 4 * PANEL;

/// Bytes of a row of activation codes are a multiple of this, so that kernels may read whole groups and lanes.
pub const CODE_ALIGN: usize = 64;

/// How the weights of a linear step are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// Int8 in groups of 4 inputs: what one lane of a dot-product instruction takes.
    Int8x4,
    /// f32.
    F32,
    /// Int8 in groups of 8 inputs: two channels are a vector, as the matrix-multiply instructions take them.
    Int8x8,
    /// Int8 in groups of 16 inputs: a channel is a vector, for NEON's widening multiplies.
    Int8x16,
}

impl Packing {
    /// Every packing.
    pub const ALL: [Packing; 4] = [Packing::Int8x4, Packing::F32, Packing::Int8x8, Packing::Int8x16];

    /// The compiler's option that packs weights so.
    pub const fn option(self) -> &'static str {
        match self {
            Packing::Int8x4 => "--target generic",
            Packing::F32 => "--precision f32",
            Packing::Int8x8 => "--target i8mm",
            Packing::Int8x16 => "--target neon",
        }
    }

    /// Inputs whose weights stand side by side.
    pub const fn group(self) -> usize {
        match self {
            Packing::Int8x4 => 4,
            Packing::F32 => 1,
            Packing::Int8x8 => 8,
            Packing::Int8x16 => 16,
        }
    }

    /// Its name, as `inspect` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Packing::Int8x4 => "int8x4",
            Packing::F32 => "f32",
            Packing::Int8x8 => "int8x8",
            Packing::Int8x16 => "int8x16",
        }
    }

    /// Whether weights are int8 codes with a scale per output channel.
    pub const fn is_int8(self) -> bool {
        !matches!(self, Packing::F32)
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The packed form of one `[outputs, inputs]` weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panels {
    /// Input channels.
    pub inputs: u32,
    /// Output channels.
    pub outputs: u32,
    /// How weights are stored.
    pub packing: Packing,
}

impl Panels {
    /// Number of panels.
    pub const fn count(&self) -> usize {
        (self.outputs as usize).div_ceil(PANEL)
    }

    /// Groups of inputs in a panel.
    pub const fn groups(&self) -> usize {
        (self.inputs as usize).div_ceil(self.packing.group())
    }

    /// Bytes of a weight.
    const fn weight_size(&self) -> usize {
        if self.packing.is_int8() { 1 } else { 4 }
    }

    /// Bytes of a panel before its trailer.
    pub const fn weight_bytes(&self) -> usize {
        self.groups() * self.packing.group() * PANEL * self.weight_size()
    }

    /// Bytes of a panel, a multiple of 64.
    pub const fn panel_bytes(&self) -> usize {
        self.weight_bytes() + if self.packing.is_int8() { 3 * VECTOR } else { VECTOR }
    }

    /// Bytes of all panels; `None` when that is more than an address can say.
    pub fn bytes(&self) -> Option<usize> {
        self.count().checked_mul(self.panel_bytes())
    }

    /// Where the weight from `input` to `output` stands, in bytes from the first panel.
    pub const fn weight_at(&self, output: usize, input: usize) -> usize {
        let group = self.packing.group();
        let in_panel = (input / group * PANEL + output % PANEL) * group + input % group;
        output / PANEL * self.panel_bytes() + in_panel * self.weight_size()
    }

    /// Where the row sum (int8 panels only) of `output` stands.
    pub const fn sum_at(&self, output: usize) -> usize {
        output / PANEL * self.panel_bytes() + self.weight_bytes() + output % PANEL * 4
    }

    /// Where the scale (int8 panels only) of `output` stands.
    pub const fn scale_at(&self, output: usize) -> usize {
        self.sum_at(output) + VECTOR
    }

    /// Where the bias of `output` stands.
    pub const fn bias_at(&self, output: usize) -> usize {
        self.sum_at(output) + if self.packing.is_int8() { 2 * VECTOR } else { 0 }
    }
}

/// Panels of one step that follow one another in memory: all, or those that are at hand.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// The first panel's number.
    pub(crate) first: usize,
    /// Whole panels, aligned to 64.
    pub(crate) bytes: &'a [u8],
}

/// Bytes of a row of activation codes for `inputs` channels.
pub const fn code_stride(inputs: usize) -> usize {
    inputs.next_multiple_of(CODE_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_has_a_place_of_its_own() {
        for packing in Packing::ALL {
            let panels = Panels { inputs: 7, outputs: 19, packing };
            let bytes = panels.bytes().unwrap();
            let size = panels.weight_size();
            let mut seen = std::vec![false; bytes];
            let mut take = |at: usize, size: usize| {
                assert!(seen[at..at + size].iter().all(|taken| !taken), "{at}");
                seen[at..at + size].fill(true);
            };
            for output in 0..19 {
                for input in 0..7 {
                    take(panels.weight_at(output, input), size);
                }
                take(panels.bias_at(output), 4);
                if packing.is_int8() {
                    take(panels.sum_at(output), 4);
                    take(panels.scale_at(output), 4);
                }
            }
            assert_eq!(panels.panel_bytes() % 64, 0);
        }
    }
}
