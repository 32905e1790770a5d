//! The first position, which holds the start token in every prompt: attention being causal, it is the same for all.

use crate::arithmetic::functions::activate;
use crate::ir::{Linear, Matrix, TextModel};

use super::forward::{self, add, normed};

/// What the tower computes at the first position, which holds the start token in every prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The start token.
    pub id: u32,
    /// For each layer queries, keys and values, `3 * width` values.
    pub qkv: Vec<Vec<f32>>,
    /// The residual stream: `[0]` is the embedded token, then what each layer leaves; `width` values each.
    pub states: Vec<Vec<f32>>,
}

impl Start {
    /// Of prompts that begin with the token `id`.
    pub(super) fn of(model: &TextModel, id: u32) -> Self {
        let mut x =
            Matrix { rows: 1, cols: model.width(), values: model.token_embedding.row(id as usize).to_vec() };
        x.values.iter_mut().zip(model.position_embedding.row(0)).for_each(|(x, p)| *x += p);
        let mut start = Start { id, qkv: vec![], states: vec![x.values.clone()] };
        for layer in &model.layers {
            let h = normed(&layer.norm1, &x);
            let [query, key, value] =
                [&layer.query, &layer.key, &layer.value].map(|linear| product(linear, &h));
            start.qkv.push([&query.values[..], &key.values, &value.values].concat());
            // Attention has one key to look at.
            add(&mut x, &product(&layer.out, &value));
            let mut inner = product(&layer.fc1, &normed(&layer.norm2, &x));
            activate(layer.activation, &mut inner.values);
            add(&mut x, &product(&layer.fc2, &inner));
            start.states.push(x.values.clone());
        }
        start
    }

    /// The first row of the hidden states after so many layers, behind the final norm or not.
    pub fn hidden(&self, model: &TextModel, layers: usize, with_norm: bool) -> Vec<f32> {
        let state = &self.states[layers];
        let state = Matrix { rows: 1, cols: state.len(), values: state.clone() };
        if with_norm { normed(&model.final_norm, &state).values } else { state.values }
    }
}

/// `x · weightᵀ + bias` of an f32 linear.
fn product(linear: &Linear, x: &Matrix) -> Matrix {
    forward::linear(&linear.weight.to_f32(), &linear.bias, x)
}
