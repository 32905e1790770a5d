//! What becomes of outputs, answers and messages where the system fails: killed, a file that may grow no more, fewer CPUs, a plan that is
//! replaced. `.ci/faults` has what takes a superuser or many repeats.
#![cfg(target_os = "linux")]

mod common;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use common::{BUILT_IN, Folder, ONE_TOWER, ok};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext-run"));
    command.args(args);
    command
}

/// Runs behind shell commands that set limits.
fn behind(limits: &str, args: &[&str]) -> Output {
    let script = format!("{limits} exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_cliptext-run")]).args(args).output().unwrap()
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(".cliptext-") && name.ends_with(".tmp")
}

/// How often the program is killed: `.ci/faults` says more.
fn kills() -> u32 {
    std::env::var("CLIPTEXT_KILLS").ok().map_or(12, |number| number.parse().unwrap())
}

#[test]
fn killed_at_any_moment_an_output_is_the_old_one_or_the_new_one() {
    let folder = Folder::new("killed");
    let lines = "a cat\n".repeat(1000);
    let prompts = folder.write("prompts.txt", lines.as_bytes());
    let output = folder.path("x.f32");
    let args = ["encode", ONE_TOWER, "--prompts", &prompts, "-o", &output, "--threads", "1"];
    let start = std::time::Instant::now();
    ok(&args);
    let whole = start.elapsed();
    let new = std::fs::read(&output).unwrap();
    let (mut killed, mut left) = (0, 0);
    for turn in 0..kills() {
        std::fs::write(&output, b"old").unwrap();
        let mut child = program(&args).stderr(Stdio::null()).spawn().unwrap();
        // From before the first byte to behind the last.
        std::thread::sleep(whole * (turn * 7 % kills()) / kills() * 11 / 10);
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let found = std::fs::read(&output).unwrap();
        assert!(found == b"old" && !ended.success() || found == new, "turn {turn}: {} bytes", found.len());
        killed += u32::from(!ended.success());
        let names = folder.names();
        left = names.iter().filter(|name| is_temporary(name)).count();
        assert!(left as u32 <= killed, "{names:?}");
    }
    assert!(killed > 0 && left > 0, "nothing was killed while it wrote: {killed}, {left}");
    // What is left goes with the next output, once it is old enough to belong to nobody.
    let old = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    for name in folder.names().iter().filter(|name| is_temporary(name)) {
        std::fs::File::open(folder.path(name)).unwrap().set_modified(old).unwrap();
    }
    ok(&args);
    let mut names = folder.names();
    names.sort();
    assert_eq!(names, ["prompts.txt", "x.f32"]);
    assert!(std::fs::read(&output).unwrap() == new);
}

#[test]
fn a_file_that_may_not_grow_is_told_and_leaves_the_old_one() {
    let folder = Folder::new("grow");
    for (name, options) in [
        ("x.npy", &["encode", ONE_TOWER, "a cat", "a dog", "-o"][..]),
        ("x.safetensors", &["encode", ONE_TOWER, "a cat", "a dog", "-o"]),
        ("x.json", &["encode", ONE_TOWER, "a cat", "a dog", "-o"]),
        ("x.f16", &["encode", ONE_TOWER, "a cat", "a dog", "-o"]),
        ("x.pack", &["pack", ONE_TOWER, "--prompts", &folder.write("prompts.txt", b"a cat\na dog\n"), "-o"]),
    ] {
        let output = folder.path(name);
        let args = [options, &[&output]].concat();
        ok(&args);
        let whole = std::fs::read(&output).unwrap();
        let mut failed = 0;
        // In blocks of 512 bytes, until there is room.
        for blocks in (0..).step_by(7) {
            std::fs::write(&output, b"old").unwrap();
            let done = behind(&format!("ulimit -f {blocks};"), &args);
            let said = String::from_utf8(done.stderr).unwrap();
            if done.status.success() {
                assert!(std::fs::read(&output).unwrap() == whole, "{name}: {blocks}");
                break;
            }
            failed += 1;
            assert_eq!(done.status.code(), Some(1), "{name}, {blocks} blocks: {said} {}", done.status);
            assert!(said.contains("File too large") && said.contains(name), "{name}: {said}");
            assert_eq!(std::fs::read(&output).unwrap(), b"old", "{name}: {blocks}");
            assert!(!folder.names().iter().any(|name| is_temporary(name)), "{name}: {:?}", folder.names());
        }
        assert!(failed > 1, "{name}");
    }
}

#[test]
fn threads_follow_the_cpus_that_the_process_may_use() {
    let taskset = |cpus: &str| {
        let args = ["bench", ONE_TOWER, "--only-warm", "--runs", "1", "--json"];
        let mut command = Command::new("taskset");
        command.args(["-c", cpus, env!("CARGO_BIN_EXE_cliptext-run")]).args(args).output()
    };
    let Ok(one) = taskset("0") else {
        println!("no taskset here: not tried");
        return;
    };
    let most = |output: Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        told.iter().map(|told| told["threads"].as_u64().unwrap()).max().unwrap()
    };
    assert_eq!(most(one), 1);
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert!(most(taskset("0-1023").unwrap()) > 1, "bench asks for no more than it has");
    }
    // More threads than CPUs: the same bytes.
    let folder = Folder::new("cpus");
    let outputs = ["1", "7"].map(|threads| {
        let output = folder.path(&format!("{threads}.f32"));
        let args = ["encode", ONE_TOWER, "a cat", "-o", &output, "--threads", threads];
        let mut command = Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_cliptext-run")]).args(args);
        assert!(command.status().unwrap().success());
        std::fs::read(output).unwrap()
    });
    assert!(outputs[0] == outputs[1]);
}

#[test]
fn a_stack_of_64_kib_is_enough() {
    let folder = Folder::new("stack");
    let output = folder.path("x.npy");
    let limit = if cfg!(debug_assertions) { 1024 } else { 64 };
    let done = behind(
        &format!("ulimit -s {limit};"),
        &["encode", BUILT_IN, "a (cat:1.2)", "--weights", "a1111", "-o", &output],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_reader_of_lines_that_has_enough_hears_nothing_more() {
    let folder = Folder::new("enough");
    let prompts = folder.write("prompts.txt", "a cat\n".repeat(50_000).as_bytes());
    let script = format!(
        "'{}' tokenize '{ONE_TOWER}' --prompts '{prompts}'; echo $? >&2",
        env!("CARGO_BIN_EXE_cliptext-run")
    );
    let piped = format!("{{ {script}; }} | head -1");
    let done = Command::new("sh").args(["-c", &piped]).output().unwrap();
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "1\n");
    assert_eq!(String::from_utf8(done.stdout).unwrap().lines().count(), 1);
}
