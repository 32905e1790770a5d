//! Weights into the panels that the kernels read; see [`cliptext::kernels::layout`].

use std::borrow::Cow;

use anyhow::{Context, Result};
use cliptext::kernels::layout::Panels;

use crate::ir::{Linear, Weight};
use crate::quantize::quantize_rows;

/// The panels of several linears with the same inputs, one after the other as one.
pub fn pack(linears: &[&Linear], panels: Panels) -> Result<Vec<u8>> {
    let mut out = vec![0; panels.bytes().context("a weight matrix is too large to address")?];
    let mut first = 0;
    for linear in linears {
        if panels.packing.is_int8() {
            pack_int8(linear, panels, first, &mut out);
        } else {
            pack_f32(linear, panels, first, &mut out);
        }
        first += linear.weight.rows();
    }
    Ok(out)
}

fn pack_int8(linear: &Linear, panels: Panels, first: usize, out: &mut [u8]) {
    let quantized = match &linear.weight {
        Weight::Int8(quantized) => Cow::Borrowed(quantized),
        Weight::F32(matrix) => Cow::Owned(quantize_rows(matrix)),
    };
    let group = panels.packing.group();
    for (row, codes) in quantized.codes.chunks_exact(quantized.cols).enumerate() {
        let output = first + row;
        for (index, codes) in codes.chunks(group).enumerate() {
            let at = panels.weight_at(output, index * group);
            for (place, code) in out[at..].iter_mut().zip(codes) {
                *place = *code as u8;
            }
        }
        let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
        put(out, panels.sum_at(output), sum.to_le_bytes());
        put(out, panels.scale_at(output), quantized.scales[row].to_le_bytes());
        put(out, panels.bias_at(output), linear.bias[row].to_le_bytes());
    }
}

fn pack_f32(linear: &Linear, panels: Panels, first: usize, out: &mut [u8]) {
    let weight = linear.weight.to_f32();
    for row in 0..weight.rows {
        for (input, value) in weight.row(row).iter().enumerate() {
            put(out, panels.weight_at(first + row, input), value.to_le_bytes());
        }
        put(out, panels.bias_at(first + row), linear.bias[row].to_le_bytes());
    }
}

fn put(out: &mut [u8], at: usize, bytes: [u8; 4]) {
    out[at..at + 4].copy_from_slice(&bytes);
}
