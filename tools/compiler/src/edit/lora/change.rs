//! One change of one tensor, and how it is added to a model.

use anyhow::{Result, ensure};

use super::layout::{LayerPart, Module};
use crate::arithmetic::parallel;
use crate::ir::{LayerNorm, Linear, Matrix, TextModel};

/// What is added to a module's weight or bias.
#[derive(Clone, Debug)]
pub enum Delta {
    /// `up · down`, to the weight.
    Product {
        /// `[outputs, rank]`.
        up: Matrix,
        /// `[rank, inputs]`.
        down: Matrix,
    },
    /// The matrix itself, to the weight. A norm's has one row.
    Weight(Matrix),
    /// To the bias.
    Bias(Vec<f32>),
}

/// A change of a module.
#[derive(Clone, Debug)]
pub struct Change {
    /// The tensor that it is in, the first of them.
    pub name: String,
    /// What it changes.
    pub module: Module,
    /// What is added.
    pub delta: Delta,
    /// How often it is added.
    pub factor: f32,
}

/// A module's tensors in a model.
struct Target<'m> {
    rows: usize,
    cols: usize,
    weight: &'m mut [f32],
    bias: Option<&'m mut [f32]>,
}

impl<'m> Target<'m> {
    fn matrix(matrix: &'m mut Matrix) -> Self {
        Target { rows: matrix.rows, cols: matrix.cols, weight: &mut matrix.values, bias: None }
    }

    fn linear(linear: &'m mut Linear) -> Self {
        Target { bias: Some(&mut linear.bias), ..Self::matrix(linear.weight.make_f32()) }
    }

    fn norm(norm: &'m mut LayerNorm) -> Self {
        Target { rows: 1, cols: norm.gain.len(), weight: &mut norm.gain, bias: Some(&mut norm.bias) }
    }

    /// The tensors of `module`, if the model has it.
    fn of(model: &'m mut TextModel, module: Module) -> Option<Self> {
        Some(match module {
            Module::Tokens => Self::matrix(&mut model.token_embedding),
            Module::Positions => Self::matrix(&mut model.position_embedding),
            Module::FinalNorm => Self::norm(&mut model.final_norm),
            Module::Projection => Self::matrix(model.projection.as_mut()?),
            Module::Layer(index, part) => {
                let layer = model.layers.get_mut(index)?;
                match part {
                    LayerPart::Norm1 => Self::norm(&mut layer.norm1),
                    LayerPart::Query => Self::linear(&mut layer.query),
                    LayerPart::Key => Self::linear(&mut layer.key),
                    LayerPart::Value => Self::linear(&mut layer.value),
                    LayerPart::Out => Self::linear(&mut layer.out),
                    LayerPart::Norm2 => Self::norm(&mut layer.norm2),
                    LayerPart::Fc1 => Self::linear(&mut layer.fc1),
                    LayerPart::Fc2 => Self::linear(&mut layer.fc2),
                }
            }
        })
    }
}

impl Change {
    /// The width of the text encoder that it was made for, where its shape tells.
    pub fn width(&self) -> Option<usize> {
        // The side of the hidden states: the rows of what leads back to them, the columns of everything else.
        let by_rows = matches!(self.module, Module::Layer(_, LayerPart::Out | LayerPart::Fc2));
        match &self.delta {
            Delta::Product { up, .. } if by_rows => Some(up.rows),
            Delta::Product { down, .. } => Some(down.cols),
            Delta::Weight(matrix) if by_rows => Some(matrix.rows),
            Delta::Weight(matrix) => Some(matrix.cols),
            Delta::Bias(_) if self.module_is(LayerPart::Fc1) => None,
            Delta::Bias(values) => Some(values.len()),
        }
    }

    fn module_is(&self, part: LayerPart) -> bool {
        matches!(self.module, Module::Layer(_, own) if own == part)
    }

    /// Adds it to `model`; whether the model has the module.
    ///
    /// # Errors
    /// When it has other sizes than the module, or a sum is no finite number.
    pub fn add(&self, model: &mut TextModel) -> Result<bool> {
        let Some(target) = Target::of(model, self.module) else { return Ok(false) };
        let fits = |rows: usize, cols: usize| {
            ensure!(
                (rows, cols) == (target.rows, target.cols),
                "it changes a matrix of {rows} × {cols}, the model's has {} × {}: it was trained for another model",
                target.rows,
                target.cols
            );
            Ok(())
        };
        let changed = match &self.delta {
            Delta::Product { up, down } => {
                fits(up.rows, down.cols)?;
                add_product(target.weight, up, down, self.factor);
                target.weight
            }
            Delta::Weight(matrix) => {
                fits(matrix.rows, matrix.cols)?;
                add(target.weight, &matrix.values, self.factor);
                target.weight
            }
            Delta::Bias(values) => {
                let bias = target.bias.unwrap_or_default();
                ensure!(
                    bias.len() == values.len(),
                    "it changes a bias of {}, the model's has {}: it was trained for another model",
                    values.len(),
                    bias.len()
                );
                add(bias, values, self.factor);
                bias
            }
        };
        ensure!(
            changed.iter().all(|value| value.is_finite()),
            "the weights that it is added to {} times become infinite or NaN: give it a smaller weight",
            self.factor
        );
        Ok(true)
    }
}

/// `weight += factor · up · down`, each sum in f64 in the order of the ranks, whichever thread computes its row.
fn add_product(weight: &mut [f32], up: &Matrix, down: &Matrix, factor: f32) {
    parallel::each(weight.chunks_exact_mut(down.cols).enumerate(), |(row, values)| {
        let mut sums = vec![0f64; down.cols];
        for (rank, &u) in up.row(row).iter().enumerate() {
            for (sum, &d) in sums.iter_mut().zip(down.row(rank)) {
                *sum += f64::from(u) * f64::from(d);
            }
        }
        for (value, sum) in values.iter_mut().zip(&sums) {
            *value = (f64::from(*value) + f64::from(factor) * sum) as f32;
        }
    });
}

/// `sums += factor · values`.
fn add(sums: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = (f64::from(*sum) + f64::from(factor) * f64::from(*value)) as f32;
    }
}
