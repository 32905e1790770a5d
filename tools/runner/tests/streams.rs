//! Prompts that come through pipes, embeddings that go into them, and what a terminal shows.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

use common::{Folder, ONE_TOWER, fails, fixture, npy, ok, run};
use serde_json::Value;

/// Bytes of a prompt's hidden states by the demonstration plan.
const EACH: usize = 77 * 32 * 4;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext-run"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs with `input` on standard input.
fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut child = program(args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A child that ends early does not read all.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Standard output of a run that succeeds without a word on standard error.
fn quiet(args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = piped(args, input);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_dash_is_standard_output() {
    let folder = Folder::new("dash");
    let plan = fixture("two-towers.plan");
    for (name, format) in
        [("x.npy", &[][..]), ("x.f32", &["--format", "f32"]), ("x.json", &["--format", "json"])]
    {
        let file = folder.path(name);
        ok(&["encode", &plan, "a cat", "-o", &file]);
        let args = ["encode", &plan, "a cat", "-o", "-"];
        assert!(quiet(&[&args[..], format].concat(), b"") == std::fs::read(file).unwrap(), "{name}");
    }
    let file = folder.path("x.safetensors");
    ok(&["encode", &plan, "a cat", "-o", &file, "--dtype", "f16"]);
    let args = ["encode", &plan, "a cat", "-o", "-", "--format", "safetensors", "--dtype", "f16"];
    assert!(quiet(&args, b"") == std::fs::read(file).unwrap());
    // The pooled output alone, and nothing between its bytes.
    let pooled = folder.path("p.npy");
    ok(&["encode", &plan, "a cat", "--pooled", &pooled]);
    assert!(quiet(&["encode", &plan, "a cat", "--pooled", "-"], b"") == std::fs::read(pooled).unwrap());
    // A file of that name is `./-`.
    let status = program(&["encode", &plan, "a cat", "-o", "./-", "--format", "npy"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert!(status.status.success() && folder.names().contains(&"-".to_owned()));
}

#[test]
fn a_dash_is_standard_input() {
    let folder = Folder::new("stdin");
    let want = ok(&["tokenize", ONE_TOWER, "a cat", "", "ein Hündchen"]);
    let lines = "a cat\n\nein Hündchen\n".as_bytes();
    let array = "[\"a cat\", \"\", \"ein Hündchen\"]".as_bytes();
    let windows = "\u{feff}a cat\r\n\r\nein Hündchen".as_bytes();
    for input in [lines, array, windows] {
        assert_eq!(quiet(&["tokenize", ONE_TOWER, "--prompts", "-"], input), want.as_bytes());
    }
    // Those of the command line come first.
    let more = ok(&["tokenize", ONE_TOWER, "x", "a cat", "", "ein Hündchen"]);
    assert_eq!(quiet(&["tokenize", ONE_TOWER, "x", "--prompts", "-"], lines), more.as_bytes());
    let file = folder.path("x.npy");
    ok(&["encode", ONE_TOWER, "a cat", "", "ein Hündchen", "-o", &file]);
    let want = std::fs::read(&file).unwrap();
    for input in [lines, array] {
        // The header counts the prompts and stands first: written over in a file, kept waiting before a pipe.
        assert!(quiet(&["encode", ONE_TOWER, "--prompts", "-", "-o", "-"], input) == want);
        quiet(&["encode", ONE_TOWER, "--prompts", "-", "-o", &file], input);
        assert!(std::fs::read(&file).unwrap() == want);
    }
    let counted = folder.write("lines.txt", lines);
    assert!(quiet(&["encode", ONE_TOWER, "--prompts", &counted, "-o", "-"], b"") == want);
    let images = folder.write("images.npy", &{
        let mut bytes =
            b"\x93NUMPY\x01\x00\x3e\x00{'descr': '<f4', 'fortran_order': False, 'shape': (20,), }".to_vec();
        bytes.resize(72, b' ');
        bytes.extend((0..20u8).flat_map(|value| f32::from(value).to_le_bytes()));
        bytes
    });
    let plan = fixture("two-towers.plan");
    let want = ok(&["similarity", &plan, "a", "b", "--images", &images, "--json"]);
    assert_eq!(
        quiet(&["similarity", &plan, "--prompts", "-", "--images", &images, "--json"], b"a\nb\n"),
        want.as_bytes()
    );
}

#[test]
fn a_program_that_is_kept_running_answers_each_line_at_once() {
    let folder = Folder::new("kept");
    let file = folder.path("x.f32");
    ok(&["encode", ONE_TOWER, "a cat", "a dog", "-o", &file]);
    let want = std::fs::read(&file).unwrap();
    let mut child =
        program(&["encode", ONE_TOWER, "--prompts", "-", "-o", "-", "--format", "f32"]).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for (prompt, want) in ["a cat\n", "a dog\n"].into_iter().zip(want.chunks(EACH)) {
        stdin.write_all(prompt.as_bytes()).unwrap();
        let mut bytes = vec![0; EACH];
        stdout.read_exact(&mut bytes).unwrap();
        assert!(bytes == want);
    }
    drop(stdin);
    assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
    assert!(child.wait().unwrap().success());
    let mut child = program(&["tokenize", ONE_TOWER, "--prompts", "-", "--no-pad"]).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    for (prompt, want) in [("a cat\n", "49406 320 2368 49407"), ("a\n", "49406 320 49407")] {
        stdin.write_all(prompt.as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), want);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// A hundred megabytes of prompts pass through a few of memory.
#[cfg(target_os = "linux")]
#[test]
fn prompts_are_not_held() {
    let line = "a cat sat on the mat ".repeat(50) + "\n";
    let count = 100_000_000 / line.len();
    let mut child = program(&["tokenize", ONE_TOWER, "--prompts", "-", "--no-pad"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let writer = std::thread::spawn(move || {
        for _ in 0..count {
            stdin.write_all(line.as_bytes()).unwrap();
        }
        stdin
    });
    let mut answer = String::new();
    for _ in 0..count {
        answer.clear();
        stdout.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("49406 320 2368 "));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    // The program and its plan's pages are in it.
    assert!(kilobytes < 20_000, "{kilobytes} kB at the most");
    drop(writer.join().unwrap());
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_array_that_is_too_large_to_wait_in_memory_says_so() {
    let count = (16 << 20) / EACH + 2;
    let input = "a cat\n".repeat(count);
    let output =
        piped(&["encode", ONE_TOWER, "--prompts", "-", "-o", "-", "--threads", "1"], input.as_bytes());
    assert!(output.status.success());
    let said = said(&output);
    assert!(said.contains("standard output: how many prompts will come is not known"), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert_eq!(output.stdout.len(), 128 + count * EACH);
    assert!(
        output.stdout[..128].windows(20).any(|at| at.starts_with(format!("({count}, 77, 32,)").as_bytes()))
    );
}

#[test]
fn what_is_wrong_in_a_pipe_is_told_where_it_stands() {
    let folder = Folder::new("wrong");
    let each = folder.path("{n}.npy");
    let output = piped(&["encode", ONE_TOWER, "--prompts", "-", "-o", &each], b"a\nb\n\xff\nd\n");
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(
        told.contains("standard input: not UTF-8 from byte 4 (line 3)")
            && told.contains(&format!("; of {each} 2 are written")),
        "{told}"
    );
    assert_eq!(npy(&folder.path("1.npy")).0, [1, 77, 32]);
    assert_eq!(folder.names().len(), 2);
    // A file is read through before anything is begun.
    let lines = folder.write("lines.txt", b"a\nb\n\xff\nd\n");
    let told = fails(&["encode", ONE_TOWER, "--prompts", &lines, "-o", &folder.path("late{n}.npy")], 1);
    assert!(
        told.contains("lines.txt: not UTF-8 from byte 4 (line 3)") && !told.contains("are written"),
        "{told}"
    );
    assert_eq!(folder.names().len(), 3);
    for (input, said) in [
        (&b""[..], "standard input: holds no prompt"),
        (b"[]", "standard input: holds no prompt"),
        (b"[\"a\", 3]", "standard input: not a JSON array of strings"),
        (b"a\0", "standard input: a NUL at byte 1 (line 1)"),
    ] {
        for command in [&["tokenize", ONE_TOWER][..], &["encode", ONE_TOWER, "-o", "-"]] {
            let output = piped(&[command, &["--prompts", "-"]].concat(), input);
            let told = self::said(&output);
            assert!(output.status.code() == Some(1) && told.contains(said), "{told}");
            assert!(output.stdout.is_empty(), "{command:?}");
        }
    }
    // Lengths that do not fit one array are found as they come.
    let path = folder.path("x.npy");
    let output = piped(&["encode", ONE_TOWER, "--prompts", "-", "-o", &path, "--no-pad"], b"a\na b\n");
    let told = said(&output);
    assert!(told.contains("prompts of 3 and of 4 tokens don't fit one array"), "{told}");
    assert!(told.contains("x.npy is not written") && output.status.code() == Some(1));
    assert!(!folder.names().contains(&"x.npy".to_owned()));
}

/// Runs in a terminal, whose output is given; `None` where the system has no `script`.
#[cfg(target_os = "linux")]
fn in_terminal(command: &str, input: Stdio) -> Option<(i32, String)> {
    let script = Command::new("script").args(["-qefc", command, "/dev/null"]).stdin(input).output();
    match script {
        Ok(output) => Some((output.status.code()?, String::from_utf8_lossy(&output.stdout).into_owned())),
        Err(_) => {
            eprintln!("skipped: no `script` (package bsdutils)");
            None
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_sees_progress_and_no_arrays() {
    let folder = Folder::new("terminal");
    let program = env!("CARGO_BIN_EXE_cliptext-run");
    let prompts = folder.write("prompts.txt", "a cat\n".repeat(5000).as_bytes());
    let output = folder.path("x.npy");
    let command = format!("'{program}' encode '{ONE_TOWER}' --prompts '{prompts}' -o '{output}' --threads 1");
    let Some((code, shown)) = in_terminal(&command, Stdio::null()) else { return };
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(" of 5000 prompts, ") && shown.contains(" a second, 0:0"), "{shown:?}");
    // The line is written over, and cleared in the end.
    assert!(!shown.contains('\n') && shown.ends_with("\r\x1b[K\r"), "{shown:?}");
    assert_eq!(npy(&output).0[0], 5000);
    // The same into a file says nothing.
    let quiet = run(&["encode", ONE_TOWER, "--prompts", &prompts, "-o", &output, "--threads", "1"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty());
    let (code, shown) =
        in_terminal(&format!("'{program}' encode '{ONE_TOWER}' x -o -"), Stdio::null()).unwrap();
    assert!(code == 2 && shown.contains("standard output: it is a terminal: name a file"), "{shown:?}");
    let json = format!("'{program}' encode '{ONE_TOWER}' x -o - --format json");
    let (code, shown) = in_terminal(&json, Stdio::null()).unwrap();
    let told: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &told["embeddings"][0]["prompt"]), (0, &"x".into()));
}
