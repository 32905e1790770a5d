//! The largest that is taken, what it costs, and what becomes of more: time in proportion to the size, memory that is bounded, or a refusal
//! that says so. Where time counts a run has a minute, in which a quadratic would take hours; the memory is the system's limit of the
//! process' addresses. What takes longer is run by `cargo test --release --test limits -- --ignored`.
#![cfg(target_os = "linux")]

mod common;

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{BUILT_IN, Folder, ONE_TOWER, npy};

/// What a run may take.
const TIME: Duration = Duration::from_secs(60);

/// Runs with so many KiB of addresses at the most: what the program takes, its libraries and its threads' stacks are in them.
fn within(kib: usize, args: &[&str]) -> Output {
    let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_cliptext-run")])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fn all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }
    let (stdout, stderr) = (all(child.stdout.take().unwrap()), all(child.stderr.take().unwrap()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() < TIME => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                panic!("{args:?} takes more than {TIME:?}");
            }
        }
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// Standard output of a run that succeeds with so many KiB.
fn ok_within(kib: usize, args: &[&str]) -> String {
    let output = within(kib, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that ends with 1.
fn fails_within(kib: usize, args: &[&str]) -> String {
    let output = within(kib, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
    error
}

/// Texts of `bytes` bytes, of what tokenizers, markup and messages look for.
fn texts(bytes: usize) -> Vec<(&'static str, String)> {
    let kinds = [
        ("one word", "a"),
        ("spaces", " "),
        ("digits", "7"),
        ("words", "a cat "),
        ("emoji", "😀"),
        ("Han", "漢"),
        ("jamo", "\u{1112}\u{1161}\u{11ab}"),
        ("marks out of order", "\u{0315}\u{0300}\u{05ae}\u{0327}"),
        ("open", "("),
        ("square", "["),
        ("pairs", "()"),
        ("colons", ":"),
        ("colons closed", ":)"),
        ("weights open", "(a:1.3"),
        ("weights", "(a:1.3) "),
        ("alternatives open", "[a|b:"),
        ("commas", ","),
        ("breaks", "BREAK "),
        ("backslashes", "\\"),
        ("apostrophes", "'"),
        ("control words", "<|startoftext|>"),
        ("entities", "&amp;"),
        ("halves of words", "<|"),
    ];
    let repeated = kinds.map(|(kind, part)| (kind, part.repeat(bytes / part.len())));
    let nested = format!("{}a{}", "(".repeat(bytes / 2), ")".repeat(bytes / 2));
    repeated.into_iter().chain([("nested", nested)]).collect()
}

/// Runs each kind of text of so many bytes as tokens, with both kinds of markup and as an embedding, within so many KiB.
fn long_texts(bytes: usize, kib: usize) {
    let folder = Folder::new("long");
    for (kind, text) in texts(bytes) {
        let file = folder.write("text.txt", text.as_bytes());
        let output = folder.path("x.npy");
        let reads = ["tokenize", ONE_TOWER, "--prompts", &file];
        let with = |program| [&reads[..], &["--weights", program]].concat();
        let encodes = ["encode", ONE_TOWER, "--prompts", &file, "-o", &output, "--threads", "1"];
        for args in [reads.to_vec(), with("a1111"), with("comfy"), encodes.to_vec()] {
            let start = Instant::now();
            let done = within(kib, &args);
            let said = String::from_utf8(done.stderr).unwrap();
            // Markup has limits of its own, which are told: parts, weights that are no number.
            let is_refused = args.contains(&"--weights") && done.status.code() == Some(1) && !said.is_empty();
            assert!(done.status.success() || is_refused, "{kind}, {args:?}: {said}");
            assert!(said.len() < 1000, "{kind}: {said}");
            println!("{kind:20} {bytes} bytes  {} {:.2?}", args[0], start.elapsed());
        }
        assert_eq!(npy(&output).0, [1, 77, 32], "{kind}");
    }
}

#[test]
fn a_long_prompt_takes_linear_time_and_little_more_than_itself() {
    long_texts(1 << 20, 64 << 10);
}

#[test]
#[ignore = "takes minutes"]
fn a_very_long_prompt_takes_linear_time_and_little_more_than_itself() {
    long_texts(10 << 20, 96 << 10);
}

/// Runs what takes lists with so many short prompts.
fn long_lists(prompts: usize) {
    let folder = Folder::new("lists");
    let lines: String = (0..prompts).map(|number| format!("a cat {number}\n")).collect();
    let (file, json) = (folder.write("list.txt", lines.as_bytes()), folder.path("list.json"));
    std::fs::write(&json, serde_json::to_vec(&lines.lines().collect::<Vec<_>>()).unwrap()).unwrap();
    let (raw, pack, labels) = (folder.path("x.f32"), folder.path("x.pack"), folder.path("labels.npy"));
    let cat = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/pictures/cat.rgb");
    assert!(std::path::Path::new(cat).is_file());
    let run = |each: usize, args: &[&str]| {
        let start = Instant::now();
        // Lines are not held; what is has a few hundred bytes for each.
        let said = ok_within((64 << 10) + prompts * each / 1024, args);
        println!("{prompts} prompts  {:40} {:.2?}", args[..2].join(" "), start.elapsed());
        said
    };
    let ids = run(0, &["tokenize", ONE_TOWER, "--no-pad", "--prompts", &file]);
    assert_eq!(ids.lines().count(), prompts);
    drop(ids);
    run(400, &["tokenize", ONE_TOWER, "--no-pad", "--prompts", &json]);
    run(
        0,
        &[
            "encode",
            ONE_TOWER,
            "--prompts",
            &file,
            "--no-pad",
            "--format",
            "json",
            "-o",
            "/dev/null",
            "--threads",
            "1",
        ],
    );
    run(0, &["encode", ONE_TOWER, "--prompts", &file, "--pooled", &raw, "--threads", "1"]);
    // A name, a prompt and where they are; the pack that is read is mapped.
    run(1000, &["pack", ONE_TOWER, "--prompts", &file, "--no-pad", "-o", &pack, "--threads", "1"]);
    let size = std::fs::metadata(&pack).unwrap().len() as usize;
    run(size / prompts, &["inspect", &pack]);
    run(size / prompts, &["encode", &pack, "--prompts", &file, "--pooled", &raw]);
    run(400, &["encode", BUILT_IN, "--labels", &file, "-o", &labels, "--threads", "1"]);
    // The name that is meant is looked for in all.
    let error = fails_within((64 << 10) + size / 1024, &["encode", &pack, "a cat 1234x", "-o", &raw]);
    assert!(error.contains("meant?"), "{error}");
    let long = "a cat ".repeat(10_000);
    let error = fails_within((64 << 10) + size / 1024, &["encode", &pack, "--prompt", &long, "-o", &raw]);
    assert!(error.len() < 400 && error.contains("the pack has no \"a cat a cat"), "{error}");
}

#[test]
fn long_lists_take_linear_time_and_little_memory() {
    long_lists(10_000);
}

#[test]
#[ignore = "takes minutes"]
fn a_million_prompts_take_linear_time_and_little_memory() {
    long_lists(1_000_000);
}

#[test]
fn labels_in_templates_are_bounded() {
    let folder = Folder::new("templates");
    let many = folder.write("many.txt", "{}".repeat(1 << 19).as_bytes());
    let (short, long) =
        (folder.write("short.txt", b"cat"), folder.write("long.txt", "x".repeat(1 << 20).as_bytes()));
    let output = folder.path("x.npy");
    let run = |labels: &str| {
        let args =
            ["encode", BUILT_IN, "--labels", labels, "--templates", &many, "-o", &output, "--threads", "1"];
        within(64 << 10, &args)
    };
    assert!(run(&short).status.success());
    let refused = run(&long);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("many.txt: template 1 has 524288 places for the label"), "{error}");
}

#[test]
fn nested_json_is_refused() {
    let folder = Folder::new("json");
    for text in ["[".repeat(1 << 20), format!("[\"a\", {}", "[".repeat(1 << 20)), "{\"a\":".repeat(1 << 20)] {
        let file = folder.write("deep.json", text.as_bytes());
        let error = fails_within(64 << 10, &["tokenize", ONE_TOWER, "--prompts", &file]);
        assert!(error.contains("deep.json: not a JSON array of strings"), "{error}");
    }
}

#[test]
fn names_of_many_files_are_looked_through_in_linear_time() {
    let folder = Folder::new("names");
    for number in 0..20_000 {
        std::fs::write(folder.path(&format!("{number}.png")), b"").unwrap();
    }
    let error = fails_within(64 << 10, &["similarity", BUILT_IN, "a cat", "--images", &folder.path("")]);
    assert!(error.contains("0.png: no picture that can be read"), "{error}");
    let error = fails_within(64 << 10, &["encode", &folder.path("x.plam"), "a cat"]);
    assert!(error.contains("x.plam: no such file"), "{error}");
    ok_within(64 << 10, &["encode", ONE_TOWER, "a cat", "-o", &folder.path("x.npy"), "--threads", "1"]);
}

#[test]
fn little_memory_is_told_or_enough() {
    let folder = Folder::new("memory");
    let output = folder.path("x.npy");
    let mut worked = 0;
    for kib in (4 << 10..48 << 10).step_by(1 << 10) {
        let done = within(kib, &["encode", BUILT_IN, "a cat", "-o", &output, "--threads", "2"]);
        let said = String::from_utf8(done.stderr).unwrap();
        if done.status.success() {
            worked += 1;
        } else {
            // Below what the system needs to load the program it is the system that says it, or the shell.
            assert!(!said.contains("panicked"), "{kib} KiB: {said}");
            assert!(worked == 0, "{kib} KiB: less was enough: {said}");
            let is_told = ["allocate", "allocation", "Resource", "shared object"]
                .iter()
                .any(|word| said.contains(word));
            assert!(is_told || kib < 16 << 10, "{kib} KiB: {said}");
        }
    }
    assert!(worked > 0);
    assert_eq!(folder.names(), ["x.npy"]);
}
