//! Any tokenizer's files: refused, or a table that the runtime reads.
#![no_main]

mod file;

use cliptext::tokenizer::{Padding, Tokenizer};
use cliptext_compiler::vocabulary::{VocabularySource, build};
use file::{Folder, parts};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = [
    "tokenizer.json",
    "merges.txt",
    "vocab.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
];
const MERGES: &[u8] = include_bytes!("../../tests/fixtures/tokenizer/merges-86.txt");

thread_local! {
    static FOLDER: Folder = Folder::new();
}

fuzz_target!(|data: &[u8]| {
    let &[which, alone, ref data @ ..] = data else { return };
    let contents: [&[u8]; NAMES.len()] = parts(data);
    let text = String::from_utf8_lossy(data);
    FOLDER.with(|folder| {
        for (at, (name, content)) in NAMES.iter().zip(contents).enumerate() {
            let _ = std::fs::remove_file(folder.path().join(name));
            if which >> at & 1 == 1 {
                let content = if *name == "merges.txt" && content.is_empty() { MERGES } else { content };
                folder.write(name, content);
            }
        }
        let first = NAMES[usize::from(which >> 6) % 2];
        let path = if alone % 2 == 1 { folder.path().join(first) } else { folder.path().to_owned() };
        let Ok(table) = build(VocabularySource::Path(path), &[]) else { return };
        let read = table.read(|vocabulary| {
            assert_eq!(vocabulary.size() as usize, table.size);
            let Ok(tokenizer) = Tokenizer::new(vocabulary, 16, Padding::End) else { return };
            assert!(tokenizer.encode(&text).ids().iter().all(|&id| (id as usize) < table.size));
        });
        read.expect("a table that was built is read");
    });
});
