//! What each output of the graph is: a hidden state, the pooled row, its projection.

use super::axes::{self, Dim};
use super::misfit::{Mismatch, Rule, mismatch};
use super::tower::{self, Found, Stream};
use super::value::{EndToken, Expr, Id, Values, View};
use crate::ir::{LayerNorm, Matrix, Modality, Outputs, Pooled, TextModel, highest_end};

/// An output that is understood.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// A state of the residual stream, with the norm on it if there is one.
    Hidden { state: Id, norm: Option<Id> },
    /// A row of the normed state.
    Pooled { state: Id, norm: Id, row: Row, projection: Option<Id>, unit: bool },
    /// Attention weights: nothing that a plan computes.
    Ignored,
}

/// The row that a model pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// At the end token.
    End(EndToken),
    /// The class token's.
    First,
}

/// Reads one output.
pub fn classify(values: &Values, view: &View) -> Rule<Output> {
    let expected = match values.modality() {
        Modality::Text => "a hidden state, the row at the end token, or its projection",
        Modality::Image => "a hidden state, the class token's row behind the last norm, or its projection",
    };
    let mut id = view.of;
    if let Expr::Weights { .. } = values.get(id) {
        return Ok(Output::Ignored);
    }
    let Some(held) = axes::of_one_prompt(&view.axes) else {
        return mismatch("one prompt after the other", "the prompts of the batch interleaved");
    };
    let channels = |pieces: &[axes::Piece]| *pieces == *axes::whole(Dim::Channel, values.channels(id));
    let tokens = |pieces: &[axes::Piece]| *pieces == *axes::whole(Dim::Token, values.context);
    match held.as_slice() {
        [first, second] if tokens(first) && channels(second) => {
            let norm = if let Expr::Normed { of, .. } = values.get(id) { Some((id, *of)) } else { None };
            let (norm, state) = norm.map_or((None, id), |(norm, of)| (Some(norm), of));
            match values.get(state) {
                Expr::Sum { .. } | Expr::Embedding { .. } => Ok(Output::Hidden { state, norm }),
                _ => mismatch(expected, values.describe(state)),
            }
        }
        [only] if channels(only) => {
            let (mut at, mut norm, mut projection, mut unit) = (None, None, None, false);
            let state = loop {
                id = match values.get(id) {
                    Expr::Unit { of } if !unit && projection.is_none() && norm.is_none() && at.is_none() => {
                        unit = true;
                        *of
                    }
                    Expr::Linear(affine) if projection.is_none() && norm.is_none() => {
                        projection = Some(id);
                        affine.of
                    }
                    Expr::Pooled { of, at: place } if at.is_none() => {
                        at = Some(*place);
                        *of
                    }
                    Expr::Normed { of, .. } if norm.is_none() => {
                        norm = Some(id);
                        *of
                    }
                    _ => break id,
                };
            };
            let row = match at.map(|at| values.get(at)) {
                Some(Expr::EndPlace(end)) => Some(Row::End(*end)),
                Some(Expr::FirstPlace) => Some(Row::First),
                _ => None,
            };
            match (row, norm, values.get(state)) {
                (Some(row), Some(norm), Expr::Sum { .. } | Expr::Embedding { .. }) => {
                    Ok(Output::Pooled { state, norm, row, projection, unit })
                }
                _ => mismatch(expected, values.describe(state)),
            }
        }
        _ => mismatch(expected, format!("{}, with its axes in another order", values.describe(view.of))),
    }
}

/// A model and which values of the graph it gives out.
pub struct Assembled {
    pub model: TextModel,
    pub outputs: Outputs,
    /// The hidden states, norm included.
    pub hidden: Id,
    /// Index among the graph's outputs.
    pub pooled: Option<usize>,
}

/// The hidden states that a plan gives out.
struct Wanted {
    /// Index among the states.
    layer: usize,
    state: Id,
    norm: Option<Id>,
}

/// A state with the norm on it; and its name, if it is an output of its own rather than what the pooled row is made of.
type State<'n> = (Id, Option<Id>, Option<&'n str>);

/// Builds the model from its outputs, each with its name.
pub fn assemble(values: &Values, outputs: &[(String, Output)]) -> Found<Assembled> {
    let states = outputs.iter().filter_map(|(name, output)| match *output {
        Output::Hidden { state, norm } => Some((state, norm, Some(name.as_str()))),
        Output::Pooled { state, norm, .. } => Some((state, Some(norm), None)),
        Output::Ignored => None,
    });
    let states: Vec<State<'_>> = states.collect();
    let mut deepest: Option<Stream> = None;
    for &(state, ..) in &states {
        if deepest.as_ref().is_some_and(|tower| tower.states.contains(&state)) {
            continue;
        }
        let tower = tower::tower(values, state)?;
        if let Some(known) = &deepest
            && known.states.iter().zip(&tower.states).any(|(a, b)| a != b)
        {
            let found = "two that go different ways";
            return Err((state, Mismatch::new("hidden states of one tower", found)));
        }
        deepest = Some(tower);
    }
    let Some(tower) = deepest else {
        let nothing = Mismatch::new("a hidden state or a pooled output", "neither");
        return Err((Values::INPUT, nothing));
    };
    let layer_of = |state: Id| tower.states.iter().position(|&known| known == state).unwrap_or(0);

    // A state that is an output rather than one behind the pooled row; the last with the final norm if there is one, else a
    // normed one, else the deepest.
    let order = |&&(state, norm, name): &&State<'_>| {
        (name.is_some(), norm.is_some(), layer_of(state), name == Some("last_hidden_state"))
    };
    let Some(&(state, norm, _)) = states.iter().max_by_key(order) else {
        let nothing = Mismatch::new("a hidden state", "none");
        return Err((Values::INPUT, nothing));
    };
    let wanted = Wanted { layer: layer_of(state), state, norm };
    build(values, &tower, &states, wanted, outputs)
}

fn build(
    values: &Values,
    tower: &Stream,
    states: &[State<'_>],
    wanted: Wanted,
    outputs: &[(String, Output)],
) -> Found<Assembled> {
    let mut final_norm: Option<LayerNorm> = None;
    for norm in states.iter().filter_map(|(_, norm, _)| *norm) {
        let read = tower::layer_norm(values, norm)?;
        if final_norm.as_ref().is_some_and(|known| *known != read) {
            let found = "two different ones";
            return Err((norm, Mismatch::new("one final layer norm", found)));
        }
        final_norm = Some(read);
    }
    let mut pooled = Pooled::None;
    let (mut projection, mut end, mut normalized) = (None, EndToken::Highest, false);
    let mut pooled_at = None;
    for (index, (_, output)) in outputs.iter().enumerate() {
        let Output::Pooled { state, row, projection: by, unit, .. } = *output else {
            continue;
        };
        let Row::End(here) = row else {
            return Err((state, Mismatch::new("the end token's row", "the first token's, as in BERT")));
        };
        if tower.states.last() != Some(&state) || (pooled != Pooled::None && end != here) {
            let found = "a row of another state, or another end token";
            return Err((state, Mismatch::new("the end token's row of the last state", found)));
        }
        end = here;
        // A graph that gives out both the row and its projection: the projection is what it was made for.
        match by {
            Some(id) => {
                projection = Some(project(values, id)?);
                pooled = Pooled::Projected;
                pooled_at = Some(index);
                normalized = unit;
            }
            None if pooled == Pooled::None => {
                pooled = Pooled::EndToken;
                pooled_at = Some(index);
                normalized = unit;
            }
            None => {}
        }
    }
    let (token_embedding, position_embedding) = tower.embeddings(values)?;
    let width = token_embedding.cols;
    let outputs = Outputs {
        hidden_layer: wanted.layer,
        hidden_norm: wanted.norm.is_some(),
        pooled,
        normalized,
        end_token: match end {
            EndToken::Highest => highest_end(token_embedding.rows),
            EndToken::Id(id) => id,
        },
    };
    let unused = LayerNorm { gain: vec![1.0; width], bias: vec![0.0; width], epsilon: 1e-5 };
    let model = TextModel {
        token_embedding,
        position_embedding,
        heads: tower.heads(values)?,
        layers: tower.layers(values)?,
        final_norm: final_norm.unwrap_or(unused),
        projection,
    };
    Ok(Assembled { model, outputs, hidden: wanted.norm.unwrap_or(wanted.state), pooled: pooled_at })
}

pub fn project(values: &Values, id: Id) -> Found<Matrix> {
    let linear = tower::whole_linear(values, id)?;
    if linear.bias.iter().any(|&bias| bias != 0.0) {
        return Err((id, Mismatch::new("a projection without bias", "one with a bias")));
    }
    Ok(linear.weight.to_f32().into_owned())
}
