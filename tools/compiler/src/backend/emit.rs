//! Steps and constants to the bytes of a plan.

use std::borrow::Cow;

use anyhow::{Context, Result, bail};
use cliptext::kernels::layout::Packing;
use cliptext::plan::format::{ALIGN, BLOCK, Header, Kind, Section, crc32c};
use cliptext::plan::{EmbedPrecision, ImageManifest, Manifest, Op, RECORD, Step, TEXT};

use crate::backend::lower::{self, Constants, Lowered, Tower};
use crate::backend::pack;
use crate::backend::target::Target;
use crate::ir::{ImageModel, Linear};
use crate::quantize::quantize_rows;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// int8 with a scale per output channel.
    Int8,
    /// f32, for checking.
    F32,
}

/// What a plan is made with besides the towers.
#[derive(Clone, Debug)]
pub struct Options {
    /// How weights are stored.
    pub precision: Precision,
    /// The kind of CPU that int8 weights are packed for; f32 ones are the same for all.
    pub target: Target,
    /// What cosines between texts and images are multiplied with before the softmax, where the model's files say it:
    /// already `exp` of the trained parameter.
    pub logit_scale: Option<f32>,
    /// Whether the arena keeps what a text that begins as the one before it need not compute again: the queries, keys and
    /// values of every layer.
    pub prefix_cache: bool,
    /// What the plan says it was made from.
    pub source: String,
}

/// The bytes of a plan and what takes how many of them.
pub struct Emitted {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Bytes of token and position tables.
    pub embeddings: usize,
    /// Bytes of the linear steps' panels.
    pub weights: usize,
    /// Bytes of norms.
    pub norms: usize,
    /// Bytes of the vocabulary table.
    pub vocabulary: usize,
    /// Number of steps.
    pub steps: usize,
}

/// Makes the plan of `towers`, which read the same text, tokenized with `vocabulary`: one tower, or several whose outputs
/// then come side by side.
///
/// # Errors
/// When the towers do not fit one plan, or lack what is wanted of them.
pub fn emit(towers: &[Tower<'_>], vocabulary: &[u8], options: &Options) -> Result<Emitted> {
    let program = lower::lower(towers, options.packing(), options.prefix_cache)?;
    let manifest = options.manifest(&program).section().context("the manifest is too large")?;
    file(Kind::Text, &manifest, vocabulary, &program)
}

/// Makes the plan of an image tower, whose embeddings have length 1 where it is `normalized`.
///
/// # Errors
/// When the tower does not fit a plan.
pub fn emit_image(model: &ImageModel, normalized: bool, options: &Options) -> Result<Emitted> {
    let program = lower::lower_image(model, options.packing(), normalized)?;
    // They went through 16 bits when the steps were made.
    let (side, patch) = (model.side as u16, model.patch as u16);
    let manifest = ImageManifest { plan: options.manifest(&program), side, patch };
    let manifest = manifest.section().context("the manifest is too large")?;
    file(Kind::Image, &manifest, &[], &program)
}

impl Options {
    fn packing(&self) -> Packing {
        match self.precision {
            Precision::Int8 => self.target.packing(),
            Precision::F32 => Packing::F32,
        }
    }

    fn manifest(&self, program: &Lowered<'_>) -> Manifest<'_> {
        Manifest {
            producer: concat!("cliptext ", env!("CARGO_PKG_VERSION")),
            source: &self.source[..self.source.floor_char_boundary(TEXT)],
            context: program.context,
            packing: self.packing(),
            arena_bytes: program.arena_bytes as u32,
            hidden: program.hidden,
            pooled: program.pooled,
            logit_scale: self.logit_scale,
        }
    }
}

/// The bytes of a plan's file.
fn file(kind: Kind, manifest: &[u8], vocabulary: &[u8], program: &Lowered<'_>) -> Result<Emitted> {
    let mut sizes = Emitted {
        bytes: Vec::new(),
        embeddings: 0,
        weights: 0,
        norms: 0,
        vocabulary: vocabulary.len(),
        steps: program.steps.len(),
    };
    let mut steps = Vec::new();
    for (step, _) in &program.steps {
        steps.extend(step.record().iter().flat_map(|word| word.to_le_bytes()));
        let bytes = step.constant_bytes().unwrap_or_default() as usize;
        match step.op {
            Op::Embed(_) | Op::Positions => sizes.embeddings += bytes,
            Op::Linear { .. } => sizes.weights += bytes,
            _ => sizes.norms += bytes,
        }
    }
    debug_assert_eq!(steps.len(), RECORD * program.steps.len());
    let lengths = [manifest.len(), steps.len(), vocabulary.len()].map(|length| length as u64);
    let header = Header::lay_out(kind, lengths[0], lengths[1], lengths[2], program.constant_bytes)
        .context("the plan is too large")?;
    let mut bytes = Vec::with_capacity(header.file_bytes() as usize);
    bytes.resize(header.body() as usize, 0);
    for (section, content) in
        [(Section::Manifest, manifest), (Section::Steps, &steps), (Section::Vocabulary, vocabulary)]
    {
        bytes.resize(header.place(section).0 as usize, 0);
        bytes.extend_from_slice(content);
    }
    bytes.resize(header.place(Section::Constants).0 as usize, 0);
    for (step, constants) in &program.steps {
        append(&mut bytes, step, constants)?;
    }
    debug_assert_eq!(bytes.len() as u64, header.file_bytes());
    let checksums: Vec<u8> =
        bytes[header.body() as usize..].chunks(BLOCK).flat_map(|block| crc32c(block).to_le_bytes()).collect();
    let head = header.encode(&checksums);
    bytes[..head.len()].copy_from_slice(&head);
    bytes[head.len()..][..checksums.len()].copy_from_slice(&checksums);
    Ok(Emitted { bytes, ..sizes })
}

/// Whether `value` stays a finite number when it is rounded to f16.
fn fits_f16(value: f32) -> bool {
    half::f16::from_f32(value).is_finite()
}

/// Appends the constants of `step`.
fn append(out: &mut Vec<u8>, step: &Step, constants: &Constants<'_>) -> Result<()> {
    match (constants, step.op) {
        (Constants::Embeddings(model, f16_rows), Op::Embed(embed)) => {
            let (tokens, positions) = (&model.token_embedding, &model.position_embedding);
            match embed.precision {
                EmbedPrecision::Int8 => {
                    let quantized = quantize_rows(tokens);
                    block(out, quantized.codes.iter().map(|code| code.to_le_bytes()));
                    block(out, quantized.scales.iter().map(|scale| scale.to_le_bytes()));
                    if let Some(at) = positions.values.iter().position(|&value| !fits_f16(value)) {
                        let (position, channel) = (at / positions.cols, at % positions.cols);
                        bail!(
                            "the position embedding's value at position {position}, channel {channel} is {}; int8 plans keep \
                             positions in f16, which ends at 65504: compile with --precision f32",
                            positions.values[at]
                        );
                    }
                    let values = positions.values.iter();
                    block(out, values.map(|&value| half::f16::from_f32(value).to_le_bytes()));
                    block(out, f16_rows.iter().map(|id| id.to_le_bytes()));
                    let rows = f16_rows.iter().flat_map(|&id| tokens.row(id as usize));
                    block(out, rows.map(|&value| half::f16::from_f32(value).to_le_bytes()));
                }
                EmbedPrecision::F32 => {
                    floats(out, &tokens.values);
                    floats(out, &positions.values);
                }
            }
        }
        (Constants::Norm(norm), _) => {
            floats(out, &norm.gain);
            floats(out, &norm.bias);
        }
        (Constants::Row(row), _) => floats(out, row),
        (Constants::Linears(linears), _) => {
            let linears: Vec<&Linear> = linears.iter().map(Cow::as_ref).collect();
            let panels = step.panels().context("weights belong to a linear step")?;
            out.extend(pack::pack(&linears, panels)?);
        }
        _ => {}
    }
    Ok(())
}

fn floats(out: &mut Vec<u8>, values: &[f32]) {
    block(out, values.iter().map(|value| value.to_le_bytes()));
}

/// Appends values and zeros up to the next multiple of the alignment; `out` is at one.
fn block<const N: usize>(out: &mut Vec<u8>, values: impl Iterator<Item = [u8; N]>) {
    for value in values {
        out.extend_from_slice(&value);
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}
