//! Threads, pairs and `bench`, from the command line, with the built-in plan.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Rows and columns of the built-in plan.
const TOKENS: usize = 77;
const WIDTH: usize = 64;

fn run(arguments: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_cliptext-run")).args(arguments).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A folder of its own for a test, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cliptext-run-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// What `encode` with `arguments` writes.
    fn encode(&self, arguments: &[&str]) -> Vec<u8> {
        let file = self.0.join("out.f32");
        let output: &Path = &file;
        run(&[&["encode", "-o", output.to_str().unwrap()], arguments].concat());
        std::fs::read(file).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_bytes_are_the_same_for_every_number_of_threads() {
    let folder = Folder::new("threads");
    let one = folder.encode(&["--threads", "1", "a photo of a cat"]);
    assert_eq!(one.len(), TOKENS * WIDTH * 4);
    for threads in ["2", "3", "8"] {
        assert!(folder.encode(&["--threads", threads, "a photo of a cat"]) == one, "{threads} threads");
    }
    assert!(folder.encode(&["a photo of a cat"]) == one, "the default");
}

#[test]
fn the_negative_prompt_comes_last() {
    let folder = Folder::new("negative");
    let each = ["a cat", "a dog", "blurry"].map(|prompt| folder.encode(&[prompt]));
    assert!(folder.encode(&["a cat", "--negative", "blurry"]) == [&each[0][..], &each[2]].concat());
    assert!(folder.encode(&["a cat", "a dog", "--negative", "blurry"]) == each.concat());
    let each = ["a cat", "so blurry"].map(|prompt| folder.encode(&["--no-pad", prompt]));
    let negative = ["--no-pad", "a nice", "--negative", "so blurry"];
    assert!(folder.encode(&negative)[each[0].len()..] == each[1], "without padding");
}

#[test]
fn bench_reports_what_it_promises() {
    let out = run(&["bench", "--json", "--threads", "1,2", "--runs", "2"]);
    let reports: Vec<Value> = serde_json::from_slice(&out).unwrap();
    assert_eq!(reports.len(), 2);
    for (report, threads) in reports.iter().zip(1..) {
        assert_eq!(report["threads"], threads);
        assert!(report["kernel"].is_string());
        assert_eq!(report["warm_ms"]["runs"], 2);
        for field in ["median", "min", "max"] {
            assert!(report["warm_ms"][field].as_f64().unwrap() > 0.0, "{field}");
        }
        assert!(report["cold_ms"].as_f64().unwrap() > 0.0);
        assert!(report["steps"].as_array().unwrap().iter().all(|step| step["ms"].is_number()));
        let labels = &report["labels"];
        assert_eq!(labels["texts"], 40);
        for field in ["packed_per_s", "single_per_s"] {
            assert!(labels[field].as_f64().unwrap() > 0.0, "{field}");
        }
        let arena = report["arena_bytes"].as_u64().unwrap();
        // Only where the system tells.
        if let Some(anonymous) = report["rss_anon_bytes"].as_u64() {
            assert!(anonymous <= arena + (1 << 20), "{anonymous} bytes with an arena of {arena}");
        }
    }
    assert_eq!(reports[0]["plan_hash"].as_str().map(str::len), Some(64));
    let counted = run(&["bench", "--json", "--threads", "1", "--runs", "1", "--only-warm"]);
    let reports: Vec<Value> = serde_json::from_slice(&counted).unwrap();
    assert_eq!(reports[0]["warm_ms"]["runs"], 1);
}
