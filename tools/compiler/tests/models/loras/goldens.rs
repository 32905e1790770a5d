//! LoRAs as other programs saved them, against what transformers 5.24 computes with them (`tests/fixtures/make_loras.py`).

use cliptext_test_support::{Array, fixtures};

use super::*;

/// The file or folder, and the folder with what is right.
const LORAS: [(&str, &str); 10] = [
    // One adapter: PEFT's with transformers 5's names, OneTrainer's names, kohya's with integer alphas as diffusers converts them,
    // and kohya's with convolutions' shapes.
    ("peft-adapter", "peft-adapter"),
    ("peft-adapter/adapter_model.safetensors", "peft-adapter"),
    ("peft-adapter/adapter_config.json", "peft-adapter"),
    ("dotted.safetensors", "peft-adapter"),
    ("kohya-integer-alpha.safetensors", "peft-adapter"),
    ("four-dimensions.safetensors", "peft-adapter"),
    // PEFT: rank_pattern, alpha_pattern, lora_bias.
    ("patterns", "patterns"),
    // PEFT: an embedding, use_rslora.
    ("embedding", "embedding"),
    // diffusers: PEFT's settings in the header.
    ("diffusers", "diffusers"),
    // LyCORIS: whole differences of weights, biases and norms.
    ("lycoris/full.safetensors", "lycoris"),
];

#[test]
fn loras_of_other_programs_meet_their_goldens() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &cliptext_synthetic::generate(&zoo_sd()));
    let folder = fixtures().join("lora");
    let prompts: Vec<String> =
        serde_json::from_slice(&std::fs::read(folder.join("prompts.json")).unwrap()).unwrap();
    let plain = compiled(&Job { vocabulary: None, ..job(&model, &scratch) });
    for (name, golden) in LORAS {
        let golden = Array::read(&folder.join(golden).join("last_hidden_state.npy"));
        let golden: Vec<&[f32]> = golden.f32().chunks(golden.f32().len() / prompts.len()).collect();
        let plan =
            compiled(&Job { vocabulary: None, ..with(&model, &[(&folder.join(name), 1.0)], &scratch) });
        for (prompt, golden) in prompts.iter().zip(golden) {
            assert!(relative_error(&plain.encode(prompt).0, golden) > 1e-3, "{name} shows");
            let error = relative_error(&plan.encode(prompt).0, golden);
            assert!(error < 1e-5, "{name}: {prompt:?}: {error:e}");
        }
    }
}
