//! `serve` and `client` over sockets, pipes and a serial line, with clients that are slow, silent, gone or broken.
#![cfg(unix)]

mod common;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use cliptext::plan::format::crc32c;
use cliptext::serve::{Answer, Chunks, Client, Encode, Numbers, Problem, Request};
use common::{Folder, ONE_TOWER, fails, ok};

/// A server that ends with its owner.
struct Served {
    child: Child,
    /// What it said when it was ready.
    said: String,
    /// What it says later.
    says: Receiver<String>,
}

impl Served {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
            .args(["serve", ONE_TOWER, "--threads", "1"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        lines.read_line(&mut said).unwrap();
        let (send, says) = mpsc::channel();
        std::thread::spawn(move || lines.lines().try_for_each(|line| send.send(line.unwrap())));
        Self { child, said, says }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Ends it as an operator does; the exit code.
    fn end(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long anything may take on a machine that has other work too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which waiting has an end.
fn connect(path: &str) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A line through a socket.
struct Line<S>(S);

impl<S> embedded_io::ErrorType for Line<S> {
    type Error = io::Error;
}

impl<S: Read> embedded_io::Read for Line<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<S: Write> embedded_io::Write for Line<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A hash of the hidden states that are answered to a request.
fn hidden<S: Read + Write>(client: &mut Client<'_, Line<S>>, asked: &Encode<'_>) -> Result<u32, Problem> {
    client.ask(&Request::Encode(asked.clone())).unwrap();
    let mut bytes = Vec::new();
    loop {
        match client.answer().unwrap() {
            Answer::Row { values, .. } => bytes.extend_from_slice(values),
            Answer::Done { .. } => return Ok(crc32c(&bytes)),
            Answer::Problem(problem) => return Err(problem),
            _ => {}
        }
    }
}

fn one(text: &str) -> Encode<'_> {
    Encode { texts: [text].into_iter().collect(), ..Encode::default() }
}

/// A request with an answer that no socket keeps.
fn much() -> Encode<'static> {
    Encode { texts: ["a"; 16].into_iter().collect(), chunks: Chunks::Exactly(8), ..Encode::default() }
}

/// Bytes of its values.
const MUCH: usize = 16 * 8 * 77 * 32 * 4;

/// The same, of what `encode` writes.
fn expected(folder: &Folder, text: &str, options: &[&str]) -> u32 {
    let file = folder.path("expected.f32");
    ok(&[&["encode", ONE_TOWER, "--prompt", text, "-o", &file], options].concat());
    crc32c(&std::fs::read(file).unwrap())
}

#[test]
fn a_client_writes_what_encode_writes() {
    let folder = Folder::new("serve-client");
    let socket = folder.path("s");
    let mut served = Served::start(&["--unix", &socket]);
    assert!(served.said.contains(&format!(" on {socket}, up to 16 clients, arena ")), "{}", served.said);
    let client = |args: &[&str]| ok(&[&["client", "--unix", &socket], args].concat());
    let [here, there] = ["here.npy", "there.npy"].map(|name| folder.path(name));
    for args in [&["a running dog"][..], &["a", "b", "c"], &["--no-pad", "a photo of a cat"]] {
        let (output, own) = (["-o", &there], ["-o", &here]);
        client(&[&["encode"][..], args, &output].concat());
        ok(&[&["encode", ONE_TOWER][..], args, &own].concat());
        assert!(std::fs::read(&here).unwrap() == std::fs::read(&there).unwrap(), "{args:?}");
        ok(&["encode", ONE_TOWER, "x", "--pooled", &here]);
        client(&["encode", "x", "--pooled", &there]);
        assert!(std::fs::read(&here).unwrap() == std::fs::read(&there).unwrap());
    }
    // More than a request takes.
    let many: Vec<String> = (0..35).map(|number| format!("text {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    client(&[&["encode", "-o", &there][..], &many].concat());
    ok(&[&["encode", ONE_TOWER, "-o", &here][..], &many].concat());
    assert!(std::fs::read(&here).unwrap() == std::fs::read(&there).unwrap());
    let half = folder.path("half.f16");
    ok(&["encode", ONE_TOWER, "a running dog", "-o", &half]);
    client(&["encode", "a running dog", "--numbers", "f16", "-o", &folder.path("half2.f16")]);
    assert!(std::fs::read(half).unwrap() == std::fs::read(folder.path("half2.f16")).unwrap());
    client(&["encode", "a running dog", "--numbers", "int8", "-o", &there]);
    ok(&["encode", ONE_TOWER, "a running dog", "-o", &here]);
    let (exact, near) = (common::npy(&here).1, common::npy(&there).1);
    assert!(exact.iter().zip(&near).all(|(exact, near)| (exact - near).abs() < 0.05) && exact != near);
    // Chunks.
    let long = "a very long prompt, ".repeat(30);
    client(&["encode", &long, "--chunks", "auto", "-o", &there]);
    assert_eq!(common::npy(&there).0, [1, 154, 32]);
    // The rest.
    let hash = ok(&["inspect", ONE_TOWER]).lines().find(|line| line.starts_with("hash")).unwrap().to_owned();
    assert!(client(&["hello"]).lines().any(|line| line == hash));
    assert_eq!(client(&["tokenize", "a dog", "é"]), ok(&["tokenize", "--no-pad", ONE_TOWER, "a dog", "é"]));
    let statistics = client(&["statistics"]);
    assert!(statistics.contains(" 0 frames damaged") && statistics.contains("texts "), "{statistics}");
    assert_eq!(served.end(), Some(0));
    assert!(!std::fs::exists(&socket).unwrap());
}

#[test]
fn what_can_not_be_is_told() {
    let folder = Folder::new("serve-misuse");
    let socket = folder.path("s");
    let file = folder.write("file", b"x");
    let missing = folder.path("none/s");
    for (args, code, said) in [
        (&["serve", ONE_TOWER][..], 2, "<--stdio|--uart <DEVICE>|--unix <PATH>|--tcp <ADDRESS>>"),
        (&["serve", ONE_TOWER, "--stdio", "--unix", &socket], 2, "cannot be used with"),
        (
            &["serve", ONE_TOWER, "--tcp", "0.0.0.0:0"],
            2,
            "--tcp 0.0.0.0:0: clients on other machines would reach it",
        ),
        (
            &["serve", ONE_TOWER, "--tcp", "127.0.0.1:0", "--allow-remote"],
            2,
            "--allow-remote: no other machine reaches",
        ),
        (&["serve", ONE_TOWER, "--unix", &socket, "--allow-remote"], 2, "cannot be used with"),
        (&["serve", ONE_TOWER, "--unix", &socket, "--baud", "9600"], 2, "cannot be used with"),
        (&["serve", ONE_TOWER, "--unix", &file], 1, "file: something else has this name"),
        (&["serve", ONE_TOWER, "--unix", &missing], 1, "none/s: No such file"),
        (&["serve", ONE_TOWER, "--uart", "/dev/null"], 1, "/dev/null: not a serial port"),
        (&["serve", ONE_TOWER, "--uart", &missing], 1, "No such file"),
        (&["serve", "/dev/stdin", "--stdio"], 2, "standard input can't give both the plan and the requests"),
        (&["client", "hello"], 2, "<--uart <DEVICE>|--unix <PATH>|--tcp <ADDRESS>>"),
        (&["client", "--unix", &socket, "hello"], 1, "/s: No such file"),
        (&["client", "--unix", &socket, "encode", "x"], 2, "--output <FILE>"),
        (&["--read", "client", "--unix", &socket, "hello"], 2, "--read: the plan is at the device"),
    ] {
        let error = fails(args, code);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let _served = Served::start(&["--unix", &socket]);
    let error = fails(&["serve", ONE_TOWER, "--unix", &socket], 1);
    assert!(error.contains("/s: another server answers there"), "{error}");
    let client =
        |args: &[&str], code| fails(&[&["client", "--unix", &socket, "encode"], args].concat(), code);
    let json = folder.path("x.json");
    assert!(client(&["x", "-o", &json], 2).contains("x.json: a client writes arrays"));
    let npy = folder.path("x.npy");
    let error = client(&["x", "--no-pad", "--chunks", "2", "-o", &npy], 1);
    assert!(error.contains("/s: chunks and weights fill the context"), "{error}");
    assert!(client(&["x", "--chunks", "9", "-o", &npy], 1).contains("a text has 1 to 8 chunks here"));
    let long = "x".repeat(65_536);
    assert!(client(&[&long, "-o", &npy], 1).contains("it takes texts of up to 65408 bytes"));
    assert!(!std::fs::exists(&npy).unwrap());
}

#[test]
fn a_socket_that_is_left_over_is_taken_and_a_port_is_told() {
    let folder = Folder::new("serve-left");
    let socket = folder.path("s");
    let served = Served::start(&["--unix", &socket]);
    drop(served);
    assert!(std::fs::exists(&socket).unwrap());
    let mut served = Served::start(&["--unix", &socket]);
    assert_eq!(served.end(), Some(0));
    let mut served = Served::start(&["--tcp", "127.0.0.1:0"]);
    let address = served.said.split(" on ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert!(ok(&["client", "--tcp", &address, "hello"]).contains("server      cliptext"));
    let mut buffer = vec![0; 1000];
    let mut client = Client::new(Line(TcpStream::connect(&address).unwrap()), &mut buffer);
    assert_eq!(hidden(&mut client, &one("a dog")), Ok(expected(&folder, "a dog", &[])));
    served.signal("-INT");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

/// Request in, answers out, and the end of the input ends it.
#[test]
fn standard_input_is_a_line_too() {
    let mut request = Vec::new();
    let mut asker = Client::new(Line(io::Cursor::new(&mut request)), &mut []);
    asker.ask(&Request::Encode(one("a dog"))).unwrap();
    let mut served = Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
        .args(["serve", ONE_TOWER, "--stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    served.stdin.take().unwrap().write_all(&request).unwrap();
    let Output { status, stdout, stderr } = served.wait_with_output().unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    // A frame for the beginning, each row, the pooled row and the end.
    assert_eq!(stdout.split(|&byte| byte == 0).filter(|frame| !frame.is_empty()).count(), 1 + 77 + 1 + 1);
}

#[test]
fn silent_slow_and_vanished_clients_stop_nobody() {
    let folder = Folder::new("serve-slow");
    let socket = folder.path("s");
    let mut served = Served::start(&["--unix", &socket, "--clients", "3", "--timeout", "1"]);
    let right = expected(&folder, "a dog", &[]);
    let connect = || connect(&socket);
    let mut buffer = vec![0; 1000];
    let ask = |buffer: &mut [u8]| hidden(&mut Client::new(Line(connect()), buffer), &one("a dog"));
    // Silent ones make room.
    let mut silent: Vec<UnixStream> = (0..3).map(|_| connect()).collect();
    silent[0].write_all(b"\x05half a frame").unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&mut buffer), Ok(right));
    }
    // Slow ones ask for much and take nothing: they end, and before that others are answered.
    let mut slow: Vec<UnixStream> = (0..2).map(|_| connect()).collect();
    for stream in &mut slow {
        let mut client = Client::new(Line(&*stream), &mut []);
        client.ask(&Request::Encode(much())).unwrap();
        // As long as its request is not read it is one of the silent.
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    let start = Instant::now();
    assert_eq!(ask(&mut buffer), Ok(right));
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    for stream in &mut slow {
        let said = served.says.recv_timeout(PATIENCE).unwrap();
        assert!(said.ends_with("a client took nothing of its answer for 1 s: ended"), "{said}");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < MUCH, "its answers did not end: {}", rest.len());
    }
    // Who goes in the middle of a request or of its answer.
    for bytes in [&b"\0\x09half"[..], b""] {
        let stream = connect();
        (&stream).write_all(bytes).unwrap();
        let mut client = Client::new(Line(&stream), &mut []);
        client.ask(&Request::Encode(one("a dog"))).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        assert_eq!(ask(&mut buffer), Ok(right));
    }
    drop((slow, silent));
    assert_eq!(served.end(), Some(0));
    assert!(!std::fs::exists(&socket).unwrap());
}

#[test]
fn clients_at_work_are_let_be_and_another_is_told_to_come_back() {
    let folder = Folder::new("serve-busy");
    let socket = folder.path("s");
    let mut served = Served::start(&["--unix", &socket, "--clients", "2", "--timeout", "600"]);
    let mut slow: Vec<UnixStream> = (0..2).map(|_| connect(&socket)).collect();
    for stream in &mut slow {
        let mut client = Client::new(Line(&*stream), &mut []);
        client.ask(&Request::Encode(much())).unwrap();
    }
    // Once it has begun to answer, neither is idle.
    slow.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 100]).unwrap());
    for _ in 0..3 {
        let mut buffer = [0; 64];
        let mut client = Client::new(Line(connect(&socket)), &mut buffer);
        assert!(matches!(client.answer(), Ok(Answer::Problem(Problem::Busy))));
    }
    // What takes its answer too slowly is not waited for for ever.
    let start = Instant::now();
    assert_eq!(served.end(), Some(0));
    assert!(start.elapsed() < PATIENCE && !std::fs::exists(&socket).unwrap());
}

/// A serial line: two pseudo terminals, joined.
#[test]
fn a_serial_line_is_one_too() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let folder = Folder::new("serve-uart");
    let terminal = || {
        let port = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&port).unwrap();
        unlockpt(&port).unwrap();
        let name = ptsname(&port, Vec::new()).unwrap().into_string().unwrap();
        (std::fs::File::from(port), name)
    };
    let ((here, here_name), (there, there_name)) = (terminal(), terminal());
    let mut served = Served::start(&["--uart", &here_name, "--baud", "115200"]);
    assert!(served.said.contains(&format!("{here_name} at 115200 baud")), "{}", served.said);
    // Held open, so that neither ends when a program closes it.
    let _held = std::fs::File::options().read(true).write(true).open(&there_name).unwrap();
    for (from, to) in [(&here, &there), (&there, &here)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || io::copy(&mut from, &mut to));
    }
    let client = |args: &[&str]| ok(&[&["client", "--uart", &there_name, "--timeout", "20"], args].concat());
    (&there).write_all(b"U-Boot 2024.01\r\n").unwrap_or(());
    assert!(client(&["hello"]).contains("server      cliptext"));
    let output = folder.path("x.f32");
    client(&["encode", "a running dog", "-o", &output]);
    assert_eq!(crc32c(&std::fs::read(&output).unwrap()), expected(&folder, "a running dog", &[]));
    assert_eq!(served.end(), Some(0));
    let error = fails(&["client", "--uart", &there_name, "--timeout", "1", "hello"], 1);
    assert!(error.contains("no answer: is it this port"), "{error}");
}

/// The client in Python gets the same, where Python is.
#[test]
fn python_asks_with_its_standard_library() {
    let python = std::env::var("CLIPTEXT_PYTHON").unwrap_or_else(|_| "python3".into());
    if Command::new(&python).arg("--version").output().is_err() {
        eprintln!("not tested: no Python");
        return;
    }
    let folder = Folder::new("serve-python");
    let socket = folder.path("s");
    let _served = Served::start(&["--unix", &socket]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/client/cliptext_client.py");
    let client = |args: &[&str]| {
        let asked =
            Command::new(&python).args(["-B", script, "--unix", &socket]).args(args).output().unwrap();
        assert!(asked.status.success(), "{args:?}: {}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    };
    let (here, there) = (folder.path("here.f32"), folder.path("there.f32"));
    for args in [&["a running dog"][..], &["a", "b", "é"], &["a photo of a cat", "--no-pad"]] {
        client(&[&["encode", "-o", &there][..], args].concat());
        ok(&[&["encode", ONE_TOWER, "-o", &here][..], args].concat());
        assert!(std::fs::read(&here).unwrap() == std::fs::read(&there).unwrap(), "{args:?}");
    }
    let own =
        |args: &[&str]| ok(&[&["client", "--unix", &socket, "encode", "a running dog", "-o"], args].concat());
    for numbers in ["f16", "int8"] {
        client(&["encode", "a running dog", "--numbers", numbers, "-o", &there]);
        own(&[&here, "--numbers", numbers]);
        let read = |path: &str| {
            let bytes = std::fs::read(path).unwrap();
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>()
        };
        let (here, there) = (read(&here), read(&there));
        // Python multiplies in double precision and rounds once more.
        assert!(
            here.len() == there.len()
                && here.iter().zip(&there).all(|(here, there)| (here - there).abs() < 1e-6)
        );
    }
    assert_eq!(
        client(&["tokenize", "a running dog"]),
        ok(&["tokenize", "--no-pad", ONE_TOWER, "a running dog"])
    );
    let hash = ok(&["inspect", ONE_TOWER]);
    let hash = hash.lines().find(|line| line.starts_with("hash")).unwrap().split_whitespace().nth(1).unwrap();
    assert!(client(&["hello"]).contains(hash));
    assert!(client(&["statistics"]).contains("answered"));
}

/// Requests from 8 clients, of which 1 % are broken: all others are answered right, and the server's memory stays. `CLIPTEXT_REQUESTS`
/// sets how many.
#[test]
fn many_requests_and_broken_ones() {
    let total: usize = std::env::var("CLIPTEXT_REQUESTS").map_or(4000, |count| count.parse().unwrap());
    let folder = Folder::new("serve-load");
    let socket = folder.path("s");
    let mut served = Served::start(&["--unix", &socket]);
    let prompts = ["", "a running dog", "Watercolor painting: a fox, in the forest!!", "a photo of a cat"];
    let right = prompts.map(|prompt| expected(&folder, prompt, &[]));
    let unpadded = prompts.map(|prompt| expected(&folder, prompt, &["--no-pad"]));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let load = |requests: usize| {
        std::thread::scope(|scope| {
            let client = |seed: u64| {
                let mut random = seed;
                let mut below = move |limit: usize| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (random >> 33) as usize % limit
                };
                let stream = connect(&socket);
                let mut buffer = vec![0; 1000];
                let mut client = Client::new(Line(stream), &mut buffer);
                let mut broken = 0;
                for _ in 0..requests / 8 {
                    if below(100) == 0 {
                        broken += 1;
                        let mut bytes = Vec::new();
                        Client::new(Line(io::Cursor::new(&mut bytes)), &mut [])
                            .ask(&Request::Encode(one("a dog")))
                            .unwrap();
                        match below(3) {
                            0 => bytes = (0..below(300) + 20).map(|_| 1 + below(255) as u8).collect(),
                            1 => bytes.truncate(9 + below(bytes.len() - 10)),
                            _ => {
                                let at = 1 + below(bytes.len() - 2);
                                bytes[at] ^= if bytes[at] == 1 { 2 } else { 1 };
                            }
                        }
                        bytes.push(0);
                        client.line().0.write_all(&bytes).unwrap();
                        assert!(
                            matches!(client.answer(), Ok(Answer::Problem(Problem::Damaged))),
                            "{bytes:?}"
                        );
                        continue;
                    }
                    let which = below(prompts.len());
                    let is_unpadded = below(2) == 0;
                    let asked =
                        Encode { unpadded: is_unpadded, numbers: Numbers::F32, ..one(prompts[which]) };
                    let hashes = if is_unpadded { &unpadded } else { &right };
                    assert_eq!(hidden(&mut client, &asked), Ok(hashes[which]));
                }
                broken
            };
            let clients: Vec<_> = (0..8).map(|seed| scope.spawn(move || client(seed * 77 + 5))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
        })
    };
    load(total / 10);
    let before = resident();
    let start = Instant::now();
    let broken = load(total);
    let (elapsed, after) = (start.elapsed(), resident());
    println!(
        "{total} requests, {broken} of them broken, in {:.1} s: {:.0} a second; resident before {before} KiB, after {after} KiB",
        elapsed.as_secs_f64(),
        total as f64 / elapsed.as_secs_f64()
    );
    assert!(broken > 0 && after < before + 1024, "{broken} broken; {before} KiB, {after} KiB");
    assert_eq!(served.end(), Some(0));
}
