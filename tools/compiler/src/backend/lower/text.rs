//! Text towers as steps.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use cliptext::kernels::layout::Packing;
use cliptext::plan::{Axis, Embed, EmbedPrecision, Format, Mask, Op, Part, Place, Role, Step};
use cliptext::tokenizer::Padding;

use super::builder::{Buffer, Builder, Constants, Lowered, columns};
use crate::ir::{LayerNorm, Outputs, Pooled, TextModel};
use crate::quantize::Quantized;

/// A text tower and what a plan takes of it.
#[derive(Clone, Copy, Debug)]
pub struct Tower<'m> {
    /// The tower.
    pub model: &'m TextModel,
    /// What it gives out.
    pub outputs: Outputs,
    /// How it fills prompts up to the context.
    pub padding: Padding,
    /// What quantizing its weights has found out; `None`: the plan does without.
    pub quantized: Option<&'m Quantized>,
}

/// Lowers `towers`, which read the same text, to the steps that compute their outputs, with weights in `packing`. Hidden
/// states and pooled outputs of several towers come side by side, in the towers' order. Where `keeps_rows`, what a pass reads
/// of rows that it need not compute stays in the arena for the next.
///
/// # Errors
/// When there is no tower, the towers' contexts differ, a tower lacks what is wanted of it, or a size is too large.
pub fn lower<'m>(towers: &[Tower<'m>], packing: Packing, keeps_rows: bool) -> Result<Lowered<'m>> {
    let context = towers.first().context("a plan needs a text tower")?.model.context();
    let role = Role { tower: 0, layer: 0, part: Part::Embedding };
    let mut b = Builder { packing, keeps_rows, role, buffers: vec![], steps: vec![] };
    let (mut hidden, mut pooled) = (None, None);
    for (index, tower) in towers.iter().enumerate() {
        let other = tower.model.context();
        ensure!(
            other == context,
            "the text towers take {context} and {other} tokens: one plan has one context"
        );
        let index = u8::try_from(index).context("a plan takes at most 256 text towers")?;
        b.role = Role { tower: index, layer: 0, part: Part::Embedding };
        let (its_hidden, its_pooled) = b.tower(tower)?;
        b.role.part = Part::Join;
        hidden = b.joined(hidden, Some(its_hidden));
        pooled = b.joined(pooled, its_pooled);
    }
    b.finish(context, hidden.context("a plan needs hidden states")?, pooled)
}

impl<'m> Builder<'m> {
    /// The steps of one tower; says where its hidden states and its pooled output are.
    fn tower(&mut self, tower: &Tower<'m>) -> Result<(Buffer, Option<Buffer>)> {
        let Tower { model, outputs, quantized, .. } = *tower;
        let start = quantized.map(|quantized| &quantized.start);
        ensure!(
            outputs.hidden_layer <= model.layers.len(),
            "hidden states after layer {} are wanted, the model has {} layers",
            outputs.hidden_layer,
            model.layers.len()
        );
        let mut x = self.embedding(tower)?;
        let layers = outputs.layers(model.layers.len());
        let mut hidden = None;
        for (index, layer) in model.layers[..layers].iter().enumerate() {
            if index == outputs.hidden_layer {
                hidden = Some(self.hidden(x, &outputs, &model.final_norm));
            }
            self.role.layer = u16::try_from(index + 1).context("more than 65535 layers")?;
            // The states that are an output stay: the sum goes to a new place.
            let next = if hidden == Some(x) { self.rows_like(x, self.columns(x)) } else { x };
            let cached = start.map(|start| (start.id, &start.qkv[index][..]));
            self.layer(layer, (x, next), (model.heads, Mask::Causal), cached)?;
            x = next;
        }
        let hidden = match hidden {
            Some(hidden) => hidden,
            None => self.hidden(x, &outputs, &model.final_norm),
        };
        self.role.part = Part::FinalNorm;
        if let Some(start) = start {
            let row = start.hidden(model, outputs.hidden_layer, outputs.hidden_norm);
            self.cached_row(start.id, hidden, Cow::Owned(row));
        }
        if outputs.pooled == Pooled::None {
            return Ok((hidden, None));
        }
        let at_end = outputs.hidden_layer == model.layers.len();
        let normed = if at_end && outputs.hidden_norm {
            hidden
        } else {
            let normed = self.norm_rows(x, &model.final_norm);
            if let Some(start) = start {
                self.cached_row(start.id, normed, Cow::Owned(start.hidden(model, layers, true)));
            }
            normed
        };
        let pooled = self.pooled(normed, model, &outputs)?;
        Ok((hidden, Some(pooled)))
    }

    /// The embedding step, and the residual stream that it begins.
    fn embedding(&mut self, tower: &Tower<'m>) -> Result<Buffer> {
        let Tower { model, padding, quantized, .. } = *tower;
        let out = self.buffer(Place {
            offset: 0,
            columns: columns(model.width())?,
            rows: u16::try_from(model.context()).context("the context has more than 65535 tokens")?,
            axis: Axis::Token,
            format: Format::F32,
        });
        let f16_rows = quantized.map_or(&[][..], |quantized| &quantized.f16_rows);
        let embed = Embed {
            vocabulary: u32::try_from(model.token_embedding.rows)
                .context("more tokens than 32 bits count")?,
            precision: if self.packing.is_int8() { EmbedPrecision::Int8 } else { EmbedPrecision::F32 },
            f16_rows: f16_rows.len() as u32,
            padding,
        };
        self.push(self.step(Op::Embed(embed), out), Constants::Embeddings(model, f16_rows));
        Ok(out)
    }

    /// The pooled output, made of the rows behind the final norm.
    fn pooled(&mut self, normed: Buffer, model: &'m TextModel, outputs: &Outputs) -> Result<Buffer> {
        self.role.part = Part::Pool;
        let row = self.row(self.columns(normed));
        let pooled = if outputs.pooled == Pooled::EndToken {
            self.push(self.from(Op::Pool, normed, row), Constants::None);
            row
        } else {
            let weight = model
                .projection
                .clone()
                .context("a projected output is wanted, the model has no projection")?;
            let codes = self.codes_of(row);
            self.push(Step { codes, ..self.from(Op::Pool, normed, row) }, Constants::None);
            self.projection(codes.unwrap_or(row), weight)?
        };
        if outputs.normalized {
            self.push(self.from(Op::Normalize, pooled, pooled), Constants::None);
        }
        Ok(pooled)
    }

    /// Two towers' rows side by side, or those of the only one that has some.
    fn joined(&mut self, left: Option<Buffer>, right: Option<Buffer>) -> Option<Buffer> {
        let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
        let out = self.rows_like(left, self.columns(left) + self.columns(right));
        let step = Step { second: Some(right), ..self.from(Op::Join, left, out) };
        self.push(step, Constants::None);
        Some(out)
    }

    /// The hidden states that the outputs want, made of the residual stream `x`.
    fn hidden(&mut self, x: Buffer, outputs: &Outputs, norm: &'m LayerNorm) -> Buffer {
        self.role.part = Part::FinalNorm;
        if outputs.hidden_norm { self.norm_rows(x, norm) } else { x }
    }
}
