//! Any header of a LoRA, as a file or with PEFT's settings: refused, or merged into a small model.
#![no_main]

mod file;

use cliptext_compiler::edit::lora::LoraFile;
use cliptext_compiler::ir::TextModel;
use file::{Folder, parts, safetensors, small_model};
use libfuzzer_sys::fuzz_target;

/// Bytes behind the header: what the LoRAs in the seeds have.
const DATA: usize = 10_000;

thread_local! {
    static FOLDER: Folder = Folder::new();
    static MODEL: TextModel = small_model();
}

fuzz_target!(|data: &[u8]| {
    let &[weight, less, ref data @ ..] = data else { return };
    let weight = f32::from(weight as i8) / 16.0;
    let [header, settings] = parts(data);
    FOLDER.with(|folder| {
        let file = safetensors(header, DATA - 16 * usize::from(less));
        let path = if settings.is_empty() {
            folder.write("lora.safetensors", &file)
        } else {
            folder.write("adapter_config.json", settings);
            folder.write("adapter_model.safetensors", &file);
            folder.path().to_owned()
        };
        let Ok(lora) = LoraFile::read(&path, weight) else { return };
        assert!(!lora.slots().is_empty());
        MODEL.with(|model| {
            let mut merged = model.clone();
            if lora.merge(&mut merged).is_ok() {
                assert_eq!(merged.width(), model.width());
            }
        });
    });
});
