//! Writes the tokenizer's Unicode tables: `cargo run -p cliptext-unicode`.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/tokenizer/unicode/tables.rs");
    std::fs::write(path, cliptext_unicode::generate())
}
