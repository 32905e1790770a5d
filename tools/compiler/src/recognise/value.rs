//! What the values of a graph are, as mathematics.

use std::rc::Rc;
use std::sync::Arc;

use tract_core::prelude::{Datum, DatumType, Tensor, tensor1};

use super::axes::{Axes, Dim, Piece};
use super::grid::float_grid;
use crate::colours::COLOURS;
use crate::ir::{Matrix, Modality};

/// The place of an [`Expr`] in its [`Values`].
pub type Id = usize;

/// One head-splitting of a value's channels: head `h`, inner index `d` is the channel that both pieces' offsets add up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Heads {
    pub of: Id,
    pub head: Vec<Piece>,
    pub inner: Vec<Piece>,
}

/// The token at whose place a model pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndToken {
    /// `argmax(ids)`: the highest id of the vocabulary.
    Highest,
    /// The first place of this id.
    Id(u32),
}

/// One index of a `GatherND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinate {
    /// A constant.
    At(i64),
    /// The place of the end token.
    End(Id),
    /// Each prompt's own number in the batch.
    Batch,
}

/// `y = weight · x + bias`; row `r` of the value is row `rows[r]` of `weight`, times `factor`.
///
/// Factor and bias are f64: a query's bias that the graph multiplies by the attention's scale comes back exactly when the
/// scale is taken out of it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    pub of: Id,
    pub weight: Rc<Matrix>,
    /// `None`: all rows in order.
    pub rows: Option<Rc<[usize]>>,
    pub factor: f64,
    pub bias: Rc<[f64]>,
}

/// What is divided by the deviation in a layer norm that is multiplied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    One,
    Value,
    Mean,
}

/// `factor · gain · term / deviation(of) + bias`. Without gain and bias, one or a mean has no channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    pub of: Id,
    pub epsilon: f32,
    pub term: Term,
    pub factor: f32,
    pub gain: Option<Rc<[f32]>>,
    pub bias: Option<Rc<[f32]>>,
}

impl Expanded {
    /// Whether it differs from channel to channel.
    pub fn has_channels(&self) -> bool {
        self.term == Term::Value || self.gain.is_some() || self.bias.is_some()
    }

    /// `a` times it, plus `c`; `None` if that would need channels that it does not have.
    pub fn line(&self, a: f32, c: f32, width: usize) -> Option<Self> {
        let zero = || (c != 0.0).then(|| vec![0.0; width].into());
        let bias = self.bias.clone().or_else(zero).map(|bias| bias.iter().map(|b| a * b + c).collect());
        let fits = self.has_channels() || c == 0.0;
        fits.then(|| Expanded { factor: a * self.factor, bias, ..self.clone() })
    }
}

/// What the rows are to which a tower adds its positions.
#[derive(Clone, Debug)]
pub enum Start {
    /// Rows of a table, `[vocabulary, width]`, at the ids.
    Table(Arc<Tensor>),
    /// A zero row for the class token, then the patches times a matrix `[width, 3 · patch²]`, of each patch one colour after the
    /// other.
    Patches(Rc<Matrix>),
}

impl Start {
    fn width(&self) -> usize {
        match self {
            Start::Table(table) => table.shape()[1],
            Start::Patches(matrix) => matrix.rows,
        }
    }
}

/// A value as a function of the graph's input.
#[derive(Clone, Debug)]
pub enum Expr {
    /// The token ids.
    Ids,
    /// The pixels: channels are colours, tokens are places in a square image, row after row.
    Pixels,
    /// A function of one number, applied everywhere, held as its values on the base's [grid](Values::grid).
    Function { of: Id, samples: Arc<Tensor> },
    /// `table[ids]`.
    Tokens { table: Arc<Tensor> },
    /// `start + positions`, `[context, width]`.
    Embedding { start: Start, positions: Rc<[f32]> },
    /// The sum over the channels.
    Total { of: Id },
    /// The value minus its mean over the channels.
    Centred { of: Id },
    /// The value minus its mean, times one number per channel.
    Gained { of: Id, gain: Rc<[f32]> },
    /// Part of a layer norm that is multiplied out.
    Expanded(Expanded),
    /// Layer norm; `gain` and `bias` may still be to come.
    Normed { of: Id, epsilon: f32, gain: Option<Rc<[f32]>>, bias: Option<Rc<[f32]>> },
    /// A matrix product over the channels; of [`Pixels`](Expr::Pixels), over those of each patch, whose tokens are the patches.
    Linear(Affine),
    /// A residual sum.
    Sum { left: Id, right: Id },
    /// `left · right` over the inner channels of each head, times `factor`, plus `mask` (`[Token, Key]`).
    Scores { left: Heads, right: Heads, factor: f32, mask: Option<Rc<[f32]>> },
    /// The softmax over the keys of scores, which have the mask of their kind of tower.
    Weights { query: Heads, key: Heads, factor: f32 },
    /// The weighted mixture of a value's tokens; channel `h * inner + d`.
    Mixture { weights: Id, value: Heads },
    /// The place of the first end token.
    EndPlace(EndToken),
    /// The first place: the class token's in an image tower.
    FirstPlace,
    /// The place of the end token among the tokens of all prompts, one prompt after the other.
    PlaceInAll { at: Id },
    /// Indices for a `GatherND`.
    Coordinates(Vec<Coordinate>),
    /// The row of a value at the end token or the first place.
    Pooled { of: Id, at: Id },
    /// The value divided by its length.
    Unit { of: Id },
}

/// A tensor: a value and how its axes hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub of: Id,
    pub axes: Axes,
}

/// What flows along an edge of the graph.
#[derive(Clone, Debug)]
pub enum Value {
    Const(Arc<Tensor>),
    View(View),
}

/// All values met so far, and the sizes they share.
#[derive(Debug)]
pub struct Values {
    exprs: Vec<Expr>,
    /// Prompts or images at once.
    pub batch: usize,
    /// Tokens of the fixed prompt, or of an image, with its class token.
    pub context: usize,
    input: Input,
}

/// The graph's input.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// Token ids of that integer type; a function of them is sampled at so many.
    Ids { vocabulary: usize, datum_type: DatumType },
    /// The pixels of square images of that side.
    Pixels { side: usize },
}

impl Values {
    /// Starts with the input alone, at [`Values::INPUT`].
    pub fn new(batch: usize, context: usize, input: Input) -> Self {
        let expr = match input {
            Input::Ids { .. } => Expr::Ids,
            Input::Pixels { .. } => Expr::Pixels,
        };
        Values { exprs: vec![expr], batch, context, input }
    }

    /// The input's value.
    pub const INPUT: Id = 0;

    /// What the graph is read as.
    pub fn modality(&self) -> Modality {
        match self.input {
            Input::Ids { .. } => Modality::Text,
            Input::Pixels { .. } => Modality::Image,
        }
    }

    /// Number of values so far.
    pub fn len(&self) -> usize {
        self.exprs.len()
    }

    /// The value at `id`.
    pub fn get(&self, id: Id) -> &Expr {
        &self.exprs[id]
    }

    /// Adds a value. One that the graph computes twice alike is one value.
    pub fn add(&mut self, expr: Expr) -> Id {
        let same = self.exprs.iter().position(|known| match (known, &expr) {
            (Expr::Function { of: a, samples: x }, Expr::Function { of: b, samples: y }) => a == b && x == y,
            (Expr::Total { of: a }, Expr::Total { of: b }) => a == b,
            (Expr::Centred { of: a }, Expr::Centred { of: b }) => a == b,
            (Expr::EndPlace(a), Expr::EndPlace(b)) => a == b,
            (Expr::FirstPlace, Expr::FirstPlace) => true,
            (Expr::PlaceInAll { at: a }, Expr::PlaceInAll { at: b }) => a == b,
            (Expr::Pooled { of: a, at: p }, Expr::Pooled { of: b, at: q }) => a == b && p == q,
            (Expr::Tokens { table: a }, Expr::Tokens { table: b }) => Arc::ptr_eq(a, b),
            (
                Expr::Normed { of: a, epsilon: e, gain: g, bias: b },
                Expr::Normed { of: c, epsilon: f, gain: h, bias: d },
            ) => a == c && e == f && g == h && b == d,
            _ => false,
        });
        same.unwrap_or_else(|| {
            self.exprs.push(expr);
            self.exprs.len() - 1
        })
    }

    /// The arguments at which a function of this value is sampled.
    pub fn grid(&self, id: Id) -> Tensor {
        let counting = |length: usize| tensor1(&(0..length as i64).collect::<Vec<_>>());
        match (self.get(id), self.input) {
            (Expr::Ids, Input::Ids { vocabulary, datum_type }) if datum_type == i32::datum_type() => {
                tensor1(&(0..vocabulary as i32).collect::<Vec<_>>())
            }
            (Expr::Ids, Input::Ids { vocabulary, .. }) => counting(vocabulary),
            (Expr::EndPlace(_), _) => counting(self.context),
            (Expr::PlaceInAll { .. }, _) => counting(self.batch * self.context),
            _ => tensor1(&float_grid()),
        }
    }

    /// The base of a function and its samples; any other value is the identity of itself.
    pub fn sampled(&self, id: Id) -> (Id, Arc<Tensor>) {
        match self.get(id) {
            Expr::Function { of, samples } => (*of, samples.clone()),
            _ => (id, Arc::new(self.grid(id))),
        }
    }

    /// Number of channels of the value: 1 for one that has none.
    pub fn channels(&self, id: Id) -> usize {
        match self.get(id) {
            Expr::Pixels => COLOURS,
            Expr::Tokens { table } => table.shape()[1],
            Expr::Embedding { start, .. } => start.width(),
            Expr::Function { of, .. }
            | Expr::Centred { of }
            | Expr::Gained { of, .. }
            | Expr::Normed { of, .. }
            | Expr::Pooled { of, .. }
            | Expr::Unit { of } => self.channels(*of),
            Expr::Expanded(part) if part.has_channels() => self.channels(part.of),
            Expr::Linear(affine) => affine.bias.len(),
            Expr::Sum { left, .. } => self.channels(*left),
            Expr::Mixture { value, .. } => self.channels(value.of),
            Expr::Coordinates(list) => list.len(),
            Expr::Ids
            | Expr::Total { .. }
            | Expr::Expanded(_)
            | Expr::Scores { .. }
            | Expr::Weights { .. }
            | Expr::EndPlace(_)
            | Expr::FirstPlace
            | Expr::PlaceInAll { .. } => 1,
        }
    }

    /// Size of one of the value's dimensions.
    pub fn extent(&self, id: Id, dim: Dim) -> usize {
        match (dim, self.get(id)) {
            (Dim::Batch, _) => self.batch,
            (Dim::Token, Expr::Pixels) => match self.input {
                Input::Pixels { side } => side * side,
                Input::Ids { .. } => self.context,
            },
            // Patches, which the class token has not joined yet.
            (Dim::Token, Expr::Linear(affine)) if matches!(self.get(affine.of), Expr::Pixels) => {
                self.context.saturating_sub(1)
            }
            (Dim::Token | Dim::Key, _) => self.context,
            (Dim::Channel, _) => self.channels(id),
            (Dim::Head, Expr::Function { of, .. }) => self.extent(*of, dim),
            (Dim::Head, Expr::Scores { left: heads, .. } | Expr::Weights { query: heads, .. }) => {
                super::axes::size(&heads.head)
            }
            (Dim::Head, _) => 1,
        }
    }

    /// What a message calls the value.
    pub fn describe(&self, id: Id) -> String {
        match self.get(id) {
            Expr::Ids => "the token ids".into(),
            Expr::Pixels => "the pixels".into(),
            Expr::Function { of, .. } => format!("a function of {}", self.describe(*of)),
            Expr::Tokens { .. } => "token embeddings without positions".into(),
            Expr::Embedding { start: Start::Table(_), .. } => "the embedded prompt".into(),
            Expr::Embedding { start: Start::Patches(_), .. } => "the embedded patches".into(),
            Expr::Total { of } => format!("the sum over the channels of {}", self.describe(*of)),
            Expr::Centred { of } => format!("{} minus its mean", self.describe(*of)),
            Expr::Gained { of, .. } => format!("{}, times a gain", self.describe(*of)),
            Expr::Expanded(_) => "part of a layer norm".into(),
            Expr::Normed { .. } => "a layer norm's output".into(),
            Expr::Linear(affine) if matches!(self.get(affine.of), Expr::Pixels) => {
                format!("patches of {} channels without a class token", affine.bias.len())
            }
            Expr::Linear(affine) => format!("a linear layer of {} channels", affine.bias.len()),
            Expr::Sum { .. } => "a residual sum".into(),
            Expr::Scores { .. } => "attention scores".into(),
            Expr::Weights { .. } => "attention weights".into(),
            Expr::Mixture { .. } => "attended values".into(),
            Expr::EndPlace(_) | Expr::PlaceInAll { .. } | Expr::Coordinates(_) => {
                "the end token's place".into()
            }
            Expr::FirstPlace => "the first place".into(),
            Expr::Pooled { .. } => "the pooled row".into(),
            Expr::Unit { .. } => "a vector of length 1".into(),
        }
    }
}
