//! What must hold between a plan's parts before it may run.
//!
//! The steps are walked once with a list of the values that stand in the arena. A step may only read what stands
//! there, whole and of the right shape; what it writes ends whatever it overlaps. So no step reads stale memory, and
//! every range that the executor takes lies in the arena and apart from the others of its step. A first row that is
//! left out is the exception: it is found here that nothing comes of it.

use core::ops::Range;

use super::manifest::{
    Attention, Axis, Codes, Embed, EmbedPrecision, Join, Linear, Norm, NormOutput, Pool, Rows, Step,
};
use super::{LoadError, Plan, StepFault};
use crate::kernels::layout::MAX_INPUTS;
use crate::tokenizer::Padding;

/// Values that may stand in the arena at once.
const MAX_VALUES: usize = 16;

/// What stands in a place of the arena.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    Rows(Rows),
    Codes(Codes),
}

/// A value that stands in the arena.
struct Standing {
    range: Range<usize>,
    value: Value,
    /// Whether a [`Step::CachedRow`] put the first row there.
    first_known: bool,
}

/// The arena as the steps leave it.
struct Arena {
    bytes: usize,
    context: usize,
    values: heapless::Vec<Standing, MAX_VALUES>,
    first: FirstRow,
}

/// What becomes of the first row that the steps compute.
#[derive(Clone, Copy, Default)]
struct FirstRow {
    /// The token of the [`Step::CachedRow`]s.
    token: Option<u32>,
    /// Something that lasts comes of it: another row, or an output.
    needed: bool,
}

impl Arena {
    /// The range of `bytes` from `offset`, if it is in the arena.
    fn range(&self, offset: u32, bytes: Option<usize>) -> Result<Range<usize>, StepFault> {
        let start = offset as usize;
        let end = start.checked_add(bytes.ok_or(StepFault::TooLarge)?).ok_or(StepFault::TooLarge)?;
        if !start.is_multiple_of(super::format::ALIGN) || end > self.bytes {
            return Err(StepFault::OutsideArena);
        }
        Ok(start..end)
    }

    fn place(&self, value: Value) -> Result<Range<usize>, StepFault> {
        match value {
            Value::Rows(rows) => self.range(rows.offset, rows.bytes(self.context)),
            Value::Codes(codes) => self.range(codes.offset, codes.bytes(self.context)),
        }
    }

    fn reads(&self, value: Value) -> Result<Range<usize>, StepFault> {
        self.standing(value)?;
        self.place(value)
    }

    fn standing(&self, value: Value) -> Result<&Standing, StepFault> {
        self.values.iter().find(|standing| standing.value == value).ok_or(StepFault::UnknownInput)
    }

    /// As [`reads`](Self::reads), for what takes the first row to other rows or out of the plan. Of rows per sequence all
    /// are computed.
    fn reads_first(&mut self, rows: Rows) -> Result<Range<usize>, StepFault> {
        let known = self.standing(Value::Rows(rows))?.first_known;
        self.first.needed |= rows.axis == Axis::Token && !known;
        self.place(Value::Rows(rows))
    }

    /// Notes that the first row of `rows` is known.
    fn knows_first(&mut self, rows: Rows) {
        let standing = self.values.iter_mut().find(|standing| standing.value == Value::Rows(rows));
        if let Some(standing) = standing {
            standing.first_known = true;
        }
    }

    fn writes(&mut self, value: Value) -> Result<(), StepFault> {
        let range = self.place(value)?;
        self.forget(&range);
        let standing = Standing { range, value, first_known: false };
        self.values.push(standing).map_err(|_| StepFault::Sizes)
    }

    /// Ends the values that overlap `range`.
    fn forget(&mut self, range: &Range<usize>) {
        self.values.retain(|standing| !overlap(range, &standing.range));
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Whether no two of `ranges` overlap.
fn apart(ranges: &[Range<usize>]) -> Result<(), StepFault> {
    let clash = ranges.iter().enumerate().any(|(i, a)| ranges[..i].iter().any(|b| overlap(a, b)));
    if clash { Err(StepFault::Overlap) } else { Ok(()) }
}

fn ensure(holds: bool, fault: StepFault) -> Result<(), StepFault> {
    if holds { Ok(()) } else { Err(fault) }
}

/// What only the walk over all steps shows.
pub(super) struct Findings {
    /// Rows of the smallest token table.
    pub(super) token_rows: u32,
    /// The first text tower's padding.
    pub(super) padding: Padding,
    /// The token whose row is known wherever something reads it: the first row need not be computed.
    pub(super) known_first: Option<u32>,
}

/// Checks all.
pub(super) fn check(plan: &Plan<'_>) -> Result<Findings, LoadError> {
    let manifest = &plan.manifest;
    if manifest.logit_scale.is_some_and(|scale| !scale.is_finite() || scale <= 0.0) {
        return Err(LoadError::LogitScale);
    }
    let context = plan.context();
    let mut arena = Arena {
        bytes: manifest.arena_bytes as usize,
        context,
        values: heapless::Vec::new(),
        first: FirstRow::default(),
    };
    let mut steps = plan.steps();
    let mut embeddings: Option<(u32, Padding)> = None;
    let mut index = 0;
    let fail = |index| move |fault| LoadError::Step { index, fault };
    while let Some((step, _)) = steps.read().map_err(fail(index))? {
        if let Step::Embed(embed) = step {
            let (rows, padding) = embeddings.unwrap_or((u32::MAX, embed.padding));
            embeddings = Some((rows.min(embed.tokens), padding));
        }
        check_step(&mut arena, plan, &step).map_err(fail(index))?;
        index += 1;
    }
    if !steps.constants.is_empty() {
        return Err(LoadError::Leftover);
    }
    let (rows, padding) = embeddings.unwrap_or((0, Padding::End));
    let ids = plan.tokenizer.vocabulary().size();
    if ids > rows {
        return Err(LoadError::TokenRange { ids, rows });
    }
    let outputs = [Some((manifest.hidden, Axis::Token)), manifest.pooled.map(|rows| (rows, Axis::Sequence))];
    for (rows, axis) in outputs.into_iter().flatten() {
        if rows.axis != axis || arena.reads_first(rows).is_err() {
            return Err(LoadError::Output);
        }
    }
    let known_first = arena.first.token.filter(|_| !arena.first.needed);
    Ok(Findings { token_rows: rows, padding, known_first })
}

fn check_step(arena: &mut Arena, plan: &Plan<'_>, step: &Step) -> Result<(), StepFault> {
    match step {
        Step::Embed(step) => embed(arena, plan, step),
        Step::Norm(step) => norm(arena, step),
        Step::Linear(step) => linear(arena, plan, step),
        Step::Attention(step) => attention(arena, step),
        Step::Pool(step) => pool(arena, step),
        // Of a first row that is known it makes one that is.
        Step::Normalize(step) => arena.reads_first(step.rows).map(drop),
        Step::Join(step) => join(arena, step),
        Step::CachedRow(step) => {
            ensure(step.rows.axis == Axis::Token, StepFault::Sizes)?;
            arena.reads(Value::Rows(step.rows))?;
            arena.knows_first(step.rows);
            // Of two tokens a sequence begins with one at the most.
            arena.first.needed |= arena.first.token.is_some_and(|token| token != step.id);
            arena.first.token = Some(step.id);
            Ok(())
        }
    }
}

fn embed(arena: &mut Arena, plan: &Plan<'_>, step: &Embed) -> Result<(), StepFault> {
    let ids = plan.tokenizer.vocabulary().size();
    step.padding.check(ids).map_err(|_| StepFault::Padding)?;
    ensure(step.out.axis == Axis::Token && step.out.columns > 0, StepFault::Sizes)?;
    ensure(step.f16_rows == 0 || step.precision == EmbedPrecision::Int8, StepFault::Sizes)?;
    arena.writes(Value::Rows(step.out))
}

fn norm(arena: &mut Arena, step: &Norm) -> Result<(), StepFault> {
    let input = arena.reads(Value::Rows(step.input))?;
    ensure(step.epsilon.is_finite() && step.epsilon > 0.0, StepFault::Number)?;
    let (columns, axis, out) = match step.out {
        NormOutput::Rows(rows) => (rows.columns, rows.axis, Value::Rows(rows)),
        NormOutput::Codes(codes) => (codes.columns, codes.axis, Value::Codes(codes)),
    };
    ensure(columns == step.input.columns && axis == step.input.axis, StepFault::Sizes)?;
    apart(&[input, arena.place(out)?])?;
    arena.writes(out)
}

/// Writes `out` and its quantized form, apart from each other and from `others`.
fn finish(
    arena: &mut Arena,
    out: Rows,
    requantized: Option<Codes>,
    others: [Option<Range<usize>>; 2],
) -> Result<(), StepFault> {
    let mut ranges: heapless::Vec<Range<usize>, 4> = heapless::Vec::new();
    let mut take = |range: Range<usize>| ranges.push(range).map_err(|_| StepFault::Sizes);
    others.into_iter().flatten().try_for_each(&mut take)?;
    take(arena.place(Value::Rows(out))?)?;
    if let Some(codes) = requantized {
        ensure(codes.columns == out.columns && codes.axis == out.axis, StepFault::Sizes)?;
        take(arena.place(Value::Codes(codes))?)?;
    }
    apart(&ranges)?;
    arena.writes(Value::Rows(out))?;
    requantized.map_or(Ok(()), |codes| arena.writes(Value::Codes(codes)))
}

fn linear(arena: &mut Arena, plan: &Plan<'_>, step: &Linear) -> Result<(), StepFault> {
    let panels = &step.panels;
    ensure(panels.packing == plan.manifest.packing, StepFault::Sizes)?;
    ensure(panels.inputs <= MAX_INPUTS, StepFault::TooLarge)?;
    ensure(panels.inputs > 0 && panels.outputs > 0 && panels.outputs == step.out.columns, StepFault::Sizes)?;
    let input = if panels.packing.is_int8() {
        Value::Codes(step.input_codes())
    } else {
        Value::Rows(step.input_rows())
    };
    let input = arena.reads(input)?;
    let mut apart_from = [Some(input), None];
    if let Some(residual) = step.residual {
        let range = arena.reads(Value::Rows(residual))?;
        ensure(residual.columns == step.out.columns && residual.axis == step.out.axis, StepFault::Sizes)?;
        if residual != step.out {
            apart_from[1] = Some(range);
        }
    }
    finish(arena, step.out, step.requantized, apart_from)
}

fn attention(arena: &mut Arena, step: &Attention) -> Result<(), StepFault> {
    let qkv = arena.reads_first(step.qkv)?;
    ensure(step.scale.is_finite(), StepFault::Number)?;
    let width = step.out.columns;
    ensure(step.qkv.axis == Axis::Token && step.out.axis == Axis::Token, StepFault::Sizes)?;
    ensure(Some(step.qkv.columns) == width.checked_mul(3), StepFault::Sizes)?;
    ensure(step.heads > 0 && width > 0 && width.is_multiple_of(u32::from(step.heads)), StepFault::Sizes)?;
    let scratch = arena.range(step.scratch, step.scratch_bytes(arena.context))?;
    arena.forget(&scratch);
    finish(arena, step.out, step.requantized, [Some(qkv), Some(scratch)])
}

fn pool(arena: &mut Arena, step: &Pool) -> Result<(), StepFault> {
    let input = arena.reads_first(step.input)?;
    ensure(step.input.axis == Axis::Token && step.out.axis == Axis::Sequence, StepFault::Sizes)?;
    ensure(step.input.columns == step.out.columns, StepFault::Sizes)?;
    finish(arena, step.out, step.requantized, [Some(input), None])
}

fn join(arena: &mut Arena, step: &Join) -> Result<(), StepFault> {
    let Join { left, right, out } = *step;
    let parts = [arena.reads_first(left)?, arena.reads_first(right)?];
    ensure(left.axis == out.axis && right.axis == out.axis, StepFault::Sizes)?;
    ensure(left.columns.checked_add(right.columns) == Some(out.columns), StepFault::Sizes)?;
    finish(arena, out, None, parts.map(Some))?;
    // Where one of both was not known, that was noted as needed.
    arena.knows_first(out);
    Ok(())
}
