//! `include/cliptext.h` is what `cbindgen` makes of the sources.

use std::path::Path;

use cbindgen::{Builder, Config};

/// The sources in the order that a reader of the header wants.
const SOURCES: [&str; 14] = [
    "status",
    "file",
    "plan",
    "open",
    "tokenize",
    "team",
    "encoder",
    "embedding",
    "encode",
    "arrays",
    "batch",
    "prompt",
    "pack",
    "pack_file",
];

#[test]
fn the_header_is_that_of_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::from_file(folder.join("cbindgen.toml")).expect("a configuration");
    let mut builder = Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(folder.join("src").join(name).with_extension("rs"));
    }
    let mut made = Vec::new();
    builder.generate().expect("sources that cbindgen reads").write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");
    let path = folder.join("../../include/cliptext.h");
    if std::env::var_os("CLIPTEXT_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("a header that can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "include/cliptext.h is not what the sources say: \
         CLIPTEXT_WRITE_HEADER=1 cargo test --release -p cliptext-ffi --test header"
    );
    // Every function that C can call is declared, and the other way round.
    let mut exported = 0;
    for entry in std::fs::read_dir(folder.join("src")).expect("the sources") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a source");
        for after in text.split("#[unsafe(no_mangle)]").skip(1) {
            let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a function");
            assert!(made.contains(&format!("{name}(")), "{name} is not in the header");
            exported += 1;
        }
    }
    let declared = made.lines().filter(|line| line.contains(" cliptext_") && line.contains('(')).count();
    assert!(exported > 10 && declared >= exported, "{exported} exported, {declared} declared");
}
