//! `encode --stream`: plans that are never in memory as a whole.

mod common;

use common::{Folder, ONE_TOWER, fails, fixture, ok};

/// What `encode` with `args` writes.
fn encoded(folder: &Folder, args: &[&str]) -> Vec<u8> {
    let path = folder.path("out.f32");
    ok(&[&["encode", "-o", &path], args].concat());
    std::fs::read(path).unwrap()
}

#[test]
fn the_bytes_are_those_of_a_mapped_plan() {
    let folder = Folder::new("streamed");
    let listed = folder.write("prompts.txt", b"a cat\na dog on a bench\n\n");
    let two = fixture("two-towers.plan");
    let long = "a cat, a dog, ".repeat(30);
    let cases: [&[&str]; 7] = [
        &[ONE_TOWER, "a cat"],
        &[ONE_TOWER, "--prompts", &listed, "--negative", "blurry"],
        &[ONE_TOWER, "a cat", "--no-pad"],
        &[ONE_TOWER, &long, "--chunks", "auto", "--weights", "a1111"],
        &[ONE_TOWER, "a (red:1.3) cat", "--weights", "comfy"],
        &[&two, "a cat", "a dog"],
        &[&two, "a cat", "--threads", "4"],
    ];
    for args in cases {
        assert!(encoded(&folder, &[args, &["--stream"]].concat()) == encoded(&folder, args), "{args:?}");
    }
    // Kept embeddings are found again, streamed or not.
    let cache = folder.path("cache");
    let with_cache = [ONE_TOWER, "a cat", "--cache", &cache];
    let first = encoded(&folder, &[&with_cache[..], &["--stream"]].concat());
    assert!(first == encoded(&folder, &with_cache) && first == encoded(&folder, cases[0]));
}

#[test]
fn what_can_not_be_streamed_is_told() {
    let folder = Folder::new("not-streamed");
    let out = folder.path("x.npy");
    let whole = std::fs::read(ONE_TOWER).unwrap();
    let cut = folder.write("cut.plan", &whole[..whole.len() - 1]);
    let mut bytes = whole.clone();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    let damaged = folder.write("damaged.plan", &bytes);
    bytes[200] ^= 1;
    let head = folder.write("head.plan", &bytes);
    let text = folder.write("notes.txt", b"not a plan");
    let one = |plan: &str, code| fails(&["encode", plan, "--prompt", "a cat", "--stream", "-o", &out], code);
    assert!(one(&cut, 1).contains("cut.plan: "));
    let told = one(&damaged, 1);
    assert!(told.contains("damaged.plan: ") && told.contains("checksum of the block at byte"), "{told}");
    assert!(one(&head, 1).contains("head.plan: "));
    assert!(one(&text, 1).contains("notes.txt: "));
    assert!(one("/dev/null", 2).contains("is no file"));
    assert!(
        fails(&["encode", "a cat", "--stream", "-o", &out], 2)
            .contains("--stream: the built-in plan is in memory")
    );
    assert!(
        fails(&["encode", ONE_TOWER, "a cat", "--stream", "--read"], 2).contains("leave out one of them")
    );
    assert!(fails(&["encode", ONE_TOWER, "--labels", &text, "--stream"], 2).contains("--stream"));
    assert!(!std::path::Path::new(&out).exists());
}
