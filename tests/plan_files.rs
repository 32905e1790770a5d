//! Plan files: read ones need their file no more; mapped ones are the same bytes.

mod common;

use std::path::PathBuf;

use cliptext::{AlignedBytes, Encoder, PlanFile};
use common::{hash, one_tower};

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cliptext-plan-files-{name}-{}", std::process::id()))
}

fn encoded(file: &PlanFile) -> u32 {
    let plan = file.plan().unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    hash(Encoder::new(&plan, &mut arena).unwrap().encode("a running dog").hidden())
}

#[test]
fn a_plan_that_was_read_outlives_its_file() {
    let path = path("read");
    std::fs::write(&path, one_tower().bytes()).unwrap();
    let file = PlanFile::read(&path).unwrap();
    let before = encoded(&file);
    // Overwritten in place, then cut: a mapped one would change, and then end the program.
    std::fs::write(&path, vec![0xff; one_tower().bytes().len()]).unwrap();
    assert_eq!(encoded(&file), before);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(encoded(&file), before);
    std::fs::remove_file(&path).unwrap();
    assert!(PlanFile::read(&path).is_err());
}

#[test]
fn a_mapped_plan_is_the_file() {
    let path = path("mapped");
    std::fs::write(&path, one_tower().bytes()).unwrap();
    // SAFETY: the file is this test's own, and stays as it is.
    let file = unsafe { PlanFile::map(&path) }.unwrap();
    assert!(file.bytes() == one_tower().bytes());
    assert_eq!(encoded(&file), encoded(&one_tower()));
    drop(file);
    std::fs::remove_file(path).unwrap();
}
