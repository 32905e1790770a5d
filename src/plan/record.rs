//! Steps and places in the plan's file: records of fixed size, read in place.
//!
//! A field is one 32-bit word; an enum is the index in its list here.

use super::place::{Axis, Format, Place};
use super::step::{Embed, EmbedPrecision, Grid, Mask, Op, Part, Role, Step};
use crate::kernels::Activation;
use crate::kernels::layout::Packing;
use crate::tokenizer::Padding;

/// Words of a step's record.
pub const RECORD_WORDS: usize = 24;
/// Bytes of a step's record.
pub const RECORD: usize = 4 * RECORD_WORDS;

/// A step as it stands in the file.
pub type Record = [u32; RECORD_WORDS];

/// Words of a place.
pub(super) const PLACE_WORDS: usize = 3;

const ROLE: usize = 0;
const LAYER: usize = 1;
const CONSTANTS: usize = 2;
const PARAMETERS: usize = 4;
const PLACES: usize = PARAMETERS + PARAMETER_WORDS;

const PARAMETER_WORDS: usize = 5;
type Parameters = [u32; PARAMETER_WORDS];

const _: () = assert!(PLACES + 5 * PLACE_WORDS == RECORD_WORDS);

const AXES: [Axis; 2] = [Axis::Token, Axis::Sequence];
const PRECISIONS: [EmbedPrecision; 2] = [EmbedPrecision::Int8, EmbedPrecision::F32];
const MASKS: [Mask; 2] = [Mask::Causal, Mask::None];
const ACTIVATIONS: [Activation; 4] =
    [Activation::Identity, Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh];
/// From 1: 0 is no place.
const FORMATS: [Format; 2] = [Format::F32, Format::Codes];

/// The word for `value`: its index in its list.
pub(super) fn word<T: PartialEq>(list: &[T], value: &T) -> u32 {
    list.iter().position(|other| other == value).map_or(u32::MAX, |index| index as u32)
}

/// The value for a word.
pub(super) fn value<T: Copy>(list: &[T], word: u32) -> Option<T> {
    list.get(word as usize).copied()
}

/// A place's words; zeros for none.
#[inline(never)]
pub(super) fn place_words(place: Option<Place>) -> [u32; PLACE_WORDS] {
    place.map_or([0; PLACE_WORDS], |place| {
        let format = 1 + word(&FORMATS, &place.format);
        [place.offset, place.columns, u32::from(place.rows) | word(&AXES, &place.axis) << 16 | format << 24]
    })
}

/// The place of some words; `None` where they are no place's, `Some(None)` where they are no place.
#[inline(never)]
pub(super) fn place(words: [u32; PLACE_WORDS]) -> Option<Option<Place>> {
    if words == [0; PLACE_WORDS] {
        return Some(None);
    }
    let [offset, columns, kind] = words;
    let format = value(&FORMATS, (kind >> 24).checked_sub(1)?)?;
    let axis = value(&AXES, kind >> 16 & 0xff)?;
    Some(Some(Place { offset, columns, rows: kind as u16, axis, format }))
}

impl Op {
    /// Its code and its parameters.
    fn words(&self) -> (u8, Parameters) {
        match *self {
            Op::Embed(embed) => {
                let (padding, id) = match embed.padding {
                    Padding::End => (0, 0),
                    Padding::Id(id) => (1, id),
                    Padding::ZeroAfterEnd => (2, 0),
                };
                let precision = word(&PRECISIONS, &embed.precision);
                (0, [embed.vocabulary, precision, embed.f16_rows, padding, id])
            }
            Op::Norm { epsilon } => (1, [epsilon.to_bits(), 0, 0, 0, 0]),
            Op::Linear { packing, activation } => {
                (2, [word(&Packing::ALL, &packing), word(&ACTIVATIONS, &activation), 0, 0, 0])
            }
            Op::Attention { heads, scale, mask } => {
                (3, [heads.into(), scale.to_bits(), word(&MASKS, &mask), 0, 0])
            }
            Op::Pool => (4, [0; 5]),
            Op::Normalize => (5, [0; 5]),
            Op::Join => (6, [0; 5]),
            Op::CachedRow { token } => (7, [token, 0, 0, 0, 0]),
            Op::Patches(grid) => (8, [grid.side.into(), grid.patch.into(), 0, 0, 0]),
            Op::Positions => (9, [0; 5]),
        }
    }

    /// The operation with this code and these parameters; words that it does not use are not looked at.
    fn of_words(code: u8, [a, b, c, d, e]: Parameters) -> Option<Op> {
        Some(match code {
            0 => Op::Embed(Embed {
                vocabulary: a,
                precision: value(&PRECISIONS, b)?,
                f16_rows: c,
                padding: value(&[Padding::End, Padding::Id(e), Padding::ZeroAfterEnd], d)?,
            }),
            1 => Op::Norm { epsilon: f32::from_bits(a) },
            2 => Op::Linear { packing: value(&Packing::ALL, a)?, activation: value(&ACTIVATIONS, b)? },
            3 => {
                Op::Attention { heads: a.try_into().ok()?, scale: f32::from_bits(b), mask: value(&MASKS, c)? }
            }
            4 => Op::Pool,
            5 => Op::Normalize,
            6 => Op::Join,
            7 => Op::CachedRow { token: a },
            8 => Op::Patches(Grid { side: a.try_into().ok()?, patch: b.try_into().ok()? }),
            9 => Op::Positions,
            _ => return None,
        })
    }
}

impl Op {
    /// The operation of a step's record.
    pub(super) fn of_record(record: &Record) -> Option<Op> {
        Op::of_words(record[ROLE] as u8, record[PARAMETERS..PLACES].try_into().ok()?)
    }
}

impl Step {
    /// The step as it stands in the file.
    pub fn record(&self) -> Record {
        let mut record = [0; RECORD_WORDS];
        let (code, parameters) = self.op.words();
        let Role { tower, layer, part } = self.role;
        record[ROLE] = u32::from(code) | u32::from(tower) << 8 | word(&Part::ALL, &part) << 16;
        record[LAYER] = layer.into();
        record[CONSTANTS] = self.constants as u32;
        record[CONSTANTS + 1] = (self.constants >> 32) as u32;
        record[PARAMETERS..PLACES].copy_from_slice(&parameters);
        let places = [self.input, self.second, Some(self.out), self.codes, self.scratch];
        for (words, place) in record[PLACES..].chunks_exact_mut(PLACE_WORDS).zip(places) {
            words.copy_from_slice(&place_words(place));
        }
        record
    }

    /// The step of a record; `None` where it is none of this version. Each step has one record: words that it does not use
    /// are zero.
    pub fn of_record(record: &Record) -> Option<Step> {
        let role = record[ROLE];
        let mut places = record[PLACES..].as_chunks::<PLACE_WORDS>().0.iter().map(|words| place(*words));
        let mut next = || places.next().flatten();
        let step = Step {
            role: Role {
                tower: (role >> 8) as u8,
                layer: record[LAYER] as u16,
                part: value(&Part::ALL, role >> 16)?,
            },
            op: Op::of_record(record)?,
            input: next()?,
            second: next()?,
            out: next()??,
            codes: next()?,
            scratch: next()?,
            constants: u64::from(record[CONSTANTS]) | u64::from(record[CONSTANTS + 1]) << 32,
        };
        (step.record() == *record).then_some(step)
    }
}
