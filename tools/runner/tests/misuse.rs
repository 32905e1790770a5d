//! What can be got wrong on the command line, each with the message that it gets and the exit code: 2 where the command
//! line is wrong, 1 where the work failed.

mod common;
#[allow(dead_code)]
#[path = "../../../tests/common/parts.rs"]
mod parts;

use common::{Folder, ONE_TOWER, fails, fixture};

/// Options that contradict each other, have no effect or say nothing that is known.
#[test]
fn the_command_line_is_wrong() {
    let folder = Folder::new("wrong");
    let (npy, f32, f16) = (folder.path("x.npy"), folder.path("x.f32"), folder.path("x.f16"));
    let (json, tensors) = (folder.path("x.json"), folder.path("x.safetensors"));
    let prompts = folder.write("prompts.json", b"[\"a\"]");
    let unpooled = "--pooled";
    for (args, said) in [
        // Prompts and plans.
        (&["encode"][..], "give a prompt, or --prompts FILE"),
        (
            &["encode", "-"],
            "-: for a plan from standard input give /dev/stdin, for prompts from there --prompts -",
        ),
        (
            &["encode", "/dev/stdin", "--prompts", "-"],
            "standard input can't give both the plan and the prompts",
        ),
        (&["encode", "/dev/fd/0", "--prompts", "/dev/stdin"], "standard input can't give both"),
        // Names and formats.
        (
            &["encode", "x", "-o", "x.png"],
            "x.png: the name must end in .npy, .safetensors, .json, .f32 or .f16",
        ),
        (&["encode", "x", "-o", "x"], "x: the name must end in .npy"),
        (&["encode", "x", "-o", &npy, "--format", "f32"], "x.npy says otherwise"),
        (&["encode", "x", "-o", &f32, "--dtype", "f16"], "x.f32 is raw f32: name it .f16"),
        (&["encode", "x", "-o", &f16, "--dtype", "f32"], "x.f16 is raw f16: name it .f32"),
        (&["encode", "x", "-o", &json, "--dtype", "f16"], "x.json is JSON, which holds f32"),
        (&["encode", "x", "-o", "-", "--format", "json", "--dtype", "f16"], "standard output is JSON"),
        (&["encode", "x", "-o", &npy, "--format", "png"], "invalid value 'png'"),
        (&["encode", "x", "-o", &npy, "--dtype", "int8"], "invalid value 'int8'"),
        (
            &["encode", "x", "-o", "x{n}y{n:x}.npy"],
            "{n} stands for the prompt's number, {n:04} for four digits",
        ),
        (
            &["encode", "x", unpooled, &tensors],
            "in .safetensors and .json (-o) the pooled outputs stand beside",
        ),
        (
            &["encode", "x", "-o", &npy, unpooled, &json],
            "in .safetensors and .json (-o) the pooled outputs stand",
        ),
        // Without effect.
        (&["encode", "x", "--format", "npy"], "--format: there is no output"),
        (&["encode", "x", "--dtype", "f16"], "--dtype: there is no output"),
        (&["encode", "x", "--order", "negative-first", "-o", &npy], "--negative <TEXT>"),
        (&["encode", "x", "--negative", "y", "--order", "negative-first"], "--order: there is no output"),
        (
            &["encode", "x", "--negative", "y", "--order", "negative-first", "-o", &tensors],
            "x.safetensors the prompt and its negative go by name, in no order",
        ),
        // Two outputs of one name, and inputs.
        (&["encode", "x", "-o", &npy, unpooled, &npy], "x.npy: both --output and --pooled name it"),
        (&["encode", "x", "-o", "-", unpooled, "-"], "standard output: both --output and --pooled name it"),
        (
            &["encode", "x", "-o", "-", unpooled, "/dev/stdout"],
            "/dev/stdout: both --output and --pooled name it",
        ),
        (
            &["encode", "x", "-o", "x{n}.npy", unpooled, "x0.npy"],
            "x0.npy: both --output and --pooled name it",
        ),
        (&["encode", "--prompts", &prompts, "-o", &prompts], "prompts.json: it is read, and an output too"),
        // Values out of range.
        (&["encode", "x", "--threads", "0"], "0 is not in 1..=65535"),
        (&["encode", "x", "--threads", "70000"], "70000 is not in 1..=65535"),
        (
            &["encode", "x", "--kernel", "warp"],
            "--kernel warp: this build has no kernel of that name; this CPU runs ",
        ),
        (&["encode", "x", "--order", "last", "--negative", "y"], "invalid value 'last'"),
        (&["bench", "--runs", "0"], "0 is not in 1..=4294967295"),
        (&["bench", "--json", "--steps"], "'--json' cannot be used with"),
        (&["bench", "--json", "--compare", &prompts], "'--json' cannot be used with"),
        (&["similarity", "x"], "--images <FILE>"),
        (&["fly"], "unrecognized subcommand"),
        (&["encode", "x", "--fly"], "unexpected argument '--fly'"),
    ] {
        let error = fails(args, 2);
        assert!(error.contains(said), "{args:?}: {error}");
        assert_eq!(folder.names(), ["prompts.json"], "{args:?}");
    }
    // Lengths of prompts that are known beforehand.
    let error = fails(&["encode", ONE_TOWER, "a", "a b", "--no-pad", "-o", &npy], 2);
    assert!(error.contains("--no-pad: prompts of 3 and of 4 tokens don't fit one array"), "{error}");
    let unpooled = without_pooled();
    let plan = folder.write("unpooled.plan", &unpooled);
    let error = fails(&["encode", &plan, "a", "--pooled", &npy], 2);
    assert!(error.contains("--pooled: the plan has no pooled output"), "{error}");
}

/// The plan of two towers without its pooled output.
fn without_pooled() -> Vec<u8> {
    let file = cliptext::PlanFile::read(fixture("long.plan").as_ref()).unwrap();
    let mut parts = parts::Parts::of(&file);
    parts.manifest.pooled = None;
    parts.bytes()
}

/// Files that are missing, of another kind, damaged or empty.
#[test]
fn a_file_does_not_do() {
    let folder = Folder::new("files");
    let inside = folder.path("");
    let missing = folder.path("missing.plan");
    let plan = std::fs::read(ONE_TOWER).unwrap();
    let changed = |name: &str, at: usize, value: u8| {
        let mut bytes = plan.clone();
        bytes[at] = value;
        folder.write(name, &bytes)
    };
    let version = changed("version.plan", 8, 99);
    let damaged = changed("damaged.plan", plan.len() / 2, plan[plan.len() / 2] ^ 1);
    let cut = folder.write("cut.plan", &plan[..plan.len() - 1]);
    let longer = folder.write("longer.plan", &[&plan[..], b"x"].concat());
    let text = folder.write("text.plan", b"hello, this is no plan at all");
    let empty = folder.write("empty.plan", b"");
    let none = folder.write("none.txt", b"");
    let latin = folder.write("latin.txt", b"a\ncaf\xe9\n");
    let utf16 = folder.write("utf16.txt", b"a\0 \0c\0");
    let array = folder.write("bad.json", b"[\"a\", 3]");
    let no_prompts = folder.path("missing.txt");
    for (args, said) in [
        // Plans.
        (&["encode", &missing, "x"][..], "missing.plan: no such file"),
        (&["inspect", &missing], "missing.plan: No such file"),
        (&["encode", &inside, "x"], ": a folder, not a plan"),
        (
            &["encode", &version, "x"],
            "version.plan: the plan has format version 99, this build reads version ",
        ),
        (&["encode", &damaged, "x"], "damaged.plan: the plan is damaged in the 64 KiB from byte "),
        (&["encode", &cut, "x"], "cut.plan: the plan is cut short: copy or compile it again"),
        (&["encode", &longer, "x"], "longer.plan: something follows the end of the plan"),
        (&["encode", &text, "x"], "text.plan: this is not a cliptext plan"),
        (&["encode", &empty, "x"], "empty.plan: the plan is cut short"),
        (&["encode", "/dev/null", "x"], "/dev/null: the plan is cut short"),
        // An earlier run.
        (&["bench", "--compare", &missing], "missing.plan: No such file"),
        (&["bench", "--compare", &text], "text.plan: no JSON ("),
        (
            &["bench", "--compare", &array],
            "bad.json: no number of threads with its times: give a file that `bench --json`",
        ),
        (&["bench", "--compare", &version], "version.plan: no JSON ("),
        // Prompts.
        (&["encode", ONE_TOWER, "--prompts", &no_prompts], "missing.txt: No such file"),
        (&["encode", ONE_TOWER, "--prompts", &inside], ": it is a folder: give a file of prompts"),
        (
            &["encode", ONE_TOWER, "--prompts", &none],
            "none.txt: holds no prompt: give a JSON array of strings, or one",
        ),
        (
            &["encode", ONE_TOWER, "--prompts", &latin],
            "latin.txt: not UTF-8 from byte 5 (line 2): save the prompts as UTF-8",
        ),
        (
            &["encode", ONE_TOWER, "--prompts", &utf16],
            "utf16.txt: a NUL at byte 1 (line 1), as UTF-16 has them",
        ),
        (&["encode", ONE_TOWER, "--prompts", &array], "bad.json: not a JSON array of strings: "),
        (&["tokenize", ONE_TOWER, "--prompts", &none], "none.txt: holds no prompt"),
        (
            &["similarity", &fixture("two-towers.plan"), "--images", "x.npy", "--prompts", &none],
            "none.txt: holds no prompt",
        ),
        (&["encode", ONE_TOWER, "--prompts", "/dev/null"], "/dev/null: holds no prompt"),
    ] {
        let error = fails(args, 1);
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

/// A plan whose weights are packed for an ARM core.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_plan_for_another_kind_of_cpu() {
    use cliptext::kernels::layout::Packing;
    use cliptext::plan::Op;
    let folder = Folder::new("layout");
    let file = cliptext::PlanFile::read(fixture("long.plan").as_ref()).unwrap();
    let mut parts = parts::Parts::of(&file);
    parts.manifest.packing = Packing::Int8x8;
    for step in &mut parts.steps {
        if let Op::Linear { packing, .. } = &mut step.op {
            *packing = Packing::Int8x8;
        }
    }
    let plan = folder.write("i8mm.plan", &parts.bytes());
    let output = folder.path("x.npy");
    let error = fails(&["encode", &plan, "x", "-o", &output, "--kernel", "avx2"], 1);
    assert!(
        error.contains("the weights are packed as int8x8, which kernel avx2 does not read")
            && error.contains("the plan was compiled with --target i8mm, compile it with --target generic"),
        "{error}"
    );
    assert_eq!(folder.names(), ["i8mm.plan"]);
}

/// Arguments that are no text.
#[cfg(unix)]
#[test]
fn arguments_are_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    for (args, code, said) in [
        (&["encode".as_ref(), ONE_TOWER.as_ref(), latin][..], 2, "\"caf\\xE9\": a prompt must be UTF-8"),
        (&["encode".as_ref(), ONE_TOWER.as_ref(), "--prompt".as_ref(), latin], 2, "invalid UTF-8"),
        (
            &["encode".as_ref(), ONE_TOWER.as_ref(), "x".as_ref(), "--negative".as_ref(), latin],
            2,
            "invalid UTF-8",
        ),
        (&["encode".as_ref(), latin], 1, "no such file"),
    ] {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_cliptext-run")).args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && error.contains(said), "{args:?}: {error}");
    }
}

/// Outputs that can't be written.
#[cfg(target_os = "linux")]
#[test]
fn an_output_can_not_be_written() {
    let folder = Folder::new("unwritable");
    let inside = folder.path("x.npy");
    std::fs::create_dir(&inside).unwrap();
    let nowhere = folder.path("none/x.npy");
    let each = folder.path("none/{n}.npy");
    for (args, said) in [
        (&["-o", &nowhere][..], "none/x.npy: there is no folder "),
        (&["-o", &each], "none/0.npy: there is no folder "),
        (&["-o", &inside], "x.npy: it is a folder: give the name of a file in it"),
        // A folder in which nobody makes a file, root neither.
        (&["-o", "/proc/x.npy"], "/proc/x.npy: No such file or directory"),
        (&["-o", "/dev/full"], "/dev/full: No space left on device (os error 28); /dev/full is not written"),
        (&["-o", "/dev/full", "--format", "json"], "/dev/full: No space left on device"),
        (&["-o", "/dev/full", "--format", "safetensors"], "/dev/full: No space left on device"),
    ] {
        let error = fails(&[&["encode", ONE_TOWER, "x"][..], args].concat(), 1);
        assert!(error.contains(said), "{args:?}: {error}");
        assert_eq!(folder.names(), ["x.npy"], "{args:?}");
    }
}

/// A disk that gets full meanwhile: a limit on the size of files stands for it. Nothing is left.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_gets_full() {
    let folder = Folder::new("full-disk");
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" encode \"$1\" a b c -o \"$2\"";
    for name in ["x.npy", "x.f16", "x.json", "x.safetensors"] {
        let path = folder.path(name);
        let output = std::process::Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_cliptext-run"), ONE_TOWER, &path])
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("{name}: File too large")), "{error}");
        assert!(error.contains(&format!("{name} is not written")), "{error}");
        assert_eq!(folder.names(), [""; 0]);
    }
}

/// Readers that stop reading, for each format.
#[cfg(unix)]
#[test]
fn a_reader_goes_away() {
    for format in ["npy", "f32", "f16", "safetensors", "json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
            .args(["encode", ONE_TOWER, "a cat", "-o", "-", "--format", format])
            .stdout(writer)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{format}: {error}");
        assert!(error.contains("standard output: Broken pipe"), "{format}: {error}");
        assert!(error.contains("standard output is not written"), "{format}: {error}");
    }
}
