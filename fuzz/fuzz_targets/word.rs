//! Any header of a textual inversion: refused, or words of a small model.
#![no_main]

mod file;

use cliptext_compiler::edit::words::{Inversion, name_and_file};
use cliptext_compiler::ir::TextModel;
use file::{Folder, parts, safetensors, small_model};
use libfuzzer_sys::fuzz_target;

/// Bytes behind the header: vectors as wide as the small model, and as the two of SDXL.
const DATA: usize = 20_000;

thread_local! {
    static FOLDER: Folder = Folder::new();
    static MODEL: TextModel = small_model();
}

fuzz_target!(|data: &[u8]| {
    let &[less, ref data @ ..] = data else { return };
    let [header, name] = parts(data);
    let Ok(name) = str::from_utf8(name) else { return };
    let _ = name_and_file(name);
    FOLDER.with(|folder| {
        let path = folder.write("word.safetensors", &safetensors(header, DATA - 64 * usize::from(less)));
        let Ok(word) = Inversion::read(name, &path) else { return };
        MODEL.with(|model| {
            let mut longer = model.clone();
            let rows = longer.token_embedding.rows;
            if word.append(&mut longer).is_ok() {
                assert!(longer.token_embedding.rows > rows);
            }
        });
    });
});
