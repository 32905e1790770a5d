//! Embeddings to a line, row by row out of the arena.

use embedded_io::Write;

use super::format::Header;
use super::message::{Encode, Parts, Rows, Text};
use super::problem::Problem;
use super::send::{SendError, send};
use super::values::{Sent, Values};
use crate::executor::Sink;

/// Why the rest of an answer is not sent.
pub(super) enum Stop<E> {
    /// What was asked can't be done.
    Problem(Problem),
    /// The line failed.
    Line(SendError<E>),
}

impl<E> From<SendError<E>> for Stop<E> {
    fn from(error: SendError<E>) -> Self {
        Stop::Line(error)
    }
}

impl<E> From<Problem> for Stop<E> {
    fn from(problem: Problem) -> Self {
        Stop::Problem(problem)
    }
}

/// Sends the rows of a request's texts.
pub(super) struct Sender<'o, W: Write> {
    out: &'o mut W,
    header: Header,
    asked: &'o Encode<'o>,
    /// Rows that were sent.
    pub(super) sent: u32,
    clock: Option<fn() -> u64>,
    /// When the pass began.
    began: u64,
    /// Microseconds of all passes, to the end of computing.
    pub(super) micros: u64,
}

impl<'o, W: Write> Sender<'o, W> {
    pub(super) fn new(
        out: &'o mut W,
        header: Header,
        asked: &'o Encode<'o>,
        clock: Option<fn() -> u64>,
    ) -> Self {
        Self { out, header, asked, sent: 0, clock, began: 0, micros: 0 }
    }

    /// A pass begins.
    pub(super) fn start(&mut self) {
        self.began = self.clock.map_or(0, |now| now());
    }

    /// All of it is computed.
    pub(super) fn computed(&mut self) {
        let now = self.clock.map_or(0, |now| now());
        self.micros = self.micros.saturating_add(now.saturating_sub(self.began));
    }

    /// Begins a text's embedding.
    #[inline(never)]
    pub(super) fn text(&mut self, text: Text) -> Result<(), Stop<W::Error>> {
        let wanted = self.asked.rows.filter(|_| self.asked.parts != Parts::Pooled);
        let end = |wanted: Rows| u32::from(wanted.first) + u32::from(wanted.count);
        if wanted.is_some_and(|wanted| end(wanted) > text.rows.into()) {
            return Err(Problem::Rows { rows: text.rows }.into());
        }
        Ok(send(self.out, self.header, &Sent::Text(text))?)
    }

    /// Sends rows of a text's hidden states, the first of which is row `first` of its embedding.
    #[inline(never)]
    pub(super) fn hidden(
        &mut self,
        text: u8,
        first: usize,
        columns: usize,
        rows: &[f32],
    ) -> Result<(), Stop<W::Error>> {
        if self.asked.parts == Parts::Pooled {
            return Ok(());
        }
        let is_wanted = |row: u16| match self.asked.rows {
            Some(Rows { first, count }) => row >= first && row - first < count,
            None => true,
        };
        for (row, values) in (first..).zip(rows.chunks_exact(columns.max(1))) {
            let row = row as u16;
            if is_wanted(row) {
                let values = self.checked(text, Some(row), values)?;
                send(self.out, self.header, &Sent::Row { text, row, values })?;
                self.sent += 1;
            }
        }
        Ok(())
    }

    /// Sends a text's pooled row, where it is wanted.
    #[inline(never)]
    pub(super) fn pooled(&mut self, text: u8, values: &[f32]) -> Result<(), Stop<W::Error>> {
        if self.asked.parts != Parts::Hidden {
            let values = self.checked(text, None, values)?;
            send(self.out, self.header, &Sent::Pooled { text, values })?;
            self.sent += 1;
        }
        Ok(())
    }

    /// A row for which there are numbers.
    fn checked<'r>(&self, text: u8, row: Option<u16>, values: &'r [f32]) -> Result<Values<'r>, Problem> {
        match self.asked.numbers.lacks(values) {
            Some(column) => Err(Problem::Value { text, row, column: column as u32 }),
            None => Ok(Values { numbers: self.asked.numbers, row: values }),
        }
    }
}

/// Takes a pass' sequences and sends them: each a text, or each a chunk of one.
pub(super) struct Pass<'p, 'o, W: Write> {
    pub(super) sender: &'p mut Sender<'o, W>,
    pub(super) columns: usize,
    pub(super) what: Sequences<'p>,
    /// Why nothing is sent any more.
    pub(super) stopped: Option<Stop<W::Error>>,
}

/// What a pass' sequences are.
pub(super) enum Sequences<'p> {
    /// Texts, the first of this number; and whether each is truncated.
    Texts(u8, &'p [bool]),
    /// Chunks of a text, the first of this number.
    Chunks(Text, usize),
}

impl<W: Write> Pass<'_, '_, W> {
    fn unless_stopped(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Stop<W::Error>>) {
        if self.stopped.is_none() {
            self.stopped = step(self).err();
        }
    }
}

impl<W: Write> Sink for Pass<'_, '_, W> {
    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        if sequence == 0 {
            self.sender.computed();
        }
        self.unless_stopped(|pass| {
            let columns = pass.columns;
            match pass.what {
                Sequences::Texts(first, truncated) => {
                    let text = first + sequence as u8;
                    let truncated = truncated.get(sequence).copied().unwrap_or(false);
                    let count = rows.len().checked_div(columns).unwrap_or(0);
                    pass.sender.text(Text {
                        text,
                        rows: count as u16,
                        columns: columns as u32,
                        truncated,
                    })?;
                    pass.sender.hidden(text, 0, columns, rows)
                }
                Sequences::Chunks(text, first) => {
                    let chunk = first + sequence;
                    if chunk == 0 {
                        pass.sender.text(text)?;
                    }
                    let count = rows.len().checked_div(columns).unwrap_or(0);
                    pass.sender.hidden(text.text, chunk * count, columns, rows)
                }
            }
        });
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        self.unless_stopped(|pass| match pass.what {
            Sequences::Texts(first, _) => pass.sender.pooled(first + sequence as u8, row),
            Sequences::Chunks(text, first) if first + sequence == 0 => pass.sender.pooled(text.text, row),
            Sequences::Chunks(..) => Ok(()),
        });
    }
}
