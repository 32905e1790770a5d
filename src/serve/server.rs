//! The server: requests in, answers out.

use embedded_io::{Read, Write};

use super::format::{Header, Side, VERSION};
use super::message::{Encode, Hello, Parts, REQUESTS, Request, Text};
use super::problem::Problem;
use super::receive::{End, Receiver};
use super::rows::{Pass, Sender, Sequences, Stop};
use super::send::{SendError, send, write_all};
use super::statistics::{Counters, count};
use super::values::Sent;
use crate::executor::{Encoder, Input, PassError};
use crate::plan::{MAX_SEQUENCES, PlanHash, Resident, Source};
use crate::prompt::{self, Chunks, MAX_CHUNKS, Prompt, PromptError, Weighting};
use crate::threads::{Solo, Team};

/// Bytes that are read from a line at a time, at the most.
const CHUNK: usize = 64;

/// Answers requests with an encoder, on one line or on several, one at a time.
///
/// Nothing is allocated: a request is kept in the [`Receiver`] of its line, rows go out of the arena as they stand there.
pub struct Server<'a, T = Solo, S = Resident<'a>> {
    encoder: Encoder<'a, T, S>,
    counters: &'a Counters,
    name: &'a str,
    clock: Option<fn() -> u64>,
    #[cfg(feature = "weights")]
    work: &'a mut [f32],
    prompt: &'a mut Prompt,
    hash: PlanHash,
    /// Microseconds of computing that are not counted yet.
    left: u64,
}

impl<'a, T: Team, S: Source> Server<'a, T, S> {
    /// A server over `encoder`, in which as many texts of a request go through one pass as its arena has room for.
    /// `prompt` is where texts with weights, and those of several chunks, are read to: of 5 KB, which need not be on the stack.
    pub fn new(encoder: Encoder<'a, T, S>, counters: &'a Counters, prompt: &'a mut Prompt) -> Self {
        let hash = encoder.program().hash();
        let name = concat!("cliptext ", env!("CARGO_PKG_VERSION"));
        Self {
            encoder,
            counters,
            name,
            clock: None,
            #[cfg(feature = "weights")]
            work: &mut [],
            prompt,
            hash,
            left: 0,
        }
    }

    /// What it calls itself in [`Hello`].
    pub fn named(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// Gives it a clock: microseconds since any moment.
    pub fn with_clock(mut self, clock: fn() -> u64) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Gives it memory for texts with weights, without which it refuses them: [`work_len`](Self::work_len) of as many chunks as a text may have.
    #[cfg(feature = "weights")]
    pub fn with_work(mut self, work: &'a mut [f32]) -> Self {
        self.work = work;
        self
    }

    /// Numbers of work memory for texts with weights, of so many chunks.
    #[cfg(feature = "weights")]
    pub fn work_len(encoder: &Encoder<'a, T, S>, chunks: usize) -> usize {
        let program = encoder.program();
        let pooled = program.manifest().pooled.map_or(0, |place| place.columns as usize);
        chunks * program.context() * program.width() + pooled
    }

    /// Answers what `line` brings until it ends.
    ///
    /// # Errors
    /// Those of the line.
    pub fn serve<L: Read + Write>(
        &mut self,
        line: &mut L,
        receiver: &mut Receiver<'_>,
    ) -> Result<(), SendError<L::Error>> {
        let mut chunk = [0; CHUNK];
        loop {
            match line.read(&mut chunk).map_err(SendError::Line)? {
                0 => return Ok(()),
                read => self.feed(receiver, chunk.get(..read).unwrap_or(&[]), line)?,
            }
        }
    }

    /// Takes bytes that came from a line and writes the answers to the requests that end in them: for lines that are not
    /// read by [`serve`](Self::serve), and for tests.
    ///
    /// # Errors
    /// Those of the line.
    pub fn feed<W: Write>(
        &mut self,
        receiver: &mut Receiver<'_>,
        bytes: &[u8],
        out: &mut W,
    ) -> Result<(), SendError<W::Error>> {
        for &byte in bytes {
            if let Some(end) = receiver.push(byte) {
                self.take(end, receiver, out)?;
            }
        }
        Ok(())
    }

    /// Answers what a zero ended.
    fn take<W: Write>(
        &mut self,
        end: End,
        receiver: &Receiver<'_>,
        out: &mut W,
    ) -> Result<(), SendError<W::Error>> {
        let counters = self.counters;
        let taken = Header::take(receiver.content());
        let (header, message) = match (end, taken) {
            (End::Damaged, _) => {
                count(&counters.damaged, 1);
                return self.refuse(0, Problem::Damaged, out);
            }
            (End::Frame | End::TooLong, Some((header, message))) if header.side() == Side::Client => {
                (header, message)
            }
            _ => {
                count(&counters.skipped, 1);
                return Ok(());
            }
        };
        let request = match end {
            End::TooLong => {
                count(&counters.too_long, 1);
                Err(Problem::TooLong { limit: receiver.limit() as u32 })
            }
            _ if !header.is_current() => Err(Problem::Version { speaks: VERSION }),
            _ => read(message),
        };
        let request = match request {
            Ok(request) => request,
            Err(problem) => return self.refuse(header.id, problem, out),
        };
        let answer = Header::new(Side::Server, header.id);
        write_all(out, &[0])?;
        let answered = match &request {
            Request::Hello => self.hello(answer, receiver.limit(), out),
            Request::Tokenize { text } => self.tokenize(answer, text, out),
            Request::Encode(asked) => self.encode(answer, asked, out),
            Request::Statistics => {
                let statistics = self.counters.statistics();
                send(out, answer, &Sent::Statistics(statistics)).map_err(Stop::Line)
            }
        };
        match answered {
            Ok(()) => {
                count(&counters.answered, 1);
                out.flush().map_err(SendError::Line)
            }
            Err(Stop::Problem(problem)) => self.refuse(header.id, problem, out),
            Err(Stop::Line(error)) => Err(error),
        }
    }

    fn refuse<W: Write>(&self, id: u32, problem: Problem, out: &mut W) -> Result<(), SendError<W::Error>> {
        count(&self.counters.refused, 1);
        refuse(id, problem, out)
    }

    /// Texts, each in the whole context, that have room in the arena at once.
    fn at_once(&self) -> usize {
        let (program, arena) = (self.encoder.program(), self.encoder.arena_len());
        (1..=MAX_SEQUENCES).rev().find(|&count| program.arena_bytes(count) <= arena).unwrap_or(1)
    }

    /// Chunks of a text with weights for which there is memory.
    #[cfg(feature = "weights")]
    fn weighted_chunks(&self) -> usize {
        let program = self.encoder.program();
        let room = self.work.len().saturating_sub(Self::work_len(&self.encoder, 0));
        let chunk = program.context() * program.width();
        room.checked_div(chunk).unwrap_or(0).min(Prompt::max_chunks(program.context()))
    }

    /// None: it does not read weights.
    #[cfg(not(feature = "weights"))]
    fn weighted_chunks(&self) -> usize {
        0
    }

    #[inline(never)]
    fn hello<W: Write>(&self, header: Header, frame: usize, out: &mut W) -> Result<(), Stop<W::Error>> {
        let program = self.encoder.program();
        let hello = Hello {
            server: self.name,
            plan: program.manifest().source,
            hash: *self.hash.bytes(),
            context: program.context() as u16,
            width: program.width() as u32,
            pooled: program.manifest().pooled.map_or(0, |place| place.columns),
            arena: self.encoder.arena_len() as u64,
            at_once: self.at_once() as u8,
            texts: MAX_SEQUENCES as u8,
            chunks: Prompt::max_chunks(program.context()) as u8,
            weighted_chunks: self.weighted_chunks() as u8,
            frame: frame as u32,
            kernels: self.encoder.kernels().name(),
        };
        Ok(send(out, header, &Sent::Hello(hello))?)
    }

    #[inline(never)]
    fn tokenize<W: Write>(&self, header: Header, text: &str, out: &mut W) -> Result<(), Stop<W::Error>> {
        let tokens = self.encoder.program().tokenizer().encode(text);
        let ids = bytemuck::cast_slice(tokens.unpadded());
        let answer = Sent::Tokens { ids, truncated: tokens.is_truncated() };
        Ok(send(out, header, &answer)?)
    }

    fn encode<W: Write>(
        &mut self,
        header: Header,
        asked: &Encode<'_>,
        out: &mut W,
    ) -> Result<(), Stop<W::Error>> {
        if asked.texts.is_empty() {
            return Err(Problem::Texts { limit: MAX_SEQUENCES as u8 }.into());
        }
        if asked.parts == Parts::Pooled && self.encoder.program().manifest().pooled.is_none() {
            return Err(Problem::NoPooled.into());
        }
        let mut sender = Sender::new(out, header, asked, self.clock);
        let is_plain = asked.weights == Weighting::None && asked.chunks == Chunks::One;
        let sent = if is_plain { self.texts(asked, &mut sender) } else { self.prompts(asked, &mut sender) };
        self.counters.computed(sender.micros, &mut self.left);
        count(&self.counters.rows, sender.sent as usize);
        let (rows, micros) = (sender.sent, sender.micros.min(u32::MAX.into()) as u32);
        sent?;
        count(&self.counters.texts, asked.texts.len());
        Ok(send(out, header, &Sent::Done { rows, micros })?)
    }

    /// Texts without weights, in one chunk each: several go through a pass.
    #[inline(never)]
    fn texts<W: Write>(
        &mut self,
        asked: &Encode<'_>,
        sender: &mut Sender<'_, W>,
    ) -> Result<(), Stop<W::Error>> {
        let columns = self.encoder.program().width();
        let at_once = self.at_once();
        for first in (0..asked.texts.len()).step_by(at_once.max(1)) {
            let texts = asked.texts.get(first..).unwrap_or(&[]);
            let texts = texts.get(..at_once).unwrap_or(texts);
            let mut inputs = [Input::Text(""); MAX_SEQUENCES];
            let mut truncated = [false; MAX_SEQUENCES];
            for ((input, flag), text) in inputs.iter_mut().zip(&mut truncated).zip(texts) {
                *input = if asked.unpadded { Input::Unpadded(text) } else { Input::Text(text) };
                *flag = self.is_truncated(text);
            }
            let what = Sequences::Texts(first as u8, &truncated);
            self.pass(inputs.get(..texts.len()).unwrap_or(&[]), what, columns, sender)?;
        }
        Ok(())
    }

    /// A function of its own, so that the ids are not on the stack of a pass.
    #[inline(never)]
    fn is_truncated(&self, text: &str) -> bool {
        self.encoder.program().tokenizer().encode(text).is_truncated()
    }

    /// Runs a pass, whose rows are sent.
    fn pass<W: Write>(
        &mut self,
        inputs: &[Input<'_>],
        what: Sequences<'_>,
        columns: usize,
        sender: &mut Sender<'_, W>,
    ) -> Result<(), Stop<W::Error>> {
        pass(&mut self.encoder, inputs, what, columns, sender)
    }

    /// Texts with weights or of several chunks.
    #[inline(never)]
    fn prompts<W: Write>(
        &mut self,
        asked: &Encode<'_>,
        sender: &mut Sender<'_, W>,
    ) -> Result<(), Stop<W::Error>> {
        if asked.unpadded {
            return Err(Problem::Unpadded.into());
        }
        let mut options =
            prompt::Options { weighting: asked.weights, chunks: asked.chunks, comma: asked.comma };
        if asked.texts.len() > 1 {
            // What is wrong with one is found before another is sent.
            let mut most = 1;
            for (text, index) in asked.texts.iter().zip(0..) {
                self.read(text, index, options)?;
                most = most.max(self.prompt.chunks());
            }
            if asked.chunks == Chunks::Auto {
                // Each takes no more than it needs, so as many do for all.
                options.chunks = Chunks::Exactly(most as u8);
            }
        }
        let limit = match (asked.weights, self.weighted_chunks()) {
            (Weighting::None, _) => MAX_CHUNKS,
            (_, 0) => return Err(Problem::Weights.into()),
            (_, limit) => limit,
        };
        for (text, index) in asked.texts.iter().zip(0..) {
            self.read(text, index, options)?;
            if self.prompt.chunks() > limit {
                return Err(Problem::Chunks { limit: limit as u8 }.into());
            }
            match asked.weights {
                Weighting::None => self.chunks(index, sender)?,
                #[cfg(feature = "weights")]
                _ => self.weighted(index, sender)?,
                #[cfg(not(feature = "weights"))]
                _ => return Err(Problem::Weights.into()),
            }
        }
        Ok(())
    }

    /// Reads a text into the prompt.
    #[inline(never)]
    fn read(&mut self, text: &str, index: u8, options: prompt::Options) -> Result<(), Problem> {
        let tokenizer = self.encoder.program().tokenizer();
        self.prompt.read(tokenizer, text, options).map_err(|error| match error {
            PromptError::Chunks { limit, .. } => Problem::Chunks { limit: limit as u8 },
            PromptError::Weights => Problem::Weights,
            PromptError::TooLong { at, .. } => Problem::TextTooLong { text: index, at: at as u32 },
            PromptError::Spans { at, .. }
            | PromptError::Depth { at, .. }
            | PromptError::Number { at }
            | PromptError::Weight { at } => Problem::Reading { text: index, at: at as u32 },
        })
    }

    /// What is told of the prompt's embedding.
    fn about(&self, text: u8) -> Text {
        Text {
            text,
            rows: (self.prompt.chunks() * self.prompt.context()) as u16,
            columns: self.encoder.program().width() as u32,
            truncated: self.prompt.dropped().is_some(),
        }
    }

    /// The prompt's chunks as they are: each goes from the arena to the line.
    #[inline(never)]
    fn chunks<W: Write>(&mut self, text: u8, sender: &mut Sender<'_, W>) -> Result<(), Stop<W::Error>> {
        let about = self.about(text);
        let at_once = self.at_once();
        for first in (0..self.prompt.chunks()).step_by(at_once.max(1)) {
            let mut inputs = [Input::Content(&[]); MAX_CHUNKS];
            let count = at_once.min(self.prompt.chunks() - first).min(MAX_CHUNKS);
            for (input, chunk) in inputs.iter_mut().zip(first..first + count) {
                *input = Input::Content(self.prompt.ids(chunk));
            }
            let inputs = inputs.get(..count).unwrap_or(&[]);
            let columns = about.columns as usize;
            pass(&mut self.encoder, inputs, Sequences::Chunks(about, first), columns, sender)?;
        }
        Ok(())
    }

    /// The prompt with its weights: in the work memory, since weights change whole chunks.
    #[cfg(feature = "weights")]
    #[inline(never)]
    fn weighted<W: Write>(&mut self, text: u8, sender: &mut Sender<'_, W>) -> Result<(), Stop<W::Error>> {
        let about = self.about(text);
        let columns = about.columns as usize;
        let (pooled_len, rows) = (Self::work_len(&self.encoder, 0), usize::from(about.rows));
        let Some((hidden, rest)) = self.work.split_at_mut_checked(rows * columns) else {
            return Err(Problem::Weights.into());
        };
        let pooled = rest.get_mut(..pooled_len).filter(|pooled| !pooled.is_empty());
        sender.start();
        let done = self.encoder.encode_prompt(self.prompt, None, hidden, pooled);
        sender.computed();
        done.map_err(|error| problem(&error))?;
        sender.text(about)?;
        sender.hidden(text, 0, columns, hidden)?;
        match rest.get(..pooled_len) {
            Some(pooled) if pooled_len > 0 => sender.pooled(text, pooled),
            _ => Ok(()),
        }
    }
}

/// Tells a client why it is not answered: also one that no server has time for.
///
/// # Errors
/// Those of the line.
pub fn refuse<W: Write>(id: u32, problem: Problem, out: &mut W) -> Result<(), SendError<W::Error>> {
    write_all(out, &[0])?;
    send(out, Header::new(Side::Server, id), &Sent::Problem(problem))?;
    out.flush().map_err(SendError::Line)
}

/// Runs a pass of `encoder`, whose rows are sent.
fn pass<T: Team, S: Source, W: Write>(
    encoder: &mut Encoder<'_, T, S>,
    inputs: &[Input<'_>],
    what: Sequences<'_>,
    columns: usize,
    sender: &mut Sender<'_, W>,
) -> Result<(), Stop<W::Error>> {
    sender.start();
    let mut sink = Pass { sender, columns, what, stopped: None };
    let done = encoder.pass(inputs, &mut sink);
    let stopped = sink.stopped.take();
    done.map_err(|error| problem(&error))?;
    stopped.map_or(Ok(()), Err)
}

/// What a client is told of a pass that failed.
fn problem<E>(error: &PassError<E>) -> Problem {
    match error {
        PassError::Source(_) => Problem::Storage,
        // Nothing else can be: inputs are texts, or chunks of the plan's own tokenizer, and fit the arena.
        _ => Problem::Malformed,
    }
}

/// The request in a message.
fn read(message: &[u8]) -> Result<Request<'_>, Problem> {
    let (kind, fields) = message.split_first().ok_or(Problem::Malformed)?;
    if *kind >= REQUESTS {
        return Err(Problem::Unknown);
    }
    match postcard::take_from_bytes::<Request<'_>>(message) {
        Ok((request, [])) => Ok(request),
        Err(postcard::Error::DeserializeBadUtf8) => Err(Problem::NotUtf8),
        // An `Encode` begins with the number of its texts.
        Err(_) if *kind == ENCODE && number(fields).is_some_and(|texts| texts > MAX_SEQUENCES as u32) => {
            Err(Problem::Texts { limit: MAX_SEQUENCES as u8 })
        }
        _ => Err(Problem::Malformed),
    }
}

/// The kind of [`Request::Encode`].
const ENCODE: u8 = 2;

fn number(bytes: &[u8]) -> Option<u32> {
    postcard::take_from_bytes(bytes).ok().map(|(number, _)| number)
}
