//! `serve`: a device that answers, on a line or on sockets.

mod arguments;
mod connections;
mod listener;

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cliptext::prompt::Prompt;
use cliptext::serve::{Counters, Problem, Receiver, SendError, Server, refuse};
use cliptext::threads::Threads;
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};

pub(crate) use arguments::ServeArgs;
use connections::{Connections, Refused};
use listener::Listener;

use crate::failure::{Failure, Outcome, work};
use crate::line::{Line, Socket};
use crate::plan::{Access, Source};
use crate::setup::{cannot_encode, kernels, team};

/// The longest request.
const FRAME: usize = 64 << 10;

/// Stack of a thread that answers: encoding takes up to 32 KiB.
const STACK: usize = 128 << 10;

/// How long the answers that are being made may take once the program is told to end.
#[cfg(unix)]
const ENDING: Duration = Duration::from_secs(5);

/// Between tries where no client can be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client that is refused may take to hear it.
const REFUSING: Duration = Duration::from_millis(100);

static COUNTERS: Counters = Counters::new();

/// Answers until the line ends or the program is told to.
pub(crate) fn serve(args: &ServeArgs, access: Access) -> Outcome {
    if args.line.stdio && args.plan.as_deref().is_some_and(cliptext_files::is_stdin) {
        return Err(Failure::Usage("standard input can't give both the plan and the requests".into()));
    }
    let source = Source::open(args.plan.as_deref(), access)?;
    let plan = source.load()?;
    let team = team(args.run.threads.map(usize::from))?;
    let service = Service {
        plan: &plan,
        kernels: kernels(&plan, args.run.kernel.as_deref())?,
        team: &team,
        arena: plan.arena_bytes(args.at_once.into()),
        connections: Connections::new(args.clients.into()),
        timeout: Duration::from_secs(args.timeout.into()),
    };
    // What can't be served is found before anybody asks.
    Encoder::with(&plan, &mut AlignedBytes::zeroed(service.arena), service.kernels, &team)
        .map_err(cannot_encode)?;
    clock();
    let line = &args.line;
    if line.stdio {
        return service.alone("standard input", io::stdin(), io::stdout(), None);
    }
    #[cfg(unix)]
    if let Some(path) = &line.uart {
        let port = crate::uart::open(path, args.baud, None)?;
        let name = path.display().to_string();
        return service.alone(&name, &port, &port, Some(&format!("{name} at {} baud", args.baud)));
    }
    #[cfg(unix)]
    if let Some(path) = &line.unix {
        return service.listen(Listener::unix(path)?);
    }
    match line.tcp {
        Some(address) => service.listen(Listener::tcp(address, args.allow_remote)?),
        None => Ok(()),
    }
}

/// Microseconds since the first call.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// What all connections share.
struct Service<'s> {
    plan: &'s Plan<'s>,
    kernels: Kernels,
    team: &'s Threads,
    /// Bytes of an arena.
    arena: usize,
    connections: Connections,
    timeout: Duration,
}

impl Service<'_> {
    fn tell(&self, place: &str, clients: &str) {
        cliptext_files::to_stderr!(
            "cliptext-run: {} on {place}{clients}, arena {} bytes each",
            self.plan.manifest().source,
            self.arena
        );
    }

    /// Answers what `reader` brings until it ends.
    fn answer(&self, number: u64, reader: impl Read, writer: impl io::Write) -> io::Result<()> {
        let mut arena = AlignedBytes::zeroed(self.arena);
        let encoder = Encoder::with(self.plan, &mut arena, self.kernels, self.team);
        let encoder = encoder.map_err(|error| io::Error::other(error.to_string()))?;
        let chunks = Prompt::max_chunks(self.plan.context());
        // Zeros that the system gives when they are touched: by the first text with weights.
        let mut work = vec![0.0; Server::work_len(&encoder, chunks)];
        let mut prompt = Box::new(Prompt::new());
        let mut server = Server::new(encoder, &COUNTERS, &mut prompt).with_clock(clock).with_work(&mut work);
        let mut frame = vec![0; FRAME];
        let reader = Watched { reader, number, connections: &self.connections };
        let mut line = Line::new(reader, writer);
        server.serve(&mut line, &mut Receiver::new(&mut frame)).map_err(|error| match error {
            SendError::Line(error) => error,
            SendError::Closed => io::ErrorKind::WriteZero.into(),
        })
    }

    /// Answers on the one line that there is.
    fn alone(&self, name: &str, reader: impl Read, writer: impl io::Write, told: Option<&str>) -> Outcome {
        let number = self.connections.open(None).map_err(|_| Failure::Work("no client may come".into()))?;
        if let Some(place) = told {
            self.tell(place, "");
        }
        std::thread::scope(|scope| {
            #[cfg(unix)]
            self.end_by_signal(scope, None)?;
            #[cfg(not(unix))]
            let _ = scope;
            self.answer(number, reader, writer).map_err(|error| work(name, error))?;
            // The thread that waits for signals waits for ever.
            std::process::exit(0)
        })
    }

    /// Answers all who come. Ends by a signal only.
    fn listen(&self, (listener, path): (Listener, Option<PathBuf>)) -> Outcome {
        std::thread::scope(|scope| {
            #[cfg(unix)]
            self.end_by_signal(scope, path)?;
            #[cfg(not(unix))]
            drop(path);
            self.tell(&listener.shown(), &format!(", up to {} clients", self.connections.most()));
            loop {
                let socket = match listener.accept() {
                    Ok(socket) => socket,
                    Err(error) => {
                        // Of the client: it is gone already. Else, mostly, there are too many open files.
                        if error.kind() != io::ErrorKind::ConnectionAborted {
                            cliptext_files::to_stderr!("cliptext-run: no client can be taken: {error}");
                            std::thread::sleep(PAUSE);
                        }
                        continue;
                    }
                };
                if let Err(error) = self.admit(scope, socket) {
                    cliptext_files::to_stderr!("cliptext-run: a client: {error}");
                }
            }
        })
    }

    /// Answers a client, in a thread of its own.
    fn admit<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        socket: Socket,
    ) -> io::Result<()> {
        let number = match self.connections.open(Some(socket.again()?)) {
            Ok(number) => number,
            Err(Refused::Stopping) => return Ok(()),
            Err(Refused::Full) => {
                socket.limit_writing(REFUSING)?;
                // Who does not hear it sees the end.
                let _ = refuse(0, Problem::Busy, &mut Line::new(&socket, &socket));
                return Err(io::Error::other("refused, all others are at work (--clients takes more)"));
            }
        };
        let work = move || {
            let done = socket.limit_writing(self.timeout);
            let done = done.and_then(|()| self.answer(number, &socket, &socket));
            socket.shut_down(std::net::Shutdown::Both);
            self.connections.close(number);
            match done {
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    cliptext_files::to_stderr!(
                        "cliptext-run: a client took nothing of its answer for {} s: ended",
                        self.timeout.as_secs()
                    );
                }
                // One that is gone is no news.
                _ => {}
            }
        };
        let thread = std::thread::Builder::new().name("client".into()).stack_size(STACK);
        if let Err(error) = thread.spawn_scoped(scope, work) {
            self.connections.close(number);
            return Err(error);
        }
        Ok(())
    }

    /// SIGTERM and SIGINT end the program when the answers that are being made are given; the socket's file goes.
    #[cfg(unix)]
    fn end_by_signal<'scope>(
        &'scope self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        path: Option<PathBuf>,
    ) -> Outcome {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]);
        let mut signals = signals.map_err(|error| work("waiting for signals", error))?;
        let wait = move || {
            if signals.forever().next().is_none() {
                return;
            }
            if let Some(path) = path {
                let _ = std::fs::remove_file(path);
            }
            if !self.connections.stop(ENDING) {
                cliptext_files::to_stderr!("cliptext-run: ended before all answers were given");
            }
            std::process::exit(0);
        };
        let thread = std::thread::Builder::new().name("signals".into()).stack_size(STACK);
        thread.spawn_scoped(scope, wait).map_err(|error| work("starting a thread", error))?;
        Ok(())
    }
}

/// Notes while it waits for bytes that there is nothing to do.
struct Watched<'c, R> {
    reader: R,
    number: u64,
    connections: &'c Connections,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.connections.set_idle(self.number, true);
        let read = self.reader.read(bytes);
        self.connections.set_idle(self.number, false);
        read
    }
}
