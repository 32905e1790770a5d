//! Any header of a safetensors file, with and without a configuration beside it: refused, or a model of finite sizes.
#![no_main]

mod file;

use cliptext_compiler::progress::Progress;
use cliptext_compiler::source::image;
use file::{Folder, parts, safetensors, spec};
use libfuzzer_sys::fuzz_target;

const CONFIG: &[u8] = include_bytes!("../../tests/fixtures/images/clip/config.json");

/// Bytes behind the header: what the small CLIP in the seeds has.
const DATA: usize = 90_000;

thread_local! {
    static FOLDER: Folder = Folder::new();
}

fuzz_target!(|data: &[u8]| {
    let &[configured, less, ref data @ ..] = data else { return };
    let [header, config] = parts(data);
    FOLDER.with(|folder| {
        let data = DATA - 64 * usize::from(less);
        let path = folder.write("model.safetensors", &safetensors(header, data));
        folder.write("config.json", if config.is_empty() { CONFIG } else { config });
        let path = if configured % 2 == 1 { folder.path().to_owned() } else { path };
        let progress = Progress::new(true);
        // Each error names the file.
        if let Err(error) = image::open(&path, None, &progress) {
            told(&error, folder);
        }
        match spec(path).load(&progress) {
            Ok(loaded) => assert!(loaded.towers.iter().all(|tower| tower.model.width() > 0)),
            Err(error) => told(&error, folder),
        }
    });
});

fn told(error: &anyhow::Error, folder: &Folder) {
    let said = format!("{error:#}");
    assert!(said.contains(folder.path().to_str().expect("a plain name")), "no file is named: {said}");
}
