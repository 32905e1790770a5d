//! Every kernel that this CPU runs, against the scalar reference, bit for bit.

use std::vec::Vec;
use std::{format, vec};

use super::dispatch::{Codes, CodesMut, Sequences, attention_scratch};
use super::layout::{MAX_ZERO_POINT, Packing, Panels, Piece, code_stride};
use super::ops::embed::{PositionRow, TokenRow};
use super::ops::linear::Epilogue;
use super::ops::norm::Norm;
use super::ops::quantize::QuantParams;
use super::set::KernelSet;
use super::*;
use crate::threads::{Solo, Threads};

/// Deterministic numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ self.0 >> 32;
        x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
    }

    /// Roughly normal values with some large ones, as activations have.
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                let sum: i64 = (0..4).map(|_| (self.next() % 2001) as i64 - 1000).sum();
                let large = if self.next().is_multiple_of(97) { 30.0 } else { 1.0 };
                sum as f32 / 1000.0 * large
            })
            .collect()
    }

    fn code(&mut self) -> i8 {
        ((self.next() % 255) as i16 - 127) as i8
    }
}

/// Bytes that start at a multiple of 64, inside a vector that is that much longer.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(content: &[u8]) -> Self {
        let mut bytes = vec![0; content.len() + 64];
        let start = bytes.as_ptr().align_offset(64);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self { bytes, start, len: content.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }
}

impl Kernels {
    /// The same for all workers.
    fn set(self) -> KernelSet<'static> {
        self.into()
    }
}

/// All panels of a step at once.
fn all(bytes: &[u8]) -> Piece<'_> {
    Piece { first: 0, bytes }
}

/// The panels of a step in pieces of `count`.
fn pieces(panels: Panels, bytes: &[u8], count: usize) -> impl Iterator<Item = Piece<'_>> {
    let pieces = bytes.chunks(count * panels.panel_bytes()).enumerate();
    pieces.map(move |(index, bytes)| Piece { first: index * count, bytes })
}

/// The packings of int8 weights.
fn int8_packings() -> impl Iterator<Item = Packing> {
    Packing::ALL.into_iter().filter(|packing| packing.is_int8())
}

/// Runs `f` with the scalar kernels and each other that reads `packing`; all must return the same.
fn all_agree<R: PartialEq + core::fmt::Debug>(packing: Packing, what: &str, f: impl Fn(Kernels) -> R) {
    let want = f(Kernels::named("scalar").unwrap());
    for kernels in Kernels::available().filter(|kernels| kernels.reads(packing)) {
        assert!(f(kernels) == want, "{} differs from scalar: {what}", kernels.name());
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn params_bits(params: &[QuantParams]) -> Vec<[u32; 2]> {
    params.iter().map(|row| [row.scale.to_bits(), row.neg_zero_point as u32]).collect()
}

const WIDTHS: [usize; 9] = [1, 7, 16, 17, 40, 64, 100, 768, 1280];

/// Weights of every channel and input from `code`, in panels; with a naive product to compare.
fn int8_panels(panels: Panels, mut code: impl FnMut() -> i8, random: &mut Random) -> (Aligned, Vec<i8>) {
    let (inputs, outputs) = (panels.inputs as usize, panels.outputs as usize);
    let weights: Vec<i8> = (0..inputs * outputs).map(|_| code()).collect();
    let mut bytes = vec![0u8; panels.bytes().unwrap()];
    for output in 0..outputs {
        let row = &weights[output * inputs..][..inputs];
        for (input, weight) in row.iter().enumerate() {
            bytes[panels.weight_at(output, input)] = *weight as u8;
        }
        let sum: i32 = row.iter().map(|&w| i32::from(w)).sum();
        let [scale, bias] = random.values(2)[..] else { unreachable!() };
        bytes[panels.sum_at(output)..][..4].copy_from_slice(&sum.to_le_bytes());
        bytes[panels.scale_at(output)..][..4].copy_from_slice(&(scale.abs() * 0.01).to_le_bytes());
        bytes[panels.bias_at(output)..][..4].copy_from_slice(&bias.to_le_bytes());
    }
    (Aligned::new(&bytes), weights)
}

#[test]
fn int8_products_agree_over_odd_shapes() {
    let mut random = Random(1);
    let rows = (1..=16).chain([77, 154]);
    let sizes = [(1, 1), (3, 5), (4, 16), (16, 17), (64, 48), (65, 64), (100, 100), (36, 130), (768, 80)];
    for ((case, rows), packing) in rows.enumerate().flat_map(|rows| int8_packings().map(move |p| (rows, p))) {
        for (inputs, outputs) in sizes {
            let panels = Panels { inputs, outputs, packing };
            let mut codes = Random(case as u64 + 7);
            let (weights, _) = int8_panels(panels, || codes.code(), &mut random);
            let input = random.values(rows * inputs as usize);
            let before = random.values(rows * outputs as usize);
            for (activation, residual) in [(Activation::Identity, true), (Activation::QuickGelu, false)] {
                let what =
                    format!("{packing}, {rows} rows, {inputs} inputs, {outputs} outputs, {activation:?}");
                all_agree(panels.packing, &what, |kernels| {
                    let mut out = before.clone();
                    let mut codes = vec![0x55; rows * code_stride(inputs as usize)];
                    let mut params = vec![QuantParams::default(); rows];
                    let columns = inputs as usize;
                    kernels.set().quantize(
                        &Solo,
                        &input,
                        CodesMut { codes: &mut codes, params: &mut params, columns },
                    );
                    let codes = Codes { codes: &codes, params: &params, columns };
                    let epilogue = Epilogue { activation, residual };
                    // By pieces it is the same.
                    for piece in pieces(panels, weights.bytes(), 1 + case % 5) {
                        kernels.set().linear_int8(&Solo, codes, panels, piece, epilogue, &mut out);
                    }
                    bits(&out)
                });
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_saturate() {
    let mut random = Random(2);
    for (weight, value) in [(127, 1.0), (-127, 1.0), (127, -1.0), (-127, -1.0), (-128, -1.0)] {
        let inputs = [4, 8, 36, 3072].into_iter();
        for (inputs, packing) in inputs.flat_map(|inputs| int8_packings().map(move |p| (inputs, p))) {
            let panels = Panels { inputs, outputs: 80, packing };
            let (weights, _) = int8_panels(panels, || weight, &mut random);
            let columns = inputs as usize;
            let kernels = Kernels::available().filter(|kernels| kernels.reads(panels.packing));
            // Where the one other value is, and what a code less its zero point then comes to: zero points of 0, 127, 508.
            let others = [(-1.0, 127), (0.0, 254), (0.99, 511)];
            for (kernels, (other, largest)) in kernels.flat_map(|k| others.map(|other| (k, other))) {
                let mut input = vec![value; 7 * columns];
                input.iter_mut().step_by(columns).for_each(|first| *first = other * value);
                let mut codes = vec![0; 7 * code_stride(columns)];
                let mut params = vec![QuantParams::default(); 7];
                kernels.set().quantize(
                    &Solo,
                    &input,
                    CodesMut { codes: &mut codes, params: &mut params, columns },
                );
                let QuantParams { scale, neg_zero_point } = params[6];
                let plain = kernels.plain_codes(&codes, columns);
                let code = |code: u8| i32::from(code as i8) + neg_zero_point;
                assert_eq!(code(plain[7 * columns - 1]).abs(), largest);
                let sum: i32 = plain[6 * columns..].iter().map(|&c| code(c) * i32::from(weight)).sum();
                let codes = Codes { codes: &codes, params: &params, columns };
                let mut out = vec![0.0; 7 * 80];
                let epilogue = Epilogue { activation: Activation::Identity, residual: false };
                kernels.set().linear_int8(&Solo, codes, panels, all(weights.bytes()), epilogue, &mut out);
                for (index, got) in out.iter().enumerate() {
                    let at = |at: usize| f32::from_le_bytes(*weights.bytes()[at..].first_chunk().unwrap());
                    let (by_channel, bias) =
                        (at(panels.scale_at(index % 80)), at(panels.bias_at(index % 80)));
                    let want = libm::fmaf(sum as f32 * scale, by_channel, bias);
                    assert_eq!(
                        got.to_bits(),
                        want.to_bits(),
                        "{} {packing} {weight} {inputs}",
                        kernels.name()
                    );
                }
            }
        }
    }
}

#[test]
fn int8_products_are_the_products() {
    int8_packings().for_each(int8_products_are_the_products_in);
}

fn int8_products_are_the_products_in(packing: Packing) {
    let mut random = Random(3);
    let panels = Panels { inputs: 52, outputs: 37, packing };
    let mut source = Random(4);
    let (weights, plain) = int8_panels(panels, || source.code(), &mut random);
    let kernels = Kernels::named("scalar").unwrap();
    let input = random.values(5 * 52);
    let (mut codes, mut params) = (vec![0; 5 * 64], vec![QuantParams::default(); 5]);
    kernels.set().quantize(&Solo, &input, CodesMut { codes: &mut codes, params: &mut params, columns: 52 });
    let mut out = vec![0.0; 5 * 37];
    let epilogue = Epilogue { activation: Activation::Identity, residual: false };
    let view = Codes { codes: &codes, params: &params, columns: 52 };
    kernels.set().linear_int8(&Solo, view, panels, all(weights.bytes()), epilogue, &mut out);
    let float = |at: usize| f32::from_le_bytes(*weights.bytes()[at..].first_chunk().unwrap());
    for row in 0..5 {
        for output in 0..37 {
            let sum: i32 = (0..52)
                .map(|k| {
                    (i32::from(codes[row * 64 + k] as i8) + params[row].neg_zero_point)
                        * i32::from(plain[output * 52 + k])
                })
                .sum();
            let want = libm::fmaf(
                sum as f32 * params[row].scale,
                float(panels.scale_at(output)),
                float(panels.bias_at(output)),
            );
            assert_eq!(out[row * 37 + output].to_bits(), want.to_bits());
        }
    }
}

#[test]
fn codes_are_never_minus_128_and_flip_as_the_kernel_wants() {
    let mut random = Random(5);
    for width in WIDTHS {
        let mut input = random.values(3 * width);
        input[0] = -1e9;
        input[width..2 * width].fill(0.0);
        input[2 * width] = f32::MIN_POSITIVE;
        input[2 * width - 1] = -0.0;
        let mut plain: Option<(Vec<u8>, Vec<[u32; 2]>)> = None;
        for kernels in Kernels::available() {
            let (mut codes, mut params) = (vec![0; 3 * code_stride(width)], vec![QuantParams::default(); 3]);
            kernels.set().quantize(
                &Solo,
                &input,
                CodesMut { codes: &mut codes, params: &mut params, columns: width },
            );
            let got = kernels.plain_codes(&codes, width);
            assert!(got.iter().all(|&code| code as i8 != -128));
            let got = (got, params_bits(&params));
            assert_eq!(plain.get_or_insert_with(|| got.clone()), &got, "{} {width}", kernels.name());
        }
    }
}

#[test]
fn norms_agree() {
    let mut random = Random(6);
    for width in WIDTHS {
        let (gain, bias, input) = (random.values(width), random.values(width), random.values(11 * width));
        let norm = Norm { gain: &gain, bias: &bias, epsilon: 1e-5 };
        all_agree(Packing::F32, &format!("norm of {width}"), |kernels| {
            let mut out = vec![0.0; input.len()];
            kernels.set().norm(&Solo, norm, &input, &mut out);
            let stride = code_stride(width);
            let (mut codes, mut params) = (vec![0; 11 * stride], vec![QuantParams::default(); 11]);
            let place = CodesMut { codes: &mut codes, params: &mut params, columns: width };
            kernels.set().norm_to_codes(&Solo, norm, &input, place);
            let codes = kernels.plain_codes(&codes, width);
            // The two forms must tell the same: quantizing the rows gives the codes.
            let (mut again, mut again_params) = (vec![0; 11 * stride], vec![QuantParams::default(); 11]);
            kernels.set().quantize(
                &Solo,
                &out,
                CodesMut { codes: &mut again, params: &mut again_params, columns: width },
            );
            assert_eq!(params_bits(&params), params_bits(&again_params));
            assert_eq!(codes, kernels.plain_codes(&again, width));
            (bits(&out), codes, params_bits(&params))
        });
        // And it is a layer norm.
        let mut out = vec![0.0; input.len()];
        Kernels::fastest(Packing::F32).unwrap().set().norm(&Solo, norm, &input, &mut out);
        for (row, out) in input.chunks(width).zip(out.chunks(width)) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
            for (i, got) in out.iter().enumerate() {
                let want = (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt() * f64::from(gain[i])
                    + f64::from(bias[i]);
                assert!((f64::from(*got) - want).abs() < 2e-4 * want.abs().max(1.0), "{got} {want}");
            }
        }
    }
}

#[test]
fn f32_products_agree() {
    let mut random = Random(8);
    for rows in [1, 2, 3, 4, 5, 9, 77] {
        for (inputs, outputs) in [(1, 1), (5, 16), (16, 17), (64, 48), (33, 70)] {
            let panels = Panels { inputs, outputs, packing: Packing::F32 };
            let mut bytes = vec![0u8; panels.bytes().unwrap()];
            for output in 0..outputs as usize {
                for input in 0..inputs as usize {
                    let weight = random.values(1)[0].to_le_bytes();
                    bytes[panels.weight_at(output, input)..][..4].copy_from_slice(&weight);
                }
                let bias = random.values(1)[0].to_le_bytes();
                bytes[panels.bias_at(output)..][..4].copy_from_slice(&bias);
            }
            let weights = Aligned::new(&bytes);
            let input = random.values(rows * inputs as usize);
            for activation in [Activation::Identity, Activation::Gelu, Activation::GeluTanh] {
                all_agree(Packing::F32, &format!("{rows} {inputs} {outputs} {activation:?}"), |kernels| {
                    let mut out = vec![0.5; rows * outputs as usize];
                    let epilogue = Epilogue { activation, residual: true };
                    for piece in pieces(panels, weights.bytes(), 1 + rows % 3) {
                        kernels.set().linear_f32(&Solo, &input, panels, piece, epilogue, &mut out);
                    }
                    bits(&out)
                });
            }
        }
    }
}

/// Attention over `sequences`, in a scratch full of what other steps may have left there.
fn attend(kernels: Kernels, heads: Heads, qkv: &[f32], lengths: &[usize]) -> Vec<u32> {
    attend_from(kernels, heads, qkv, lengths, 0, 1)
}

/// [`attend`] of the rows from `from` on, the others left as they are, with room for so many heads in the scratch.
fn attend_from(
    kernels: Kernels,
    heads: Heads,
    qkv: &[f32],
    lengths: &[usize],
    from: usize,
    places: usize,
) -> Vec<u32> {
    let sequences = Sequences(lengths);
    let longest = lengths.iter().copied().max().unwrap();
    let mut out = vec![7.0; sequences.rows() * heads.width()];
    let mut scratch = vec![f32::NAN; attention_scratch(longest, places, heads.channels).unwrap()];
    let rows = (sequences, from);
    match places {
        1 => kernels.set().attention(&Solo, qkv, heads, rows, &mut scratch, &mut out),
        _ => {
            let team = Threads::start(3).unwrap();
            kernels.set().attention(&team, qkv, heads, rows, &mut scratch, &mut out);
        }
    }
    bits(&out)
}

const MASKS: [Mask; 2] = [Mask::Causal, Mask::None];

#[test]
fn attention_agrees_and_is_causal_where_it_is_masked() {
    let mut random = Random(9);
    let sizes: &[(usize, usize)] = if cfg!(miri) { &[(2, 20)] } else { &[(1, 16), (2, 8), (3, 20), (2, 64)] };
    for ((count, channels), mask) in sizes.iter().flat_map(|&heads| MASKS.map(|mask| (heads, mask))) {
        let heads = Heads { count, channels, scale: 0.125, mask };
        let width = heads.width();
        let all: &[&[usize]] =
            if cfg!(miri) { &[&[2, 18]] } else { &[&[1], &[5], &[16], &[17], &[77], &[6, 30]] };
        for &lengths in all {
            let sequences = Sequences(lengths);
            let qkv = random.values(sequences.rows() * 3 * width);
            all_agree(Packing::F32, &format!("{count}×{channels} {mask:?} {lengths:?}"), |kernels| {
                attend(kernels, heads, &qkv, lengths)
            });
            // Each sequence alone, cut short where the mask hides what follows, gives the same rows.
            let kernels = Kernels::fastest(Packing::F32).unwrap();
            let whole = attend(kernels, heads, &qkv, lengths);
            // Of some rows, and in scratches that have a place for fewer heads than workers, and for more.
            let first = lengths[0];
            for (from, places) in [(0, 2), (1, 3), (first / 2, 2), (first, 5)] {
                let got = attend_from(kernels, heads, &qkv, lengths, from, places);
                assert!(got[from * width..] == whole[from * width..], "from {from}");
                assert!(got[..from * width].iter().all(|&bits| bits == 7.0f32.to_bits()));
            }
            for (index, &length) in lengths.iter().enumerate() {
                for part in [1, length.div_ceil(2), length] {
                    if part < length && mask == Mask::None {
                        continue;
                    }
                    let range = sequences.range(index).start..sequences.range(index).start + part;
                    let alone =
                        attend(kernels, heads, &qkv[range.start * 3 * width..range.end * 3 * width], &[part]);
                    assert_eq!(alone, whole[range.start * width..range.end * width]);
                }
            }
        }
    }
}

/// The rows that image towers have, and those of a text: ViT-B/32, a text, ViT-B/16, ViT-L/14, ViT-L/14 at 336 pixels.
#[test]
fn attention_over_the_rows_of_image_towers_is_attention() {
    let mut random = Random(11);
    for (tokens, mask) in
        [50, 77, 197, 257, 577, MAX_TOKENS].into_iter().flat_map(|t| MASKS.map(|mask| (t, mask)))
    {
        let heads = Heads { count: 2, channels: 24, scale: 0.2, mask };
        let width = heads.width();
        let qkv = random.values(tokens * 3 * width);
        all_agree(Packing::F32, &format!("{tokens} tokens, {mask:?}"), |kernels| {
            attend(kernels, heads, &qkv, &[tokens])
        });
        let got = attend(Kernels::named("scalar").unwrap(), heads, &qkv, &[tokens]);
        // Of some rows, by the definition.
        for row in [0, 1, 15, 16, tokens / 2, tokens - 1] {
            for head in 0..heads.count {
                let vector = |row: usize, part: usize| {
                    &qkv[(3 * row + part) * width + head * heads.channels..][..heads.channels]
                };
                let seen = if mask == Mask::Causal { row + 1 } else { tokens };
                let product = |key: &[f32]| -> f64 {
                    vector(row, 0).iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum()
                };
                let scores: Vec<f64> =
                    (0..seen).map(|key| product(vector(key, 1)) * f64::from(heads.scale)).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = scores.iter().map(|score| libm::exp(score - largest)).collect();
                let sum: f64 = powers.iter().sum();
                for channel in 0..heads.channels {
                    let mixed = |(key, power): (usize, &f64)| power * f64::from(vector(key, 2)[channel]);
                    let want = powers.iter().enumerate().map(mixed).sum::<f64>() / sum;
                    let got = f32::from_bits(got[row * width + head * heads.channels + channel]);
                    assert!(
                        (f64::from(got) - want).abs() < 1e-4 * want.abs().max(1.0),
                        "{tokens} {mask:?} {row} {channel}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_size_makes_the_scratch_of_attention_wrap() {
    assert_eq!(attention_scratch(77, 12, 64), Some(12 * (64 + 6) * 80));
    assert_eq!(attention_scratch(MAX_TOKENS + 1, 1, 1), None);
    assert_eq!(attention_scratch(MAX_TOKENS, 1, usize::MAX), None);
    assert_eq!(attention_scratch(MAX_TOKENS, usize::MAX / 2, 64), None);
}

#[test]
fn embeddings_agree() {
    let mut random = Random(10);
    for width in WIDTHS {
        let codes: Vec<i8> = (0..width).map(|_| random.code()).collect();
        let values = random.values(width);
        let halves: Vec<u16> = random
            .values(width)
            .iter()
            .enumerate()
            .map(|(i, &x)| half::f16::from_f32(if i % 5 == 0 { x * 1e-6 } else { x }).to_bits())
            .collect();
        all_agree(Packing::F32, &format!("{width}"), |kernels| {
            let mut out = vec![0.0; 2 * width];
            let rows = [
                (TokenRow::Int8(&codes, 0.037), PositionRow::F16(&halves)),
                (TokenRow::F32(&values), PositionRow::F32(&values)),
            ];
            kernels.set().embed(rows.into_iter(), width, &mut out);
            bits(&out)
        });
    }
}

#[test]
fn kernels_are_had_by_name_only_where_they_run() {
    assert_eq!(Kernels::named("warp").unwrap_err(), KernelError::Unknown);
    let available: Vec<_> = Kernels::available().map(Kernels::name).collect();
    for name in Kernels::names() {
        assert_eq!(Kernels::named(name).is_ok(), available.contains(&name), "{name}");
    }
    assert_eq!(available.last(), Some(&"scalar"));
}

#[test]
fn kernels_may_be_assumed_by_their_names() {
    for kernels in Kernels::available() {
        // SAFETY: the CPU has their instructions.
        assert_eq!(unsafe { Kernels::assume(kernels.name()) }, Ok(kernels));
    }
    // SAFETY: there are none.
    assert_eq!(unsafe { Kernels::assume("warp") }, Err(KernelError::Unknown));
}

/// Values so small that sums and products of them are subnormal: flushed to zero, or rounded otherwise, they differ.
#[test]
fn subnormal_results_are_kept_whatever_the_mode_of_the_thread() {
    let mut random = Random(12);
    let heads = Heads { count: 2, channels: 20, scale: 0.3, mask: Mask::Causal };
    let panels = Panels { inputs: 24, outputs: 40, packing: Packing::F32 };
    let small = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|value| value * 1e-39).collect() };
    let (qkv, rows) = (small(random.values(9 * 120)), small(random.values(9 * 24)));
    let gain = small(random.values(24));
    let norm = Norm { gain: &gain, bias: &gain, epsilon: 1e-5 };
    let mut weights: Vec<u8> =
        random.values(panels.bytes().unwrap() / 4).into_iter().flat_map(f32::to_le_bytes).collect();
    (0..40).for_each(|output| weights[panels.bias_at(output)..][..4].fill(0));
    let weights = Aligned::new(&weights);
    for kernels in Kernels::available() {
        let run = || {
            let epilogue = Epilogue { activation: Activation::Identity, residual: false };
            let (mut products, mut normed) = (vec![0.0; 9 * 40], vec![0.0; rows.len()]);
            kernels.set().linear_f32(&Solo, &rows, panels, all(weights.bytes()), epilogue, &mut products);
            kernels.set().norm(&Solo, norm, &rows, &mut normed);
            [bits(&products), bits(&normed), attend(kernels, heads, &qkv, &[9])]
        };
        let want = run();
        let subnormal = |bits: &&u32| f32::from_bits(**bits).is_subnormal();
        assert!(want.iter().all(|bits| bits.iter().filter(subnormal).count() > bits.len() / 4));
        float_mode::hostile::set();
        let got = run();
        let stayed = float_mode::hostile::is_set();
        float_mode::hostile::unset();
        assert!(got == want && stayed, "{}", kernels.name());
    }
}

#[test]
fn a_packing_without_a_fast_kernel_is_refused_with_what_to_compile_for() {
    let best = Kernels::available().next().unwrap();
    for packing in Packing::ALL {
        match Kernels::fastest(packing) {
            Ok(kernels) => {
                assert!(kernels.reads(packing) && (kernels == best || kernels.name() != "scalar"));
            }
            Err(error) => {
                assert!(!best.reads(packing) && best.reads(error.wants) && error.packing == packing);
                let sentence = format!("{error}");
                let parts = [format!("packed as {packing},"), format!("wants them as {}", error.wants)];
                let remedy = format!("compile it with {}", error.wants.option());
                let says = parts.iter().all(|part| sentence.contains(part)) && sentence.ends_with(&remedy);
                assert!(says, "{sentence}");
            }
        }
        // Forced, the reference reads everything.
        assert!(Kernels::named("scalar").unwrap().reads(packing));
    }
}

/// A row's codes, its quantization parameters, and the values that they say.
fn through_codes(row: &[f32]) -> (Vec<i8>, QuantParams, Vec<f32>) {
    let (mut codes, mut params) = (vec![0; code_stride(row.len())], [QuantParams::default()]);
    let place = CodesMut { codes: &mut codes, params: &mut params, columns: row.len() };
    Kernels::named("scalar").unwrap().set().quantize(&Solo, row, place);
    let [params] = params;
    let codes: Vec<i8> = codes[..row.len()].iter().map(|&code| code as i8).collect();
    let value = |&code: &i8| (i32::from(code) + params.neg_zero_point) as f32 * params.scale;
    let values = codes.iter().map(value).collect();
    (codes, params, values)
}

#[test]
fn codes_use_the_whole_range_and_say_the_values() {
    for (least, largest) in [(-0.17, 12.0), (-3.0, 3.0), (5.0, 10.0), (-1e-3, 0.0), (-9.0, -4.5)] {
        let row: Vec<f32> = (0..=1000).map(|i| least + (largest - least) * (i as f32 / 1000.0)).collect();
        let (codes, _, values) = through_codes(&row);
        assert!(codes[0] <= -126 && codes[1000] >= 126, "{} {}", codes[0], codes[1000]);
        for (value, x) in values.iter().zip(&row) {
            assert!((value - x).abs() <= 0.51 * (largest - least) / 253.9, "{least} {largest}: {x} {value}");
        }
    }
}

#[test]
fn no_range_makes_a_code_of_minus_128_or_a_larger_zero_point() {
    let mut random = Random(8);
    for _ in 0..20_000 {
        let ends = random.values(2);
        let narrow = 10f32.powi(-((random.next() % 9) as i32));
        let row = [ends[0], ends[0] + ends[1] * narrow, ends[0] + ends[1] * narrow * 0.37];
        let (codes, params, values) = through_codes(&row);
        assert!(
            codes.iter().all(|&code| code != -128) && params.neg_zero_point.unsigned_abs() <= MAX_ZERO_POINT,
            "{row:?}"
        );
        let middle = (row[0] + row[1]) / 2.0;
        let half = (row[0] - middle).abs().max((row[1] - middle).abs()).max(middle.abs() / 4.0);
        for (value, x) in values.iter().zip(row) {
            assert!((value - x).abs() <= 0.51 * half / 126.9, "{row:?}: {x} {value}");
        }
    }
}

#[test]
fn rows_of_zeros_keep_them() {
    for x in [0.0, -0.0, 1e-38, -1e-45] {
        let (codes, params, values) = through_codes(&[x; 20]);
        assert_eq!(
            (codes, params, values),
            (vec![0; 20], QuantParams { scale: 0.0, neg_zero_point: 0 }, vec![0.0; 20])
        );
    }
}
