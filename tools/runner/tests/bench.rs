//! `bench`, for people: steps by kind, and what changed since an earlier run.

mod common;

use common::{Folder, ONE_TOWER, fixture, ok};

#[test]
fn bench_shows_steps_by_kind_or_each() {
    let count = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let short = ok(&["bench", ONE_TOWER, "--threads", "1", "--runs", "1"]);
    let kinds: Vec<&str> =
        short.lines().filter(|line| line.contains(" × ") && line.contains(" %  1.    ")).collect();
    assert_eq!(kinds.len(), 10, "{short}");
    assert!(
        kinds.iter().any(|line| line.trim_start().starts_with("5 ×") && line.contains("norm")),
        "{short}"
    );
    assert!(short.contains("the slowest (--steps: all)"), "{short}");
    let shares: f64 = kinds
        .iter()
        .filter_map(|line| line.split(" %").next()?.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!((99.0..101.0).contains(&shares), "{shares} % in {short}");
    let long = ok(&["bench", ONE_TOWER, "--threads", "1", "--runs", "1", "--steps"]);
    assert!(!long.contains("the slowest") && count(&long, "norm") == 1 + 5, "{long}");
    // Which kernel ran, and why.
    assert_eq!(count(&short, "  kernel      "), 1);
    let scalar =
        ok(&["bench", ONE_TOWER, "--threads", "1", "--runs", "1", "--only-warm", "--kernel", "scalar"]);
    assert!(scalar.contains("kernel      chosen by --kernel"), "{scalar}");
}

#[test]
fn bench_tells_what_changed() {
    let folder = Folder::new("compare");
    let earlier = folder.write(
        "earlier.json",
        ok(&["bench", ONE_TOWER, "--json", "--threads", "1", "--runs", "1"]).as_bytes(),
    );
    let same = ok(&["bench", ONE_TOWER, "--threads", "1,2", "--runs", "1", "--compare", &earlier]);
    for part in [
        "ms before, now, and their ratio",
        "  warm\n",
        "  1. norm 32 → 32\n",
        "has no run with 2 threads, but with 1",
    ] {
        assert!(same.contains(part), "{part} in {same}");
    }
    assert!(!same.contains("another") && !same.contains("only"), "{same}");
    let other = ["bench", &fixture("two-towers.plan"), "--kernel", "scalar", "--threads", "1", "--runs", "1"];
    let other = ok(&[&other[..], &["--compare", &earlier]].concat());
    for part in ["another plan: ", "another kernel: ", "only now", "only before"] {
        assert!(other.contains(part), "{part} in {other}");
    }
    // Of encodings alone.
    let warm =
        ok(&["bench", ONE_TOWER, "--threads", "1", "--runs", "1", "--only-warm", "--compare", &earlier]);
    assert!(warm.contains("  warm\n") && !warm.contains("only before"), "{warm}");
}
