//! `client`: asks a device that answers.

mod arguments;
mod device;

use std::io;
use std::time::Duration;

pub(crate) use arguments::ClientArgs;
use arguments::{Command, EncodeArgs};
use device::{Device, Embedding, FRAME};
use embedded_io::{ErrorType, Read, Write};

use crate::failure::{Failure, Outcome, work};
use crate::line::{Line, Socket};
use crate::output::{About, Encoded, Name, Options, Order, Outputs, Target, What};
use crate::plan::Access;
use crate::prompts::shown;

/// Bytes of a request's frame besides its texts: header, options, and a length of up to 5 bytes for each.
const BESIDES: usize = 128;

/// Asks, and prints or writes what is answered.
pub(crate) fn client(args: &ClientArgs, access: Access) -> Outcome {
    if access.read {
        return Err(Failure::Usage("--read: the plan is at the device: the option has no effect".into()));
    }
    let timeout = Duration::from_secs(args.timeout.into());
    let line = &args.line;
    #[cfg(unix)]
    if let Some(path) = &line.uart {
        let port = crate::uart::open(path, args.baud, Some(timeout))?;
        let silent = "no answer: is it this port, and this many baud?";
        let port = Port { port: &port, silent };
        return run(args, path.display().to_string(), Line::new(port, port));
    }
    #[cfg(unix)]
    if let Some(path) = &line.unix {
        let name = path.display().to_string();
        let stream = std::os::unix::net::UnixStream::connect(path).map_err(|error| work(&name, error))?;
        return over_socket(args, name, &Socket::Unix(stream), timeout);
    }
    let Some(address) = line.tcp else { return Ok(()) };
    let stream =
        std::net::TcpStream::connect_timeout(&address, timeout).map_err(|error| work(address, error))?;
    let _ = stream.set_nodelay(true);
    over_socket(args, address.to_string(), &Socket::Tcp(stream), timeout)
}

fn over_socket(args: &ClientArgs, name: String, socket: &Socket, timeout: Duration) -> Outcome {
    let limited = socket.limit_reading(timeout).and_then(|()| socket.limit_writing(timeout));
    limited.map_err(|error| work(&name, error))?;
    run(args, name, Line::new(socket, socket))
}

/// A serial port that says nothing has a limit of time, and no end.
#[cfg(unix)]
#[derive(Clone, Copy)]
struct Port<'p> {
    port: &'p std::fs::File,
    silent: &'static str,
}

#[cfg(unix)]
impl io::Read for Port<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match (&mut &*self.port).read(bytes)? {
            0 => Err(io::Error::other(self.silent)),
            read => Ok(read),
        }
    }
}

#[cfg(unix)]
impl io::Write for Port<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self.port).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run<L: Read + Write + ErrorType<Error = io::Error>>(args: &ClientArgs, name: String, line: L) -> Outcome {
    let mut buffer = vec![0; FRAME];
    let mut device = Device::new(name, line, &mut buffer);
    match &args.command {
        Command::Hello => sayln!("{}", device.hello()?.shown),
        Command::Tokenize { texts } => {
            for text in texts {
                let (ids, truncated) = device.tokenize(text)?;
                if truncated {
                    cliptext_files::to_stderr!("cliptext-run: cut to {} tokens: {}", ids.len(), shown(text));
                }
                sayln!("{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
            }
        }
        Command::Encode(args) => return encode(args, &mut device),
        Command::Statistics => {
            let found = device.statistics()?;
            sayln!("answered    {} requests, {} refused", found.answered, found.refused);
            sayln!("texts       {}, {} rows", found.texts, found.rows);
            sayln!(
                "line        {} frames damaged, {} too long, {} pieces skipped",
                found.damaged,
                found.too_long,
                found.skipped
            );
            sayln!(
                "computing   {} ms; last request {} µs, longest {} µs",
                found.busy_millis,
                found.last_micros,
                found.longest_micros
            );
        }
    }
    Ok(())
}

fn encode<L>(args: &EncodeArgs, device: &mut Device<'_, L>) -> Outcome
where
    L: Read + Write + ErrorType<Error = io::Error>,
{
    let targets = targets(args)?;
    let about = device.hello()?;
    if args.pooled.is_some() && about.pooled == 0 {
        return Err(device.failure("the plan has no pooled output: leave --pooled out"));
    }
    let prompts = &args.prompts;
    if let Some(long) = prompts.iter().find(|prompt| prompt.len() + BESIDES > about.frame) {
        let bytes = about.frame.saturating_sub(BESIDES);
        return Err(device.failure(format_args!("it takes texts of up to {bytes} bytes: {}", shown(long))));
    }
    // Arrays have no room for options.
    let told = About { plan: about.hash, options: Options::default() };
    let mut outputs = Outputs::create(targets, told, Order::default(), Vec::new(), Some(prompts.len()))?;
    let done = each(args, device, &about, |text, embedding| {
        let columns = embedding.about.columns as usize;
        let encoded = Encoded {
            text,
            is_negative: false,
            ids: &[],
            dropped: None,
            hidden: &embedding.hidden,
            width: columns.max(1),
            pooled: embedding.pooled.as_deref(),
        };
        outputs.write(&encoded, None)
    });
    done.and_then(|()| outputs.finish(None)).map_err(|failure| outputs.missing(failure))
}

/// Asks for the prompts, as many at a time as a request takes.
fn each<L>(
    args: &EncodeArgs,
    device: &mut Device<'_, L>,
    about: &device::About,
    mut write: impl FnMut(&str, &Embedding) -> Outcome,
) -> Outcome
where
    L: Read + Write + ErrorType<Error = io::Error>,
{
    let mut rest: Vec<&str> = args.prompts.iter().map(String::as_str).collect();
    if args.chunks == Some(cliptext::serve::Chunks::Auto) && rest.len() > about.texts {
        return Err(device.failure(format_args!(
            "--chunks auto gives as many to all prompts, of which a request takes {}: say how many",
            about.texts
        )));
    }
    while !rest.is_empty() {
        let mut bytes = BESIDES;
        let fits = |text: &&&str| {
            bytes += text.len();
            bytes <= about.frame
        };
        let count = rest.iter().take(about.texts).take_while(fits).count().max(1);
        let behind = rest.split_off(count);
        let embeddings = device.encode(&args.request(&rest), about)?;
        for (text, embedding) in rest.iter().zip(&embeddings) {
            if embedding.about.truncated {
                cliptext_files::to_stderr!(
                    "cliptext-run: cut to {} rows: {}",
                    embedding.about.rows,
                    shown(text)
                );
            }
            write(text, embedding)?;
        }
        rest = behind;
    }
    Ok(())
}

/// The outputs, which are arrays.
fn targets(args: &EncodeArgs) -> Outcome<Vec<Target>> {
    let asked = [(&args.output, What::Hidden), (&args.pooled, What::Pooled)];
    let asked = asked.into_iter().filter_map(|(path, what)| Some((path.as_deref()?, what)));
    let asked = asked.map(|(path, what)| Ok((Name::parse(path)?, what))).collect::<Outcome<Vec<_>>>()?;
    let formats = args.formats.formats(&asked.iter().map(|(name, _)| name).collect::<Vec<_>>())?;
    let targets = asked.into_iter().zip(formats).map(|((name, what), format)| Target { name, format, what });
    targets
        .map(|target| match target.is_array() {
            true => Ok(target),
            false => Err(Failure::Usage(format!(
                "{}: a client writes arrays: name an .npy, .f32 or .f16",
                target.name.shown()
            ))),
        })
        .collect()
}
