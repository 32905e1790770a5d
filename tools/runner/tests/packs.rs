//! `pack`, and packs in the place of plans.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use cliptext::pack::Pack;
use cliptext::{AlignedBytes, PlanFile};
use common::{Folder, ONE_TOWER, fails, fixture, ok, run};

const NAMED: &str = "dog\ta running dog\nempty\t\na cat\n";

/// A pack of [`NAMED`].
fn packed(folder: &Folder, name: &str, args: &[&str]) -> String {
    let (prompts, pack) = (folder.write("named.txt", NAMED.as_bytes()), folder.path(name));
    ok(&[&["pack", &fixture("two-towers.plan"), "--prompts", &prompts, "-o", &pack], args].concat());
    pack
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn a_pack_gives_what_the_plan_gives_in_every_format() {
    let folder = Folder::new("packs");
    let plan = fixture("two-towers.plan");
    let pack = packed(&folder, "x.pack", &[]);
    let halves = packed(&folder, "h.pack", &["--dtype", "f16"]);
    let short = packed(&folder, "short.pack", &["--no-pad"]);
    assert!(read(&halves).len() < read(&pack).len() * 11 / 20 && read(&short).len() < read(&pack).len() / 5);
    for (by_name, by_text) in [
        (&["dog"][..], &["a running dog"][..]),
        (&["dog", "a cat"], &["a running dog", "a cat"]),
        (&["a cat", "--negative", "empty"], &["a cat", "--negative", ""]),
        (
            &["a cat", "dog", "--negative", "empty", "--order", "negative-first"],
            &["a cat", "a running dog", "--negative", "", "--order", "negative-first"],
        ),
    ] {
        for ending in ["npy", "f32", "f16", "json", "safetensors"] {
            if ending == "safetensors" && by_name.contains(&"--order") {
                continue;
            }
            let (one, other) = (folder.path(&format!("1.{ending}")), folder.path(&format!("2.{ending}")));
            ok(&[&["encode", &pack, "-o", &one], by_name].concat());
            ok(&[&["encode", &plan, "-o", &other], by_text].concat());
            assert!(read(&one) == read(&other), "{by_name:?} to {ending}");
            if ending == "f16" {
                ok(&[&["encode", &halves, "-o", &one], by_name].concat());
                assert!(read(&one) == read(&other), "{by_name:?}: half precision is rounded once");
            }
        }
        let (one, other) = (folder.path("1.npy"), folder.path("2.npy"));
        ok(&[&["encode", &pack, "--pooled", &one], by_name].concat());
        ok(&[&["encode", &plan, "--pooled", &other], by_text].concat());
        assert!(read(&one) == read(&other));
    }
    // Without padding each has rows of its own, and files say how it was encoded.
    let (one, other) = (folder.path("1.json"), folder.path("2.json"));
    ok(&["encode", &short, "dog", "empty", "-o", &one]);
    ok(&["encode", &plan, "a running dog", "", "--no-pad", "-o", &other]);
    assert!(read(&one) == read(&other) && String::from_utf8(read(&one)).unwrap().contains("no_pad"));
    assert_eq!(ok(&["encode", &pack, "dog"]), ok(&["encode", &plan, "a running dog"]));
    let names = folder.write("names.txt", b"dog\na cat\n");
    let (one, other) = (folder.path("1.npy"), folder.path("2.npy"));
    ok(&["encode", &pack, "--prompts", &names, "-o", &one]);
    ok(&["encode", "--read", &pack, "dog", "a cat", "-o", &other]);
    assert!(read(&one) == read(&other));
}

#[test]
fn packs_hold_weights_and_chunks() {
    let folder = Folder::new("packs-weights");
    let plan = fixture("two-towers.plan");
    let named = "long\ta (b:1.3) BREAK c\nshort\tab [c]\n";
    let (prompts, pack) = (folder.write("named.txt", named.as_bytes()), folder.path("x.pack"));
    let options = ["--weights", "a1111", "--chunks", "auto"];
    let output = run(&[&["pack", &plan, "--prompts", &prompts, "-o", &pack], &options[..]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("all get 2 chunks"), "{said}");
    let (one, other) = (folder.path("1.json"), folder.path("2.json"));
    ok(&["encode", &pack, "long", "--negative", "short", "-o", &one]);
    ok(&[&["encode", &plan, "a (b:1.3) BREAK c", "--negative", "ab [c]", "-o", &other], &options[..]]
        .concat());
    assert!(read(&one) == read(&other));
    assert!(ok(&["inspect", &pack]).contains("\"short\": 154 tokens, weights=a1111 chunks=2: \"ab [c]\""));
    let error = fails(&["encode", &pack, "long", "--weights", "a1111"], 2);
    assert!(error.contains("--weights") && error.contains("no effect"), "{error}");
    let wrong = ["pack", &plan, "--prompts", &prompts, "-o", &pack, "--no-pad", "--chunks", "2"];
    assert!(fails(&wrong, 2).contains("--no-pad: --chunks"));
}

#[test]
fn a_pack_is_the_same_whatever_file_its_prompts_are_in() {
    let folder = Folder::new("packs-same");
    let want = read(&packed(&folder, "x.pack", &[]));
    let plan = fixture("two-towers.plan");
    let files = [
        folder.write("order.txt", "a cat\r\nempty\t\r\ndog\ta running dog".as_bytes()),
        folder.write("array.json", br#"["dog\ta running dog", "a cat", "empty\t"]"#),
    ];
    let pack = folder.path("y.pack");
    for file in &files {
        ok(&["pack", &plan, "--prompts", file, "-o", &pack, "--threads", "1", "--kernel", "scalar"]);
        assert!(read(&pack) == want, "{file}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
        .args(["pack", &plan, "--prompts", "-", "-o", &pack])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(NAMED.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success() && read(&pack) == want);
}

#[test]
fn packs_say_what_they_are_of() {
    let folder = Folder::new("packs-inspect");
    let long = format!("long\t{}\nshort\ta dog\n", "word ".repeat(100));
    let (prompts, path) = (folder.write("long.txt", long.as_bytes()), folder.path("x.pack"));
    let output = run(&["pack", ONE_TOWER, "--prompts", &prompts, "-o", &path, "--no-pad", "--dtype", "f16"]);
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warned.contains("cut to 77 tokens"), "{warned}");
    let bytes = AlignedBytes::copy_of(&read(&path));
    let pack = Pack::load(&bytes).unwrap();
    let file = PlanFile::read(ONE_TOWER.as_ref()).unwrap();
    let plan = file.plan().unwrap();
    assert_eq!(pack.manifest().plan_hash(), plan.hash());
    assert_eq!(pack.manifest().source, plan.manifest().source);
    let entry = pack.find("long").unwrap();
    // The 75 words that fit, each with its space.
    assert_eq!((entry.tokens(), entry.dropped()), (77, Some(375..499)));
    assert_eq!(pack.find("short").unwrap().ids(), plan.tokenizer().encode("a dog").unpadded());
    let text = ok(&["inspect", &path]);
    for part in [
        &plan.hash().to_string(),
        "entries     2",
        "hidden      [tokens, 32] f16",
        "pooled      [32] f16",
        "\"long\": 77 tokens, no_pad=true, cut: \"word word",
        "\"short\": 4 tokens, no_pad=true: \"a dog\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // The cut is told of again where it is taken out.
    let output = run(&["encode", &path, "long", "-o", &folder.path("x.npy")]);
    assert!(
        output.status.success() && String::from_utf8(output.stderr).unwrap().contains("cut to 77 tokens")
    );
}

#[test]
fn packs_that_can_t_be_made_are_told_and_not_there() {
    let folder = Folder::new("packs-refused");
    let prompts = folder.write("named.txt", NAMED.as_bytes());
    let pack = folder.path("x.pack");
    let make = |prompts: &str, output: &str, code: i32| {
        fails(&["pack", ONE_TOWER, "--prompts", prompts, "-o", output], code)
    };
    assert!(make(&prompts, &folder.path("x.npy"), 2).contains("ends in .pack"));
    fails(&["pack", ONE_TOWER, "-o", &pack], 2);
    fails(&["pack", ONE_TOWER, "--prompts", &prompts], 2);
    fails(&["pack", "--prompts", &prompts, "-o", &pack], 2);
    let own = folder.write("own.pack", b"a\n");
    assert!(make(&own, &own, 2).contains("it is read, and the output too"));
    for (name, text, said) in [
        ("twice.txt", "a\tx\nb\na\ty\n", "prompts 1 and 3 have the same name, \"a\""),
        ("none.txt", "a\n\n", "prompt 2 has no name: write a name, a tab, and the prompt"),
        ("empty.txt", "", "holds no prompt"),
        ("long.txt", &"word ".repeat(60), "a name of 300 bytes"),
    ] {
        let error = make(&folder.write(name, text.as_bytes()), &pack, 1);
        assert!(error.contains(name) && error.contains(said), "{error}");
    }
    assert!(make(&folder.path("missing.txt"), &pack, 1).contains("missing.txt"));
    assert!(make(&prompts, &folder.path("no/x.pack"), 1).contains("no/x.pack"));
    let missing = fails(&["pack", &folder.path("y.plan"), "--prompts", &prompts, "-o", &pack], 1);
    assert!(missing.contains("y.plan"), "{missing}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/null", folder.path("null.pack")).unwrap();
        let error = make(&prompts, &folder.path("null.pack"), 1);
        assert!(error.contains("name a file") && error.contains("null.pack is not written"), "{error}");
    }
    let names = folder.names();
    assert!(!names.iter().any(|name| name == "x.pack" || name.contains("tmp")), "{names:?}");
}

#[test]
fn packs_that_can_t_be_used_are_told() {
    let folder = Folder::new("packs-wrong");
    let pack = packed(&folder, "x.pack", &[]);
    let error = fails(&["encode", &pack, "dgo"], 1);
    assert!(error.contains("has no \"dgo\" (is \"dog\" meant?)") && error.contains("inspect"), "{error}");
    assert!(!fails(&["encode", &pack, "a running dog"], 1).contains("meant"));
    let output = folder.path("x.npy");
    let error = fails(&["encode", &pack, "dog", "cow", "-o", &output], 1);
    assert!(error.contains("x.npy is not written"), "{error}");
    for option in
        [&["--no-pad"][..], &["--kernel", "scalar"], &["--threads", "1"], &["--cache", &folder.path("c")]]
    {
        let error = fails(&[&["encode", &pack, "dog"], option].concat(), 2);
        assert!(error.contains(option[0]) && error.contains("no effect"), "{error}");
    }
    assert!(fails(&["encode", &pack], 2).contains("give a prompt"));
    for command in ["tokenize", "similarity", "bench"] {
        let args = match command {
            "tokenize" => vec![command, &pack, "x"],
            "similarity" => vec![command, &pack, "x", "--images", &pack],
            _ => vec![command, &pack],
        };
        let error = fails(&args, 1);
        assert!(error.contains("a prompt pack, not a plan"), "{command}: {error}");
    }
    let mut bytes = read(&pack);
    let last = bytes.len() - 200;
    bytes[last] ^= 1;
    let damaged = folder.write("damaged.pack", &bytes);
    for args in [&["encode", &damaged, "dog"][..], &["inspect", &damaged]] {
        let error = fails(args, 1);
        assert!(error.contains("damaged.pack: the pack is damaged in the 64 KiB"), "{error}");
    }
    bytes[8] = 9;
    let other = folder.write("other.pack", &bytes);
    let error = fails(&["inspect", &other], 1);
    assert!(error.contains("format version 9, this build reads version 1"), "{error}");
    let cut = folder.write("cut.pack", &read(&pack)[..1000]);
    assert!(fails(&["encode", &cut, "dog"], 1).contains("cut short"));
    assert!(!folder.names().iter().any(|name| name.contains("tmp")));
}

/// The specification is enough to read a pack.
#[test]
fn a_reader_that_was_written_from_the_specification_reads_packs() {
    let python = std::env::var_os("CLIPTEXT_PYTHON").unwrap_or_else(|| "python3".into());
    if Command::new(&python).arg("--version").output().is_err() {
        eprintln!("skipped: no python3 (CLIPTEXT_PYTHON names one)");
        return;
    }
    let folder = Folder::new("packs-python");
    let plan = fixture("two-towers.plan");
    let hash = PlanFile::read(plan.as_ref()).unwrap().plan().unwrap().hash().to_string();
    let mut wanted = Vec::new();
    for (number, (name, prompt)) in
        [("dog", "a running dog"), ("empty", ""), ("a cat", "a cat")].iter().enumerate()
    {
        let (hidden, pooled) =
            (folder.path(&format!("{number}.f32")), folder.path(&format!("{number}-pooled.f32")));
        ok(&["encode", &plan, prompt, "-o", &hidden, "--pooled", &pooled]);
        wanted.push(format!("{name}={hidden}={pooled}"));
    }
    for pack in [packed(&folder, "x.pack", &[]), packed(&folder, "h.pack", &["--dtype", "f16"])] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/read_pack.py");
        let read = Command::new(&python).args([script, &pack, &hash]).args(&wanted).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "read");
    }
}
