//! Attention: scores, mask, softmax and mixture.

use std::rc::Rc;

use tract_core::internal::InOut;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_core::prelude::Tensor;

use super::axes::{self, Axes, Dim, Piece};
use super::linear::{absorb, letters};
use super::misfit::{Rule, mismatch};
use super::value::{Expr, Heads, Values, View};
use crate::ir::Modality;
use crate::tract::numbers::numbers;

/// A mask's number at or below this is minus infinity: no score of a trained model reaches it.
const MASKED: f32 = -1e4;

/// The product of two values of the prompt: scores, or the mixture of the attended values.
pub fn product(values: &mut Values, op: &EinSum, left: &View, right: &View) -> Rule<View> {
    let (left, right) = (absorb(values, left)?, absorb(values, right)?);
    let is_weights = |view: &View| matches!(values.get(view.of), Expr::Weights { .. });
    match (is_weights(&left), is_weights(&right)) {
        (false, false) => scores(values, op, &left, &right),
        (true, false) => mixture(values, op, &left, &right, false),
        (false, true) => mixture(values, op, &right, &left, true),
        (true, true) => {
            mismatch("attention weights times values", "attention weights times attention weights")
        }
    }
}

fn all_of(pieces: &[Piece], dim: Dim) -> bool {
    pieces.iter().all(|piece| piece.dim == dim)
}

fn scores(values: &mut Values, op: &EinSum, left: &View, right: &View) -> Rule<View> {
    let mut out: Axes = vec![vec![]; op.axes.rank(InOut::Out(0))];
    let mut heads = [left, right].map(|view| Heads { of: view.of, head: vec![], inner: vec![] });
    let (mut head_at, mut tokens) = (None, [false; 2]);
    let odd = || {
        mismatch(
            "scores: the query of each token times the key of each, per head",
            format!("the einsum {}", op.axes),
        )
    };
    for letter in letters(op)? {
        let held = [0, 1].map(|slot| letter.inputs[slot].map_or(&[][..], |at| &[left, right][slot].axes[at]));
        let (batch, held) = axes::shared_batch(held);
        let channels = held.iter().all(|pieces| all_of(pieces, Dim::Channel));
        match letter.output {
            None if batch.is_empty() && channels && axes::size(held[0]) == axes::size(held[1]) => {
                heads.iter_mut().zip(held).for_each(|(heads, pieces)| heads.inner.extend(pieces));
            }
            Some(at) if held[0].is_empty() && held[1].is_empty() => out[at] = batch.to_vec(),
            Some(at) if channels && axes::size(held[0]) == axes::size(held[1]) && head_at.is_none() => {
                heads.iter_mut().zip(held).for_each(|(heads, pieces)| heads.head.extend(pieces));
                out[at] = batch.to_vec();
                head_at = Some(at);
            }
            Some(at) if batch.is_empty() => {
                let (slot, dim) = if held[1].is_empty() { (0, Dim::Token) } else { (1, Dim::Key) };
                if !held[1 - slot].is_empty() || !axes::covers(held[slot], Dim::Token, values.context) {
                    return odd();
                }
                tokens[slot] = true;
                out[at] = axes::whole(dim, values.context);
            }
            _ => return odd(),
        }
    }
    let whole = heads.iter().all(|heads| {
        let pieces = [heads.head.as_slice(), &heads.inner].concat();
        axes::covers(&pieces, Dim::Channel, values.channels(heads.of))
    });
    if !whole || tokens != [true; 2] {
        return odd();
    }
    if let Some(at) = head_at {
        out[at].extend(axes::whole(Dim::Head, axes::size(&heads[0].head)));
    }
    let [left, right] = heads;
    let of = values.add(Expr::Scores { left, right, factor: 1.0, mask: None });
    Ok(View { of, axes: out })
}

/// Adds a constant to scores.
pub fn add_mask(values: &mut Values, scores: &View, constant: &Tensor) -> Rule<View> {
    let Expr::Scores { left, right, factor, mask } = values.get(scores.of).clone() else {
        return mismatch("a mask on attention scores", format!("one on {}", values.describe(scores.of)));
    };
    let dims = [(Dim::Token, values.context), (Dim::Key, values.context)];
    let Some(mut sum) = axes::read(constant, &scores.axes, &dims) else {
        return mismatch(
            format!("a mask of [{0}, {0}], alike for every head", values.context),
            format!("a constant of {:?}", constant.shape()),
        );
    };
    if let Some(old) = mask {
        sum.iter_mut().zip(old.iter()).for_each(|(sum, old)| *sum += old);
    }
    let of = values.add(Expr::Scores { left, right, factor, mask: Some(sum.into()) });
    Ok(View { of, axes: scores.axes.clone() })
}

/// `Where(condition, scores, number)`, or with the branches swapped.
pub fn choose(
    values: &mut Values,
    condition: &Tensor,
    scores: &View,
    number: &Tensor,
    swapped: bool,
) -> Rule<View> {
    let scores = absorb(values, scores)?;
    let number = number.as_uniform().and_then(|t| t.cast_to_scalar::<f32>().ok());
    let Some(number) = number.filter(|&number| number <= MASKED) else {
        return mismatch(
            format!("scores to be replaced by {MASKED} or less where a token must not look"),
            number.map_or("several numbers".into(), |number| number.to_string()),
        );
    };
    let keeps = condition.cast_to::<bool>().ok();
    let Some(keeps) = keeps.as_ref().and_then(|keeps| numbers::<bool>(keeps)) else {
        return mismatch("a mask of bools", format!("one of {:?}", condition.datum_type()));
    };
    let added: Vec<f32> = keeps.iter().map(|&keep| if keep != swapped { 0.0 } else { number }).collect();
    let Ok(added) = Tensor::from_shape(condition.shape(), &added) else {
        return mismatch("a mask", "one of another shape");
    };
    add_mask(values, &scores, &added)
}

/// The softmax over the keys, with the mask of the tower; which operand the keys are shows here.
pub fn softmax(values: &mut Values, op: &Softmax, view: &View) -> Rule<View> {
    let view = absorb(values, view)?;
    let Expr::Scores { left, right, factor, mask } = values.get(view.of).clone() else {
        return mismatch("a softmax of attention scores", format!("one of {}", values.describe(view.of)));
    };
    let over: Vec<Piece> = op.axes.iter().filter_map(|&at| view.axes.get(at)).flatten().copied().collect();
    let over_keys = axes::covers(&over, Dim::Key, values.context);
    let over_tokens = axes::covers(&over, Dim::Token, values.context);
    if !matches!(op.kind, SoftmaxKind::Softmax) || op.quant_output_dt.is_some() || !(over_keys || over_tokens)
    {
        return mismatch("a softmax over the keys", format!("{op:?}"));
    }
    if over_keys {
        check_mask(values, mask.as_ref())?;
        let of = values.add(Expr::Weights { query: left, key: right, factor });
        return Ok(View { of, axes: view.axes });
    }
    let n = values.context;
    let turned: Option<Rc<[f32]>> = mask.map(|mask| (0..n * n).map(|at| mask[at % n * n + at / n]).collect());
    check_mask(values, turned.as_ref())?;
    let of = values.add(Expr::Weights { query: right, key: left, factor });
    let turn = |piece: &Piece| match piece.dim {
        Dim::Token => Piece { dim: Dim::Key, ..*piece },
        Dim::Key => Piece { dim: Dim::Token, ..*piece },
        _ => *piece,
    };
    Ok(View { of, axes: view.axes.iter().map(|pieces| pieces.iter().map(turn).collect()).collect() })
}

fn mixture(values: &mut Values, op: &EinSum, weights: &View, value: &View, swapped: bool) -> Rule<View> {
    let mut out: Axes = vec![vec![]; op.axes.rank(InOut::Out(0))];
    let mut heads = Heads { of: value.of, head: vec![], inner: vec![] };
    let (mut head_at, mut inner_at, mut mixed, mut asked) = (None, vec![], false, false);
    let odd = || mismatch("each head's weights times its values", format!("the einsum {}", op.axes));
    let count = values.extent(weights.of, Dim::Head);
    for letter in letters(op)? {
        let [w, v] = if swapped { [1, 0] } else { [0, 1] };
        let w = letter.inputs[w].map_or(&[][..], |at| &weights.axes[at]);
        let v = letter.inputs[v].map_or(&[][..], |at| &value.axes[at]);
        let (batch, [w, v]) = axes::shared_batch([w, v]);
        match letter.output {
            Some(at) if w.is_empty() && v.is_empty() => out[at] = batch.to_vec(),
            None if w.is_empty() && v.is_empty() && batch.is_empty() => {}
            None if batch.is_empty()
                && axes::covers(w, Dim::Key, values.context)
                && axes::covers(v, Dim::Token, values.context) =>
            {
                mixed = true;
            }
            Some(at) if batch.is_empty() && v.is_empty() && axes::covers(w, Dim::Token, values.context) => {
                out[at] = w.to_vec();
                asked = true;
            }
            Some(at) if batch.is_empty() && w.is_empty() && all_of(v, Dim::Channel) => {
                heads.inner.extend(v);
                inner_at.push((at, axes::size(v)));
            }
            Some(at)
                if axes::covers(w, Dim::Head, count) && all_of(v, Dim::Channel) && axes::size(v) == count =>
            {
                heads.head.extend(v);
                out[at] = batch.to_vec();
                head_at = Some(at);
            }
            _ => return odd(),
        }
    }
    let pieces = [heads.head.as_slice(), &heads.inner].concat();
    let whole = axes::covers(&pieces, Dim::Channel, values.channels(heads.of));
    if !(mixed && asked && whole) || (head_at.is_none() && count > 1) {
        return odd();
    }
    let mut stride = axes::size(&heads.inner);
    if let Some(at) = head_at {
        out[at].extend(axes::merged(&[Piece { dim: Dim::Channel, stride, size: count }]));
    }
    for (at, size) in inner_at {
        stride /= size;
        out[at] = axes::merged(&[Piece { dim: Dim::Channel, stride, size }]);
    }
    let of = values.add(Expr::Mixture { weights: weights.of, value: heads });
    Ok(View { of, axes: out })
}

/// Whether the mask is that of the tower.
fn check_mask(values: &Values, mask: Option<&Rc<[f32]>>) -> Rule<()> {
    match values.modality() {
        Modality::Text => check_causal(mask, values.context),
        Modality::Image => match mask.and_then(|mask| mask.iter().find(|value| **value != 0.0)) {
            None => Ok(()),
            Some(value) => mismatch("no mask: every patch sees all", format!("a mask with {value}")),
        },
    }
}

/// Whether the mask is the causal one: nothing on and below the diagonal, [`MASKED`] or less above it.
fn check_causal(mask: Option<&Rc<[f32]>>, context: usize) -> Rule<()> {
    let expected =
        format!("a causal mask: 0 for a token and those before it, {MASKED} or less for those after");
    let Some(mask) = mask else {
        return mismatch(
            expected,
            "no mask: every token sees the whole prompt, as in BERT or an image encoder (which --image compiles)",
        );
    };
    for (at, &value) in mask.iter().enumerate() {
        let (token, key) = (at / context, at % context);
        let fits = if key <= token { value == 0.0 } else { value <= MASKED };
        if !fits {
            return mismatch(expected, format!("{value} where token {token} looks at token {key}"));
        }
    }
    Ok(())
}
