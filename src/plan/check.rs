//! What must hold between a plan's parts before it may run.
//!
//! The steps are walked once with a list of the live values: what stands whole in the arena. A step may only read a live
//! value, in its very place and shape; what it writes ends whatever it overlaps. So no step reads stale memory, and every
//! range that the executor takes lies in the arena and apart from the others of its step. A first row that is cached is the
//! exception: it is found here that nothing depends on what is left out.

use core::ops::Range;

use super::cut::Cut;
use super::error::{LoadError, StepFault};
use super::format::ALIGN;
use super::manifest::Manifest;
use super::place::{Axis, Format, Place};
use super::record::Record;
use super::step::{Embed, EmbedPrecision, Grid, Mask, Op, Part, Role, Step};
use crate::kernels::MAX_TOKENS;
use crate::tokenizer::Padding;

/// Sequences that can be encoded in one pass: a prompt and its negative prompt, or as many short texts as fill a context.
pub const MAX_SEQUENCES: usize = 16;

/// Values that may be live at once: plans that keep queries, keys and values have those of each layer.
const MAX_VALUES: usize = 96;

/// Places that a step uses.
const MAX_PLACES: usize = 5;

/// What is checked: the parts of a program.
#[derive(Clone, Copy)]
pub(super) struct Parts<'p> {
    pub(super) manifest: &'p Manifest<'p>,
    pub(super) records: &'p [Record],
    pub(super) reads: Reads,
    /// Bytes of the constants section.
    pub(super) constant_bytes: u64,
}

/// What a plan's first steps read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Token ids; every id of the vocabulary is below `end`.
    Ids { end: u32 },
    /// Pixels of square images.
    Pixels(Grid),
}

/// What only the walk over all steps shows.
#[derive(Clone, Copy)]
pub(super) struct Findings {
    /// Rows of the smallest token table.
    pub(super) token_rows: u32,
    /// The first text tower's padding.
    pub(super) padding: Padding,
    /// The token whose row is cached wherever something depends on it: the first row need not be computed.
    pub(super) cached_token: Option<u32>,
    /// Every attention has a causal mask.
    pub(super) causal: bool,
    /// How the arena grows with a pass.
    pub(super) cut: Cut,
    /// What a step reads of rows that it need not compute stays in the arena from one pass to the next.
    pub(super) keeps_rows: bool,
}

/// Checks all. The arena for one sequence must not have more than `most` bytes: what memory can be addressed.
pub(super) fn check(parts: Parts<'_>, most: u64) -> Result<Findings, LoadError> {
    let manifest = parts.manifest;
    if manifest.logit_scale.is_some_and(|scale| !scale.is_finite() || scale <= 0.0) {
        return Err(LoadError::LogitScale);
    }
    if u64::from(manifest.arena_bytes) > most {
        return Err(LoadError::ArenaTooLarge { bytes: manifest.arena_bytes });
    }
    let mut walk = Walk::new(parts);
    for (index, record) in parts.records.iter().enumerate() {
        let step = Step::of_record(record).ok_or(StepFault::Unreadable);
        step.and_then(|step| walk.step(&step)).map_err(|fault| LoadError::Step { index, fault })?;
    }
    walk.finish()
}

/// A live value.
struct Value {
    place: Place,
    /// Whether its first row was written, also where a pass [leaves it out](Step::skips_cached_row).
    has_first_row: bool,
    /// Whether rows of it are read that the reader does not compute: a pass which begins as the one before needs those of
    /// the one before.
    is_kept: bool,
}

/// The state between two steps.
struct Walk<'p> {
    parts: Parts<'p>,
    values: heapless::Vec<Value, MAX_VALUES>,
    /// Where the next step's constants are.
    constants: u64,
    role: Option<Role>,
    /// Rows of the smallest token table, and the first tower's padding.
    embeddings: Option<(u32, Padding)>,
    /// A row of this tower may depend on those behind it.
    unmasked: bool,
    causal: bool,
    /// No value whose rows are to be kept was written over.
    keeps_rows: bool,
    first_row: FirstRow,
    /// The end of the places that have rows of tokens, or are working memory, and the beginning of the others.
    ends: (u64, u64),
}

/// What becomes of the first row that the steps compute.
#[derive(Clone, Copy, Default)]
struct FirstRow {
    /// The token of the [`Op::CachedRow`]s.
    token: Option<u32>,
    /// Another row or an output depends on it where it is not cached.
    needed: bool,
}

fn ensure(holds: bool, fault: StepFault) -> Result<(), StepFault> {
    if holds { Ok(()) } else { Err(fault) }
}

/// The bytes of a place, which were found to be there.
fn extent(place: &Place) -> Range<u64> {
    let start = u64::from(place.offset);
    start..start + place.bytes()
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl<'p> Walk<'p> {
    fn new(parts: Parts<'p>) -> Self {
        Self {
            parts,
            values: heapless::Vec::new(),
            constants: 0,
            role: None,
            embeddings: None,
            unmasked: false,
            causal: true,
            keeps_rows: true,
            first_row: FirstRow::default(),
            ends: (0, u64::MAX),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), StepFault> {
        self.role(step)?;
        self.operation(step)?;
        self.constants(step)?;
        self.apart(step)?;
        let has_first_row = self.reads(step)?;
        for place in step.writes().chain(&step.scratch) {
            let range = self.range(place)?;
            self.values.retain(|value| {
                let stays = !overlap(&range, &extent(&value.place));
                self.keeps_rows &= stays || !value.is_kept;
                stays
            });
        }
        for &place in step.writes() {
            let value = Value { place, has_first_row, is_kept: false };
            self.values.push(value).map_err(|_| StepFault::TooManyValues)?;
        }
        for place in step.places() {
            let Range { start, end } = self.range(place)?;
            if place.axis == Axis::Token || step.scratch.as_ref() == Some(place) {
                self.ends.0 = self.ends.0.max(end);
            } else {
                self.ends.1 = self.ends.1.min(start);
            }
        }
        Ok(())
    }

    /// Towers begin with what they read and count their layers; a join follows the last.
    fn role(&mut self, step: &Step) -> Result<(), StepFault> {
        let Role { tower, layer, part } = step.role;
        let holds = match (step.op, self.role) {
            (Op::Embed(_) | Op::Patches(_), before) => {
                let next = before.map_or(0, |before| u32::from(before.tower) + 1);
                self.unmasked = false;
                u32::from(tower) == next && layer == 0 && part == Part::Embedding
            }
            (_, None) => false,
            (_, Some(before)) => {
                let next = layer.checked_sub(before.layer);
                let in_layer = matches!(part, Part::Attention | Part::Mlp);
                tower == before.tower
                    && matches!(next, Some(0 | 1))
                    && (part != Part::Embedding || self.begins_an_image(before.part))
                    && (layer > 0 || !in_layer)
            }
        };
        self.role = Some(step.role);
        ensure(holds, StepFault::Role)
    }

    /// Whether a step behind one of that part may belong to the embedding: that of an image takes several.
    fn begins_an_image(&self, before: Part) -> bool {
        matches!(self.parts.reads, Reads::Pixels(_)) && before == Part::Embedding
    }

    /// The step's constants are the next ones, and there.
    fn constants(&mut self, step: &Step) -> Result<(), StepFault> {
        ensure(step.constants == self.constants, StepFault::ConstantsPlace)?;
        let end = step.constant_bytes().and_then(|bytes| step.constants.checked_add(bytes));
        self.constants = end.ok_or(StepFault::TooLarge)?;
        ensure(self.constants <= self.parts.constant_bytes, StepFault::MissingConstants)
    }

    /// The range of a place, which must be one, in the arena.
    fn range(&self, place: &Place) -> Result<Range<u64>, StepFault> {
        ensure(place.columns > 0 && place.rows > 0, StepFault::Empty)?;
        ensure(place.axis == Axis::Token || place.rows == 1, StepFault::Rows)?;
        let range = extent(place);
        ensure(range.start.is_multiple_of(ALIGN as u64), StepFault::Misaligned)?;
        ensure(range.end <= u64::from(self.parts.manifest.arena_bytes), StepFault::OutsideArena)?;
        Ok(range)
    }

    /// No two places overlap, but where a step may work in place.
    fn apart(&self, step: &Step) -> Result<(), StepFault> {
        let mut ranges: heapless::Vec<Range<u64>, MAX_PLACES> = heapless::Vec::new();
        let in_place = step.in_place().filter(|place| **place == step.out);
        // Where it works in place, what it reads there is `out`, which comes later.
        let reads =
            step.reads().filter(|place| in_place.is_none_or(|in_place| !core::ptr::eq(*place, in_place)));
        for place in reads.chain(step.writes()).chain(&step.scratch) {
            let range = self.range(place)?;
            ensure(!ranges.iter().any(|other| overlap(other, &range)), StepFault::Overlap)?;
            ranges.push(range).map_err(|_| StepFault::Places)?;
        }
        Ok(())
    }

    /// Everything that the step reads is live. Says whether the first row of what it writes is there.
    ///
    /// Steps that leave out a cached first row write a value without one. Others take every row of what they read, so that
    /// where its first row is missing it is needed.
    fn reads(&mut self, step: &Step) -> Result<bool, StepFault> {
        let mut missing = false;
        for place in step.reads() {
            let value = self.live(place)?;
            value.is_kept |= step.reads_other_rows();
            missing |= !value.has_first_row;
        }
        if let Op::CachedRow { token } = step.op {
            // Of two tokens a sequence begins with one at the most.
            self.first_row.needed |= self.first_row.token.is_some_and(|other| other != token);
            self.first_row.token = Some(token);
            return Ok(true);
        }
        if step.out.axis == Axis::Token && step.skips_cached_row() {
            return Ok(false);
        }
        self.first_row.needed |= missing && !step.skips_cached_row();
        Ok(true)
    }

    fn live(&mut self, place: &Place) -> Result<&mut Value, StepFault> {
        self.values.iter_mut().find(|value| value.place == *place).ok_or(StepFault::UnknownInput)
    }

    /// The places fit the operation, and its numbers are sensible.
    fn operation(&mut self, step: &Step) -> Result<(), StepFault> {
        let out = &step.out;
        let f32_out = || ensure(out.format == Format::F32, StepFault::Format);
        if let Some(codes) = &step.codes {
            f32_out()?;
            ensure(codes.format == Format::Codes, StepFault::Format)?;
            ensure(codes.columns == out.columns, StepFault::Columns)?;
            ensure(codes.has_rows_of(out), StepFault::Rows)?;
        }
        match *step {
            Step { op: Op::Embed(embed), input: None, second: None, codes: None, scratch: None, .. } => {
                f32_out()?;
                self.embed(embed, out)
            }
            Step { op: Op::Patches(grid), input: None, second: None, codes: None, scratch: None, .. } => {
                ensure(self.parts.reads == Reads::Pixels(grid), StepFault::Reads)?;
                let format = if self.parts.manifest.packing.is_int8() { Format::Codes } else { Format::F32 };
                ensure(out.format == format, StepFault::Format)?;
                ensure(out.columns == grid.columns(), StepFault::Columns)?;
                self.row_for_each_token(out)
            }
            Step { op: Op::Positions, input: None, second: None, codes: None, scratch: None, .. } => {
                f32_out()?;
                ensure(matches!(self.parts.reads, Reads::Pixels(_)), StepFault::Reads)?;
                self.row_for_each_token(out)
            }
            Step {
                op: Op::Norm { epsilon },
                input: Some(input),
                second: None,
                codes: None,
                scratch: None,
                ..
            } => {
                ensure(input.format == Format::F32, StepFault::Format)?;
                ensure(epsilon.is_finite() && epsilon > 0.0, StepFault::Number)?;
                ensure(input.columns == out.columns, StepFault::Columns)?;
                ensure(input.has_rows_of(out), StepFault::Rows)
            }
            Step { op: Op::Linear { packing, .. }, input: Some(input), second, scratch: None, .. } => {
                f32_out()?;
                ensure(packing == self.parts.manifest.packing, StepFault::Packing)?;
                let format = if packing.is_int8() { Format::Codes } else { Format::F32 };
                ensure(input.format == format, StepFault::Format)?;
                ensure(input.has_rows_of(out), StepFault::Rows)?;
                second.map_or(Ok(()), |residual| {
                    ensure(residual.format == Format::F32, StepFault::Format)?;
                    ensure(residual.columns == out.columns, StepFault::Columns)?;
                    ensure(residual.has_rows_of(out), StepFault::Rows)
                })
            }
            Step {
                op: Op::Attention { heads, scale, mask },
                input: Some(qkv),
                second: None,
                scratch: Some(scratch),
                ..
            } => {
                f32_out()?;
                ensure(qkv.format == Format::F32 && scratch.format == Format::F32, StepFault::Format)?;
                ensure(scale.is_finite(), StepFault::Number)?;
                ensure(Some(qkv.columns) == out.columns.checked_mul(3), StepFault::Columns)?;
                ensure(heads > 0 && out.columns.is_multiple_of(heads.into()), StepFault::Heads)?;
                ensure(qkv.has_rows_of(out) && out.axis == Axis::Token, StepFault::Rows)?;
                ensure(usize::from(out.rows) <= MAX_TOKENS, StepFault::TooManyTokens)?;
                ensure(scratch.axis == Axis::Sequence, StepFault::Rows)?;
                let needed = step.scratch_values().ok_or(StepFault::Scratch)?;
                ensure(u64::from(scratch.columns) >= needed as u64, StepFault::Scratch)?;
                self.unmasked |= mask != Mask::Causal;
                self.causal &= mask == Mask::Causal;
                Ok(())
            }
            Step { op: Op::Pool, input: Some(input), second: None, scratch: None, .. } => {
                f32_out()?;
                ensure(input.format == Format::F32, StepFault::Format)?;
                ensure(input.axis == Axis::Token && out.axis == Axis::Sequence, StepFault::Rows)?;
                ensure(input.columns == out.columns, StepFault::Columns)
            }
            Step {
                op: Op::Normalize, input: Some(input), second: None, codes: None, scratch: None, ..
            } => {
                f32_out()?;
                ensure(input == *out, StepFault::Places)
            }
            Step {
                op: Op::CachedRow { .. },
                input: Some(input),
                second: None,
                codes: None,
                scratch: None,
                ..
            } => {
                f32_out()?;
                ensure(input == *out, StepFault::Places)?;
                ensure(out.axis == Axis::Token, StepFault::Rows)?;
                ensure(!self.unmasked, StepFault::CachedWithoutMask)
            }
            Step {
                op: Op::Join, input: Some(left), second: Some(right), codes: None, scratch: None, ..
            } => {
                f32_out()?;
                ensure(left.format == Format::F32 && right.format == Format::F32, StepFault::Format)?;
                ensure(left.columns.checked_add(right.columns) == Some(out.columns), StepFault::Columns)?;
                ensure(left.has_rows_of(out) && right.has_rows_of(out), StepFault::Rows)
            }
            _ => Err(StepFault::Places),
        }
    }

    fn embed(&mut self, embed: Embed, out: &Place) -> Result<(), StepFault> {
        let Embed { vocabulary, precision, f16_rows, padding } = embed;
        let Reads::Ids { end } = self.parts.reads else { return Err(StepFault::Reads) };
        padding.check(end).map_err(|_| StepFault::Padding)?;
        self.row_for_each_token(out)?;
        ensure(f16_rows == 0 || precision == EmbedPrecision::Int8, StepFault::Tables)?;
        let (rows, first) = self.embeddings.unwrap_or((u32::MAX, padding));
        self.embeddings = Some((rows.min(vocabulary), first));
        Ok(())
    }

    /// A tower begins with a row for each token of the text, or for the class token and each patch of the image.
    fn row_for_each_token(&self, out: &Place) -> Result<(), StepFault> {
        ensure(out.axis == Axis::Token && out.rows == self.parts.manifest.context, StepFault::Rows)
    }

    /// Whether the places of kept values are theirs throughout: what a step writes elsewhere, or has as working memory, leaves
    /// them alone. Steps that write to such a place itself leave alone the rows that they need not compute.
    fn nothing_else_is_kept_in_place(&self) -> bool {
        let kept = || self.values.iter().filter(|value| value.is_kept);
        self.parts.records.iter().filter_map(Step::of_record).all(|step| {
            let apart = |place: &Place| kept().all(|value| !overlap(&extent(place), &extent(&value.place)));
            step.scratch.iter().all(apart)
                && step.writes().all(|place| kept().any(|value| value.place == *place) || apart(place))
        })
    }

    /// What must hold behind the last step.
    fn finish(mut self) -> Result<Findings, LoadError> {
        let Parts { manifest, reads, .. } = self.parts;
        if self.constants != self.parts.constant_bytes {
            return Err(LoadError::Leftover);
        }
        let (token_rows, padding) = self.embeddings.unwrap_or((0, Padding::End));
        let id_bytes = match reads {
            Reads::Ids { end } if end > token_rows => {
                return Err(LoadError::TokenRange { ids: end, rows: token_rows });
            }
            Reads::Ids { .. } => 4 * u32::from(manifest.context),
            Reads::Pixels(_) => 0,
        };
        let outputs =
            [Some((manifest.hidden, Axis::Token)), manifest.pooled.map(|place| (place, Axis::Sequence))];
        for (place, axis) in outputs.into_iter().flatten() {
            let Ok(value) = self.live(&place) else { return Err(LoadError::Output) };
            if place.axis != axis || place.format != Format::F32 {
                return Err(LoadError::Output);
            }
            value.is_kept |= axis == Axis::Token;
            let has_first_row = value.has_first_row;
            self.first_row.needed |= !has_first_row;
        }
        let keeps_rows = self.causal && self.keeps_rows && self.nothing_else_is_kept_in_place();
        let cached_token = self.first_row.token.filter(|_| !self.first_row.needed);
        let (arena, (tokens, sequences)) = (manifest.arena_bytes, self.ends);
        let apart = tokens <= sequences;
        // The end of a place in the arena, so it has 32 bits.
        let tokens = if apart { tokens as u32 } else { arena };
        let ids = id_bytes.next_multiple_of(ALIGN as u32);
        let cut = Cut { context: manifest.context, ids, tokens, sequence: arena - tokens, apart };
        Ok(Findings { token_rows, padding, cached_token, causal: self.causal, cut, keeps_rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::include_plan;
    use crate::plan::Plan;

    /// The parts of a plan of one tower.
    fn parts<'p>(plan: &'p Plan<'_>) -> Parts<'p> {
        Parts {
            manifest: plan.manifest(),
            records: plan.records(),
            reads: Reads::Ids { end: plan.tokenizer().vocabulary().size() },
            constant_bytes: plan.constant_bytes(),
        }
    }

    /// What a 32-bit machine can address, checked on any machine: sizes are computed in 64 bits.
    #[test]
    fn arenas_that_an_address_cannot_hold_are_refused() {
        let plan = Plan::load(include_plan!("../../tests/fixtures/one-tower.plan")).unwrap();
        let arena = plan.manifest().arena_bytes;
        let bytes = u64::from(arena);
        assert!(check(parts(&plan), bytes).is_ok());
        assert_eq!(check(parts(&plan), bytes - 1).err(), Some(LoadError::ArenaTooLarge { bytes: arena }));
        assert!(check(parts(&plan), i32::MAX as u64).is_ok());
    }

    /// The largest place that a record can name, whose size does not fit 32 bits.
    #[test]
    fn sizes_do_not_wrap() {
        let place = |format| Place {
            offset: u32::MAX - 63,
            columns: u32::MAX,
            rows: u16::MAX,
            axis: Axis::Token,
            format,
        };
        assert_eq!(place(Format::F32).bytes(), (4 * 0xffff_ffff * 0xffff_u64).next_multiple_of(64));
        assert_eq!(place(Format::Codes).bytes(), (0xffff * ((1_u64 << 32) + 8)).next_multiple_of(64));
        let plan = Plan::load(include_plan!("../../tests/fixtures/one-tower.plan")).unwrap();
        let walk = Walk::new(parts(&plan));
        for format in [Format::F32, Format::Codes] {
            assert_eq!(walk.range(&place(format)), Err(StepFault::OutsideArena));
            assert_eq!(walk.range(&Place { offset: 0, ..place(format) }), Err(StepFault::OutsideArena));
        }
    }

    /// The sizes of a linear, an embedding and a norm at their largest: refused or right, never wrapped.
    #[test]
    fn constants_do_not_wrap() {
        let plan = Plan::load(include_plan!("../../tests/fixtures/one-tower.plan")).unwrap();
        let mut sizes = plan.steps().map(|mut step| {
            step.out.columns = u32::MAX;
            step.input = step.input.map(|place| Place { columns: u32::MAX, ..place });
            if let Op::Embed(embed) = &mut step.op {
                (embed.vocabulary, embed.f16_rows) = (u32::MAX, u32::MAX);
            }
            (step.op, step.constant_bytes())
        });
        assert!(sizes.all(|(op, bytes)| match op {
            Op::Embed(_) | Op::Linear { .. } => bytes.is_none(),
            Op::Norm { .. } => bytes == Some(2 * (4 * 0xffff_ffff_u64).next_multiple_of(64)),
            Op::CachedRow { .. } => bytes == Some((4 * 0xffff_ffff_u64).next_multiple_of(64)),
            _ => bytes == Some(0),
        }));
    }

    /// The operation of the first attention of a plan of one tower, over a tower of `rows` rows under `mask`.
    fn attention_over(rows: u16, mask: Mask) -> Result<(), StepFault> {
        let plan = Plan::load(include_plan!("../../tests/fixtures/one-tower.plan")).unwrap();
        let mut step = plan.steps().find(|step| matches!(step.op, Op::Attention { .. })).unwrap();
        let with_rows =
            |place: Place| if place.axis == Axis::Token { Place { rows, ..place } } else { place };
        step = step.map(with_rows);
        if let Op::Attention { mask: its_mask, .. } = &mut step.op {
            *its_mask = mask;
        }
        let scratch = step.scratch_values().unwrap_or(0) as u32;
        step.scratch = step.scratch.map(|place| Place { columns: scratch.max(1), ..place });
        Walk::new(parts(&plan)).operation(&step)
    }

    /// A tower's rows are its own: those of image towers, 257 and 577, are more than any text's.
    #[test]
    fn attention_takes_the_rows_of_every_tower() {
        for mask in [Mask::Causal, Mask::None] {
            for rows in [1, 50, 77, 197, 257, 577, MAX_TOKENS as u16] {
                assert_eq!(attention_over(rows, mask), Ok(()), "{rows}");
            }
            assert_eq!(attention_over(MAX_TOKENS as u16 + 1, mask), Err(StepFault::TooManyTokens));
        }
    }
}
