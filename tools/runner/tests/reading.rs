//! `--weights`, `--chunks` and `--comma-backtrack` from outside.

mod common;

use cliptext::prompt::{Chunks, Options, Prompt, Weighting};
use cliptext::{AlignedBytes, Encoder, PlanFile};
use common::{Folder, ONE_TOWER, fails, npy, ok, run};

/// Standard error of a run that succeeds.
fn told(args: &[&str]) -> String {
    let output = run(args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {told}");
    told
}

/// What the library makes of a text, filled up to `chunks`.
fn by_library(text: &str, options: Options, chunks: usize) -> Vec<f32> {
    let file = PlanFile::read(ONE_TOWER.as_ref()).unwrap();
    let plan = file.plan().unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut prompt = Prompt::new();
    prompt.read(plan.tokenizer(), text, options).unwrap();
    prompt.fill(chunks).unwrap();
    let mut hidden = vec![0.0; chunks * plan.context() * plan.width()];
    Encoder::new(&plan, &mut arena).unwrap().encode_prompt(&prompt, None, &mut hidden, None).unwrap();
    hidden
}

#[test]
fn arrays_hold_what_the_library_computes() {
    let folder = Folder::new("reading");
    let [out, pooled] = ["out.npy", "pooled.npy"].map(|name| folder.path(name));
    let [prompt, negative] = ["a (cat:1.3) BREAK [dog], at night", "(blurry:1.2)"];
    for (weights, weighting) in [("a1111", Weighting::A1111), ("comfy", Weighting::Comfy)] {
        let args = [
            "encode",
            ONE_TOWER,
            prompt,
            "a fox",
            "--weights",
            weights,
            "--chunks",
            "2",
            "--negative",
            negative,
        ];
        told(&[&args[..], &["-o", &out, "--pooled", &pooled]].concat());
        let (shape, values) = npy(&out);
        assert_eq!(shape, [3, 154, 32]);
        let options = Options { weighting, chunks: Chunks::Exactly(2), comma: 0 };
        let want = [prompt, "a fox", negative].map(|text| by_library(text, options, 2)).concat();
        assert!(values == want, "{weights}");
        assert_eq!(npy(&pooled).0, [3, 32]);
    }
    // Weights alone, in one chunk.
    ok(&["encode", ONE_TOWER, "a (cat:1.3)", "--weights", "a1111", "-o", &out]);
    let options = Options { weighting: Weighting::A1111, ..Options::default() };
    assert_eq!(npy(&out), (vec![1, 77, 32], by_library("a (cat:1.3)", options, 1)));
    // No option, or the one that is the default, changes nothing.
    let plain = folder.path("plain.npy");
    ok(&["encode", ONE_TOWER, "a (cat:1.3)", "-o", &plain]);
    ok(&["encode", ONE_TOWER, "a (cat:1.3)", "--weights", "none", "-o", &out]);
    assert_eq!(npy(&out), npy(&plain));
    ok(&["encode", ONE_TOWER, "a (cat:1.3)", "--chunks", "1", "-o", &out]);
    assert_eq!(npy(&out), npy(&plain));
}

#[test]
fn auto_gives_all_prompts_the_chunks_of_the_longest() {
    let folder = Folder::new("auto");
    let (out, one) = (folder.path("out.npy"), folder.path("one.npy"));
    let long = "cat, ".repeat(80);
    let note = told(&["encode", ONE_TOWER, "a dog", "--negative", &long, "--chunks", "auto", "-o", &out]);
    assert!(note.contains("all get 3 chunks"), "{note}");
    assert_eq!(npy(&out).0, [2, 231, 32]);
    // Both are as long by themselves, and nothing is told.
    assert_eq!(told(&["encode", ONE_TOWER, &long, "--chunks", "auto", "-o", &one]), "");
    let options = Options { chunks: Chunks::Auto, ..Options::default() };
    assert_eq!(npy(&one), (vec![1, 231, 32], by_library(&long, options, 3)));
    let file = folder.write("prompts.txt", format!("a dog\n{long}\n").as_bytes());
    told(&["encode", ONE_TOWER, "--prompts", &file, "--chunks", "auto", "-o", &out]);
    assert_eq!(npy(&out).0, [2, 231, 32]);
    let error = fails(&["encode", ONE_TOWER, "--prompts", "/dev/null", "--chunks", "auto", "-o", &out], 2);
    assert!(error.contains("/dev/null can't be read twice") && error.contains("--chunks N"), "{error}");
    let error = fails(&["encode", ONE_TOWER, &"cat ".repeat(601), "--chunks", "auto", "-o", &out], 1);
    assert!(error.contains("more than 8 chunks") && error.contains("--chunks N"), "{error}");
    // The cache tells chunks and weights apart.
    let cache = folder.path("cache");
    for args in [&["--chunks", "auto"][..], &["--chunks", "2"], &["--weights", "comfy"], &[]] {
        for _ in 0..2 {
            told(
                &[&["encode", ONE_TOWER, "a (dog:1.2) BREAK b", "--cache", &cache, "-o", &out], args]
                    .concat(),
            );
        }
        let (shape, _) = npy(&out);
        assert_eq!(shape[1], if args.contains(&"--chunks") { 154 } else { 77 }, "{args:?}");
    }
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 3, "auto is 2 here");
}

#[test]
fn tokenize_shows_chunks_and_weights() {
    let shown = |args: &[&str]| ok(&[&["tokenize", ONE_TOWER, "--no-pad"], args].concat());
    assert_eq!(shown(&["a (cat:1.3)", "--weights", "a1111"]), "49406 320 2368:1.3 49407\n");
    let chunks = shown(&["a BREAK (dog) [cat]", "--weights", "a1111", "--chunks", "auto"]);
    assert_eq!(chunks, "49406 320 49407 | 49406 1929:1.1 2368:0.90909094 49407\n");
    assert_eq!(shown(&["a", "--chunks", "2"]), "49406 320 49407 | 49406 49407\n");
    let text = format!("{}, {}", "cat ".repeat(60), "dog ".repeat(20));
    let of = |args: &[&str]| shown(&[&[text.as_str(), "--chunks", "auto"], args].concat());
    let second = |line: &str| line.split(" | ").nth(1).unwrap().split(' ').count() - 2;
    assert_eq!(second(&of(&[])), 6);
    assert_eq!(second(&of(&["--comma-backtrack"])), 20);
    assert_eq!(second(&of(&["--comma-backtrack", "10"])), 6);
    let padded = ok(&["tokenize", ONE_TOWER, "a", "--chunks", "2"]);
    assert_eq!(padded.split(' ').count(), 77 * 2 + 1);
}

#[test]
fn what_falls_off_and_what_is_text_is_told() {
    let words = "cat ".repeat(75);
    let note = told(&["tokenize", ONE_TOWER, &format!("{words}and a dog")]);
    assert_eq!(note, "cliptext-run: cut to 77 tokens: \"and a dog\" fell off\n");
    let text = format!("{words}{words} (dog:1.2), a fox");
    let note = told(&["encode", ONE_TOWER, &text, "--chunks", "2", "--weights", "a1111"]);
    assert_eq!(note, "cliptext-run: cut to 154 tokens: \"dog:1.2), a fox\" fell off\n");
    for (args, what) in [
        (&["a (cat:1.3)"][..], "(…:1.3) is text here"),
        (&["a BREAK b"], "BREAK is text here: --chunks"),
        (&["a BREAK b", "--weights", "comfy"], "BREAK is text here, as in ComfyUI"),
        (&["a embedding:x", "--weights", "comfy"], "embedding: is text here"),
        (&["<lora:x:1> a", "--weights", "a1111"], "<lora:…> is text here"),
        (&["[a:b:0.5]", "--weights", "a1111"], "AND, [a|b] and [a:b:0.5] are text here"),
    ] {
        for command in ["tokenize", "encode"] {
            let note = told(&[&[command, ONE_TOWER], args].concat());
            assert!(note.contains(what) && note.lines().count() == 1, "{args:?}: {note}");
        }
    }
    // Once for all prompts.
    let note = told(&["tokenize", ONE_TOWER, "a (cat:1.3)", "a (dog:1.2)"]);
    assert_eq!(note.lines().count(), 1);
}

#[test]
fn options_that_can_t_be_obeyed_are_refused() {
    for (args, code, what) in [
        (&["a", "--weights", "auto1111"][..], 2, "expected `none`, `a1111` or `comfy`"),
        (&["a", "--chunks", "0"], 2, "expected `auto` or a number of chunks from 1"),
        (&["a", "--chunks", "9"], 2, "--chunks: 9 chunks were asked for, a prompt has 1 to 8"),
        (&["a", "--comma-backtrack"], 2, "--chunks"),
        (&["a", "--chunks", "2", "--comma-backtrack", "75"], 2, "75 is not in 1..=74"),
        (&["a", "--chunks", "2", "--comma-backtrack", "--weights", "comfy"], 2, "the option has no effect"),
        (&["a", "--no-pad", "--weights", "comfy"], 2, "--no-pad: --weights is about whole contexts"),
        (&["a (b:1.2.3)", "--weights", "a1111"], 1, "\"a (b:1.2.3)\": the weight at byte 5 is no number"),
        (&["a (b:inf)", "--weights", "comfy"], 1, "the weight of the text at byte 3 is infinite"),
    ] {
        let error = fails(&[&["encode", ONE_TOWER], args].concat(), code);
        assert!(error.contains(what), "{args:?}: {error}");
    }
    let error = fails(&["encode", ONE_TOWER, "--labels", "x.txt", "--chunks", "2", "-o", "x.npy"], 2);
    assert!(error.contains("--labels: labels are read as text: --chunks has no effect"), "{error}");
}
