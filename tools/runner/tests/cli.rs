//! The board program from outside: what it prints, what it writes, how it fails.

mod common;

use common::{BUILT_IN, Folder, ONE_TOWER, fails, fixture, npy, ok, run};

#[test]
fn tokenize_prints_a_line_of_ids_per_prompt() {
    assert_eq!(ok(&["tokenize", ONE_TOWER, "a running dog", "--no-pad"]), "49406 320 2761 1929 49407\n");
    let padded = ok(&["tokenize", "a running dog", "", "x"]);
    let lines: Vec<Vec<u32>> =
        padded.lines().map(|line| line.split(' ').map(|id| id.parse().unwrap()).collect()).collect();
    assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [77, 77, 77]);
    assert_eq!(&lines[0][..6], [49406, 320, 2761, 1929, 49407, 49407]);
    // What is cut off is told.
    let long = run(&["tokenize", ONE_TOWER, &"word ".repeat(100)]);
    assert!(String::from_utf8(long.stderr).unwrap().contains("cut to 77 tokens"));
}

#[test]
fn the_built_in_plan_says_so_and_is_the_file() {
    let folder = Folder::new("built-in");
    let (one, other) = (folder.path("one.npy"), folder.path("other.npy"));
    let built_in = run(&["encode", "a running dog", "-o", &one]);
    assert!(built_in.status.success());
    let said = String::from_utf8(built_in.stderr).unwrap();
    assert!(said.contains("built-in") && said.contains("\"a running dog\" names no file"), "{said}");
    let read = run(&["tokenize", "--read", "a running dog"]);
    assert!(String::from_utf8(read.stderr).unwrap().contains("--read has no effect"));
    let from_file = run(&["encode", BUILT_IN, "a running dog", "-o", &other]);
    assert!(from_file.status.success() && from_file.stderr.is_empty());
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
}

#[test]
fn arrays_have_the_shapes_that_are_promised() {
    let folder = Folder::new("shapes");
    let (hidden, pooled, raw) = (folder.path("h.npy"), folder.path("p.npy"), folder.path("h.f32"));
    ok(&["encode", ONE_TOWER, "a running dog", "cat", "-o", &hidden, "--pooled", &pooled]);
    let (shape, values) = npy(&hidden);
    assert_eq!((shape, values.len()), (vec![2, 77, 32], 2 * 77 * 32));
    assert_eq!(npy(&pooled).0, [2, 32]);
    ok(&["encode", ONE_TOWER, "a running dog", "cat", "-o", &raw]);
    let raw = std::fs::read(raw).unwrap();
    assert_eq!(raw, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    // Without padding: the prompt's own rows, the same as the first of the padded.
    let short = folder.path("short.npy");
    ok(&["encode", ONE_TOWER, "a running dog", "--no-pad", "-o", &short]);
    let (shape, rows) = npy(&short);
    assert_eq!(shape, [1, 5, 32]);
    assert_eq!(rows, values[..5 * 32]);
    assert_eq!(folder.names().len(), 4, "nothing temporary is left");
}

#[test]
fn every_kernel_writes_the_same_file() {
    let folder = Folder::new("kernels");
    let mut files = Vec::new();
    for kernel in cliptext::Kernels::available() {
        let path = folder.path(&format!("{}.npy", kernel.name()));
        ok(&["encode", ONE_TOWER, "a running dog", "--kernel", kernel.name(), "-o", &path]);
        files.push(std::fs::read(path).unwrap());
    }
    assert!(files.len() >= 2 && files.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn prompts_come_from_files() {
    let folder = Folder::new("prompts");
    let want = ok(&["tokenize", ONE_TOWER, "a cat", "", "\"quoted\", 東京", "--no-pad"]);
    let files = [
        folder.write("lines.txt", "a cat\n\n\"quoted\", 東京\n".as_bytes()),
        folder.write("windows.txt", "\u{feff}a cat\r\n\r\n\"quoted\", 東京\r\n".as_bytes()),
        folder.write("array.json", "[\"a cat\", \"\", \"\\\"quoted\\\", 東京\"]".as_bytes()),
        folder.write("array.txt", "[\"a cat\", \"\",\n \"\\\"quoted\\\", 東京\"]\n".as_bytes()),
    ];
    for file in &files {
        assert_eq!(ok(&["tokenize", ONE_TOWER, "--prompts", file, "--no-pad"]), want, "{file}");
    }
    // A line in brackets is a prompt, not JSON.
    let brackets = folder.write("brackets.txt", b"[a cat]\n");
    assert_eq!(ok(&["tokenize", ONE_TOWER, "--prompts", &brackets]), ok(&["tokenize", ONE_TOWER, "[a cat]"]));
}

#[test]
fn inspect_tells_what_is_in_a_plan() {
    let text = ok(&["inspect", ONE_TOWER]);
    let hash = cliptext::PlanHash::of_front(&std::fs::read(ONE_TOWER).unwrap()).unwrap().to_string();
    for part in ["2 layers", "width 32", "77 tokens", "arena", "vocabulary", "QuickGelu", &hash] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_plan_that_is_read_gives_what_a_mapped_one_gives() {
    let folder = Folder::new("read");
    let (mapped, read) = (folder.path("mapped.npy"), folder.path("read.npy"));
    ok(&["encode", ONE_TOWER, "a cat", "-o", &mapped]);
    ok(&["encode", "--read", ONE_TOWER, "a cat", "-o", &read]);
    assert!(std::fs::read(mapped).unwrap() == std::fs::read(read).unwrap());
    assert_eq!(ok(&["--read", "inspect", ONE_TOWER]), ok(&["inspect", ONE_TOWER]));
    assert!(
        ok(&["encode", "--help"]).contains("must not be changed or cut"),
        "the contract of mapping is told"
    );
}

#[test]
fn inspect_names_each_tower() {
    let text = ok(&["inspect", &fixture("two-towers.plan")]);
    for part in [
        "2 layers, width 16, 2 heads, padding eot",
        "3 layers, width 24, 3 heads, padding zero",
        "hidden      [77, 40]",
        "pooled      [20] f32 per prompt, projected",
        "logit scale 100",
        "16 + 24 → 40",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn long_contexts_and_two_towers_are_written() {
    let folder = Folder::new("towers");
    let (hidden, pooled) = (folder.path("h.npy"), folder.path("p.npy"));
    let prompt = "word ".repeat(30);
    ok(&["encode", &fixture("long.plan"), &prompt, "x", "-o", &hidden, "--pooled", &pooled]);
    assert_eq!((npy(&hidden).0, npy(&pooled).0), (vec![2, 248, 16], vec![2, 16]));
    let ids = ok(&["tokenize", &fixture("long.plan"), &prompt]);
    assert_eq!(ids.split_whitespace().count(), 248);
    assert!(ids.split_whitespace().position(|id| id == "599").unwrap() > 77);
    ok(&[
        "encode",
        &fixture("two-towers.plan"),
        "a cat",
        "-o",
        &hidden,
        "--negative",
        "x",
        "--pooled",
        &pooled,
    ]);
    assert_eq!((npy(&hidden).0, npy(&pooled).0), (vec![2, 77, 40], vec![2, 20]));
    ok(&["bench", &fixture("two-towers.plan"), "--runs", "1", "--threads", "1"]);
}

#[test]
fn bad_command_lines_end_with_2() {
    let folder = Folder::new("usage");
    assert!(ok(&["--help"]).contains("Exit codes: 0 done, 1 the work failed, 2 the command line is wrong"));
    fails(&[], 2);
    fails(&["fly"], 2);
    assert!(fails(&["encode"], 2).contains("give a prompt"));
    assert!(fails(&["encode", ONE_TOWER], 2).contains("give a prompt"));
    let unknown = fails(&["encode", ONE_TOWER, "x", "--kernel", "warp"], 2);
    assert!(unknown.contains("warp") && unknown.contains("scalar"), "{unknown}");
    assert!(fails(&["encode", ONE_TOWER, "x", "-o", &folder.path("x.png")], 2).contains(".npy"));
    let lengths = fails(&["encode", ONE_TOWER, "a", "a b", "--no-pad", "-o", &folder.path("x.npy")], 2);
    assert!(lengths.contains('3') && lengths.contains('4'), "{lengths}");
    let one = folder.path("x.npy");
    let both = fails(&["encode", ONE_TOWER, "x", "-o", &one, "--pooled", &one], 2);
    assert!(both.contains("both --output and --pooled"), "{both}");
    assert!(folder.names().is_empty());
}

#[test]
fn work_that_fails_ends_with_1_and_names_the_file() {
    let folder = Folder::new("work");
    let missing = folder.path("missing.plan");
    assert!(fails(&["inspect", &missing], 1).contains("missing.plan"));
    let plan = std::fs::read(ONE_TOWER).unwrap();
    let cut = folder.write("cut.plan", &plan[..plan.len() / 2]);
    let error = fails(&["encode", &cut, "x"], 1);
    assert!(error.contains("cut.plan") && error.contains("cut short"), "{error}");
    let text = folder.write("text.plan", b"hello, this is no plan at all");
    assert!(fails(&["inspect", &text], 1).contains("not a cliptext plan"));
    let empty = folder.write("empty.plan", b"");
    assert!(fails(&["inspect", &empty], 1).contains("empty.plan"));
    let nowhere = folder.path("no/such/folder/x.npy");
    assert!(fails(&["encode", ONE_TOWER, "x", "-o", &nowhere], 1).contains("x.npy"));
    let json = folder.write("bad.json", b"[\"a\", 3]");
    assert!(fails(&["encode", ONE_TOWER, "--prompts", &json], 1).contains("bad.json"));
    let none = folder.write("none.txt", b"");
    assert!(fails(&["encode", ONE_TOWER, "--prompts", &none, "x"], 1).contains("none.txt: holds no prompt"));
    let latin = folder.write("latin.txt", b"caf\xe9\n");
    assert!(fails(&["encode", ONE_TOWER, "--prompts", &latin], 1).contains("byte 3"));
    assert!(!folder.names().iter().any(|name| name.contains("tmp")));
}
