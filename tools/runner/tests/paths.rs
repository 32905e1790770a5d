//! What the board program takes for a plan's path, and where its outputs go: files, links, pipes, devices.
#![cfg(unix)]

mod common;

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Folder, ONE_TOWER, fails, npy, ok, run};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext-run"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pipe(folder: &Folder, name: &str) -> String {
    let path = folder.path(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn what_looks_like_a_path_is_no_prompt() {
    let folder = Folder::new("looks");
    std::fs::copy(ONE_TOWER, folder.path("sd15.plan")).unwrap();
    let inside = folder.path("");
    let missing = folder.path("other.plan");
    for (argument, said) in [
        ("sd15.plam", "no such file (is sd15.plan meant?)"),
        ("sd15", "no such file (is sd15.plan meant?)"),
        ("models/sd15", "no such file"),
        ("x.onnx", "no such file"),
        (missing.as_str(), "no such file"),
        (inside.as_str(), "a folder, not a plan"),
    ] {
        for command in ["encode", "tokenize"] {
            let output = program(&[command, argument, "a dog"]).current_dir(&inside).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{argument}: {error}");
            assert!(output.stdout.is_empty());
            assert!(error.contains(&format!("{argument}: {said}")) && error.contains("--prompt"), "{error}");
        }
    }
    for command in ["inspect", "bench"] {
        assert!(fails(&[command, &inside], 1).contains("a folder, not a plan"));
        assert!(fails(&[command, &missing], 1).contains("other.plan"));
    }
    let second = run(&["tokenize", ONE_TOWER, &folder.path("sd15.plan")]);
    assert!(String::from_utf8(second.stderr).unwrap().contains("taken as a prompt: the plan comes first"));
    // A prompt that looks so is given as one.
    let ids = ok(&["tokenize", ONE_TOWER, "--", "sd15.plam", "-dog"]);
    assert_eq!(ok(&["tokenize", "--prompt", "sd15.plam", "--prompt", "-dog"]), ids);
    assert_eq!(ok(&["tokenize", ONE_TOWER, "sd15.plam", "--prompt", "-dog"]), ids);
}

#[test]
fn a_plan_comes_through_a_pipe() {
    let folder = Folder::new("piped-plan");
    let plan = pipe(&folder, "plan");
    for command in [&["tokenize", &plan, "a dog"][..], &["encode", &plan, "a dog"], &["inspect", &plan]] {
        let writer = std::thread::spawn({
            let plan = plan.clone();
            move || std::fs::write(plan, std::fs::read(ONE_TOWER).unwrap()).unwrap()
        });
        let through = ok(command);
        writer.join().unwrap();
        let direct: Vec<&str> =
            command.iter().map(|&word| if word == plan { ONE_TOWER } else { word }).collect();
        assert_eq!(through, ok(&direct));
    }
    let refused = fails(&["bench", &plan], 2);
    assert!(refused.contains("give a file"), "{refused}");
}

#[test]
fn arrays_go_into_pipes_devices_and_links() {
    let folder = Folder::new("sinks");
    let (file, fifo) = (folder.path("file.npy"), pipe(&folder, "fifo"));
    ok(&["encode", ONE_TOWER, "a dog", "-o", &file]);
    let want = std::fs::read(&file).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::read(fifo).unwrap()
    });
    ok(&["encode", ONE_TOWER, "a dog", "-o", &fifo]);
    assert!(reader.join().unwrap() == want);
    let stdout = run(&["encode", ONE_TOWER, "a dog", "-o", "/dev/stdout"]);
    assert!(stdout.status.success() && stdout.stdout == want);
    let pooled = folder.path("pooled.npy");
    ok(&["encode", ONE_TOWER, "a dog", "-o", "/dev/null", "--pooled", &pooled]);
    let alone = run(&["encode", ONE_TOWER, "a dog", "--pooled", "/dev/stdout"]);
    assert!(alone.stdout == std::fs::read(&pooled).unwrap(), "no summary between the bytes");

    std::fs::write(folder.path("old.npy"), b"old").unwrap();
    symlink("old.npy", folder.path("link.npy")).unwrap();
    ok(&["encode", ONE_TOWER, "a dog", "-o", &folder.path("link.npy")]);
    assert!(std::fs::symlink_metadata(folder.path("link.npy")).unwrap().is_symlink());
    assert!(std::fs::read(folder.path("old.npy")).unwrap() == want);
    assert!(!folder.names().iter().any(|name| name.ends_with(".tmp")), "{:?}", folder.names());
}

#[test]
fn a_file_that_standard_output_is_appended_to_is_appended_to() {
    let folder = Folder::new("append");
    let path = folder.write("both.npy", b"before");
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    let status = program(&["encode", ONE_TOWER, "a dog", "-o", "/dev/stdout"]).stdout(file).status().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(status.success() && bytes.starts_with(b"before\x93NUMPY") && bytes.len() > 77 * 32 * 4);
}

#[test]
fn a_reader_that_stops_reading_ends_the_program_and_only_what_is_not_written_is_told() {
    let folder = Folder::new("closed");
    let pooled = folder.path("pooled.npy");
    for (args, unwritten) in [
        (&["inspect", ONE_TOWER][..], ""),
        (&["tokenize", ONE_TOWER, "a cat"], ""),
        (&["bench", ONE_TOWER, "--only-warm", "--runs", "1"], ""),
        (&["encode", ONE_TOWER, "a cat"], ""),
        (&["encode", ONE_TOWER, "a cat", "--pooled", &pooled], "pooled.npy is not written"),
        (
            &["encode", ONE_TOWER, "a cat", "-o", "/dev/stdout", "--pooled", &pooled],
            "pooled.npy is not written",
        ),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program(args).stdout(writer).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(unwritten) && error.is_empty() == unwritten.is_empty(), "{args:?}: {error}");
        let is_said = error.contains("closed") || error.contains("Broken pipe");
        assert!(is_said || unwritten.is_empty(), "{args:?}: {error}");
        assert_eq!(folder.names(), [""; 0], "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_neither_file() {
    let folder = Folder::new("full");
    let error = fails(&["encode", ONE_TOWER, "a", "-o", &folder.path("x.npy"), "--pooled", "/dev/full"], 1);
    assert!(error.contains("/dev/full") && error.contains("x.npy is not written"), "{error}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn whoever_is_ended_by_a_signal_leaves_nothing() {
    let folder = Folder::new("signal");
    let (output, fifo) = (folder.path("x.npy"), pipe(&folder, "fifo"));
    for signal in ["TERM", "INT", "HUP"] {
        // The second output waits for somebody who reads the pipe.
        let mut child =
            program(&["encode", ONE_TOWER, "a dog", "-o", &output, "--pooled", &fifo]).spawn().unwrap();
        let left = || folder.names().iter().any(|name| name.ends_with(".tmp"));
        while !left() {
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "the signal ended it: {status}");
        assert!(!left() && !Path::new(&output).exists());
    }
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    let folder = Folder::new("ignored");
    let (output, fifo) = (folder.path("x.npy"), pipe(&folder, "fifo"));
    let program = env!("CARGO_BIN_EXE_cliptext-run");
    let script = "trap '' INT; exec \"$0\" encode \"$1\" 'a dog' -o \"$2\" --pooled \"$3\"";
    let mut child =
        Command::new("sh").args(["-c", script, program, ONE_TOWER, &output, &fifo]).spawn().unwrap();
    while !folder.names().iter().any(|name| name.ends_with(".tmp")) {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let mut pooled = Vec::new();
    std::fs::File::open(&fifo).unwrap().read_to_end(&mut pooled).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(pooled.starts_with(b"\x93NUMPY") && npy(&output).0 == [1, 77, 32]);
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    for (args, code) in [(&["encode", "a dog"][..], 0), (&["encode", "nowhere.plan"], 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = program(args).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}
