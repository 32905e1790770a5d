//! A device that answers, and what it is asked.

use std::fmt;
use std::io;

use cliptext::plan::PlanHash;
use cliptext::serve::{
    Answer, Client, ClientError, Encode, Numbers, Parts, Problem, Request, SendError, Text,
};
use embedded_io::{Read, Write};

use crate::failure::{Failure, Outcome};

/// Bytes of the longest answer's frame but its row.
const BESIDES: usize = 512;

/// The widest row that is taken: twice that of the widest model.
pub(super) const COLUMNS: usize = 8192;

/// Bytes of the longest frame of an answer.
pub(super) const FRAME: usize = COLUMNS * 4 + BESIDES;

/// How often a request is made whose answer was damaged on the line.
const TRIES: usize = 3;

/// Who answers.
pub(super) struct About {
    pub(super) hash: PlanHash,
    pub(super) pooled: usize,
    /// Texts of a request, and bytes of its frame, at the most.
    pub(super) texts: usize,
    pub(super) frame: usize,
    pub(super) shown: String,
}

/// An embedding.
pub(super) struct Embedding {
    pub(super) about: Text,
    pub(super) hidden: Vec<f32>,
    pub(super) pooled: Option<Vec<f32>>,
}

/// Why there is no answer.
enum Why {
    /// It was damaged: to be asked again.
    Damaged,
    /// It says so itself.
    Problem(Problem),
    /// The line.
    Line(ClientError<io::Error>),
    /// It makes no sense.
    Nonsense(&'static str),
}

impl From<ClientError<io::Error>> for Why {
    fn from(error: ClientError<io::Error>) -> Self {
        match error {
            ClientError::Damaged => Why::Damaged,
            error => Why::Line(error),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Damaged => f.write_str("the line damages what goes over it"),
            Why::Problem(problem) => problem.fmt(f),
            Why::Line(ClientError::Line(SendError::Line(error)))
                if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
            {
                f.write_str("no answer")
            }
            Why::Line(error) => error.fmt(f),
            Why::Nonsense(what) => f.write_str(what),
        }
    }
}

/// A device.
pub(super) struct Device<'b, L> {
    name: String,
    client: Client<'b, L>,
}

impl<'b, L: Read + Write + embedded_io::ErrorType<Error = io::Error>> Device<'b, L> {
    pub(super) fn new(name: String, line: L, buffer: &'b mut [u8]) -> Self {
        Self { name, client: Client::new(line, buffer) }
    }

    /// A failure of it.
    pub(super) fn failure(&self, why: impl fmt::Display) -> Failure {
        Failure::Work(format!("{}: {why}", self.name))
    }

    /// Asks, again where the line does damage.
    fn tried<R>(&mut self, mut ask: impl FnMut(&mut Client<'b, L>) -> Result<R, Why>) -> Outcome<R> {
        let mut tries = 1;
        loop {
            match ask(&mut self.client) {
                Ok(answer) => return Ok(answer),
                Err(Why::Damaged | Why::Problem(Problem::Damaged)) if tries < TRIES => {
                    tries += 1;
                    cliptext_files::to_stderr!(
                        "cliptext-run: {}: damaged on the line: asked again",
                        self.name
                    );
                }
                Err(why) => return Err(self.failure(why)),
            }
        }
    }

    /// Who answers.
    pub(super) fn hello(&mut self) -> Outcome<About> {
        self.tried(|client| {
            client.ask(&Request::Hello)?;
            let Answer::Hello(hello) = one(client)? else { return Err(OTHER) };
            let hash = PlanHash::from_bytes(hello.hash);
            let pooled = match hello.pooled {
                0 => "none".to_owned(),
                columns => format!("[{columns}] per text"),
            };
            let weighted = match hello.weighted_chunks {
                0 => "without weights".to_owned(),
                chunks => format!("{chunks} of them with weights"),
            };
            let shown = format!(
                "server      {}, kernel {}\nplan        {}\nhash        {hash}\nhidden      [{}, {}] per text\n\
                 pooled      {pooled}\narena       {} bytes, {} texts in a pass\n\
                 limits      {} texts, {} chunks ({weighted}), {} bytes in a request",
                hello.server,
                hello.kernels,
                hello.plan,
                hello.context,
                hello.width,
                hello.arena,
                hello.at_once,
                hello.texts,
                hello.chunks,
                hello.frame
            );
            Ok(About {
                hash,
                pooled: hello.pooled as usize,
                texts: usize::from(hello.texts).max(1),
                frame: hello.frame as usize,
                shown,
            })
        })
    }

    /// A text's ids, and whether it has more than fit.
    pub(super) fn tokenize(&mut self, text: &str) -> Outcome<(Vec<u32>, bool)> {
        self.tried(|client| {
            client.ask(&Request::Tokenize { text })?;
            let Answer::Tokens { ids, truncated } = one(client)? else { return Err(OTHER) };
            Ok((ids.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect(), truncated))
        })
    }

    /// What was done.
    pub(super) fn statistics(&mut self) -> Outcome<cliptext::serve::Statistics> {
        self.tried(|client| {
            client.ask(&Request::Statistics)?;
            let Answer::Statistics(statistics) = one(client)? else { return Err(OTHER) };
            Ok(statistics)
        })
    }

    /// The embeddings of the request's texts.
    pub(super) fn encode(&mut self, asked: &Encode<'_>, about: &About) -> Outcome<Vec<Embedding>> {
        self.tried(|client| {
            client.ask(&Request::Encode(asked.clone()))?;
            encoded(client, asked, about.pooled)
        })
    }
}

const OTHER: Why = Why::Nonsense("the answer is to another question");

/// An answer that is no problem.
fn one<'c, L>(client: &'c mut Client<'_, L>) -> Result<Answer<'c>, Why>
where
    L: Read + Write + embedded_io::ErrorType<Error = io::Error>,
{
    match client.answer()? {
        Answer::Problem(problem) => Err(Why::Problem(problem)),
        answer => Ok(answer),
    }
}

/// Puts the embeddings of a request together.
fn encoded<L>(
    client: &mut Client<'_, L>,
    asked: &Encode<'_>,
    pooled_columns: usize,
) -> Result<Vec<Embedding>, Why>
where
    L: Read + Write + embedded_io::ErrorType<Error = io::Error>,
{
    let mut embeddings: Vec<Embedding> = Vec::new();
    let numbers = asked.numbers;
    loop {
        match one(client)? {
            Answer::Text(about) if usize::from(about.text) == embeddings.len() => {
                if about.columns as usize > COLUMNS {
                    return Err(Why::Nonsense("rows of more columns than this program takes"));
                }
                let hidden = Vec::new();
                embeddings.push(Embedding { about, hidden, pooled: None });
            }
            Answer::Row { text, row, values } => {
                let embedding = last(&mut embeddings, text)?;
                let (start, columns) = (embedding.hidden.len(), embedding.about.columns as usize);
                if start != usize::from(row) * columns {
                    // One before it was lost on the line.
                    return Err(Why::Damaged);
                }
                embedding.hidden.resize(start + columns, 0.0);
                read(numbers, values, &mut embedding.hidden[start..])?;
            }
            Answer::Pooled { text, values } => {
                let mut row = vec![0.0; pooled_columns];
                read(numbers, values, &mut row)?;
                last(&mut embeddings, text)?.pooled = Some(row);
            }
            Answer::Done { .. } => {
                let is_whole = |embedding: &Embedding| {
                    let rows = usize::from(embedding.about.rows) * embedding.about.columns as usize;
                    let hidden = asked.parts == Parts::Pooled || embedding.hidden.len() == rows;
                    hidden
                        && (asked.parts == Parts::Hidden || pooled_columns == 0 || embedding.pooled.is_some())
                };
                let is_whole = embeddings.len() == asked.texts.len() && embeddings.iter().all(is_whole);
                return if is_whole { Ok(embeddings) } else { Err(Why::Damaged) };
            }
            Answer::Text(_) => return Err(Why::Damaged),
            _ => return Err(OTHER),
        }
    }
}

/// The embedding that a row is of.
fn last(embeddings: &mut [Embedding], text: u8) -> Result<&mut Embedding, Why> {
    embeddings.last_mut().filter(|embedding| embedding.about.text == text).ok_or(Why::Damaged)
}

fn read(numbers: Numbers, bytes: &[u8], out: &mut [f32]) -> Result<(), Why> {
    if numbers.read(bytes, out) {
        Ok(())
    } else {
        Err(Why::Nonsense("a row of another length than was told"))
    }
}
