//! PEFT's adapters: a folder, or a file with its `adapter_config.json` beside it.

use super::*;

/// PEFT's keys with transformers 5's names.
fn key(module: &str, part: &str) -> String {
    format!("base_model.model.{module}.lora_{}.weight", if part == "up" { "B" } else { "A" })
}

/// Writes an adapter's folder with that configuration.
fn adapter(tensors: &[Named], config: &str, scratch: &Scratch) -> PathBuf {
    let folder = scratch.path().join("adapter");
    write(&folder.join("adapter_model.safetensors"), tensors);
    write_text(&folder.join("adapter_config.json"), config);
    folder
}

#[test]
fn each_module_has_its_own_rank_and_alpha() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let (query, fc1, fc2) = (CHANGES[0], CHANGES[4], CHANGES[5]);
    let config = |root: bool| {
        format!(
            r#"{{"peft_type": "LORA", "lora_alpha": 8, "r": 4, "use_rslora": {root}, "fan_in_fan_out": true,
                 "rank_pattern": {{"fc2": 2}}, "alpha_pattern": {{"^encoder.layers.2.mlp.fc1": 6, "mlp.fc2": 3}}}}"#
        )
    };
    let mut tensors = lora(&[query, fc1], None, key);
    let [up, down] = matrices(&fc2, 2);
    tensors.extend([up.called(key(fc2.0, "up")), down.called(key(fc2.0, "down"))]);
    for (root, factors) in [(false, [2.0, 1.5, 1.5]), (true, [4.0, 3.0, 3.0 / 2f64.sqrt()])] {
        let mut expected = (*tower).clone();
        for ((change, rank), factor) in [(query, 4), (fc1, 4), (fc2, 2)].iter().zip(factors) {
            add(&mut expected, &format!("text_model.{}.weight", change.0), factor, &product(change, *rank));
        }
        let expected = encoded(&write_component(&scratch.path().join("merged"), &expected), &scratch);
        let folder = adapter(&tensors, &config(root), &scratch);
        let error = error_against(&expected, &model, (&folder, 1.0), &scratch);
        assert!(error < 1e-6, "use_rslora {root}: {error:e}");
    }
}

/// `lora_bias`, and a token embedding, whose matrices lie transposed (`lora_embedding_A` is `[rank, vocabulary]`).
#[test]
fn biases_and_embeddings_are_merged() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let fc1 = CHANGES[4];
    let (a, b) = (Named::arbitrary("a", &[RANK, VOCABULARY]), Named::arbitrary("b", &[64, RANK]));
    let bias = Named::arbitrary("bias", &[128]);
    let mut tensors = lora(&[fc1], None, key);
    tensors.push(bias.clone().called(format!("base_model.model.{}.lora_B.bias", fc1.0)));
    let token = "base_model.model.embeddings.token_embedding.lora_embedding";
    tensors.extend([a.clone().called(format!("{token}_A")), b.clone().called(format!("{token}_B"))]);
    let mut expected = (*tower).clone();
    add(&mut expected, "text_model.encoder.layers.2.mlp.fc1.weight", 0.5, &product(&fc1, RANK));
    let delta: Vec<f64> = bias.values().into_iter().map(f64::from).collect();
    add(&mut expected, "text_model.encoder.layers.2.mlp.fc1.bias", 0.5, &delta);
    let (a, b) = (a.values(), b.values());
    let at = |token: usize, column: usize| {
        (0..RANK).map(|r| f64::from(a[r * VOCABULARY + token]) * f64::from(b[column * RANK + r])).sum()
    };
    let delta: Vec<f64> = (0..VOCABULARY * 64).map(|index| at(index / 64, index % 64)).collect();
    add(&mut expected, "text_model.embeddings.token_embedding.weight", 0.5, &delta);
    let expected = encoded(&write_component(&scratch.path().join("merged"), &expected), &scratch);
    let folder = adapter(&tensors, r#"{"lora_alpha": 2, "r": 4, "lora_bias": true}"#, &scratch);
    let error = error_against(&expected, &model, (&folder, 1.0), &scratch);
    assert!(error < 1e-6, "{error:e}");
}

#[test]
fn adapters_that_are_no_plain_lora_of_a_text_encoder_are_refused() {
    let scratch = Scratch::new();
    let tensors = lora(&CHANGES, None, key);
    let refusal = |folder: &Path| format!("{:#}", LoraFile::read(folder, 1.0).expect_err("a refusal"));
    for (config, said) in [
        ("[]", "JSON object"),
        (r#"{"peft_type": "IA3"}"#, "IA3"),
        (r#"{"r": "4"}"#, "expected a number"),
        (r#"{"peft_type": "LORA", "r": 4}"#, "lora_alpha"),
        (r#"{"peft_type": "ADALORA", "lora_alpha": 8, "r": 4}"#, "ADALORA"),
        (r#"{"lora_alpha": 8, "r": 4, "bias": "all"}"#, "bias"),
        (r#"{"lora_alpha": 8, "r": 4, "use_dora": true}"#, "use_dora"),
        (r#"{"lora_alpha": 8, "r": 4, "modules_to_save": ["text_projection"]}"#, "modules_to_save"),
        (r#"{"lora_alpha": 8, "r": 8}"#, "rank 8"),
        (
            r#"{"lora_alpha": 8, "r": 4, "auto_mapping": {"base_model_class": "CLIPVisionModel"}}"#,
            "image encoder",
        ),
    ] {
        let error = refusal(&adapter(&tensors, config, &scratch));
        assert!(error.contains(said) && error.contains("adapter"), "{config}: {error}");
    }
    // The configuration says it better than the keys that come of it.
    let mut whole = tensors.clone();
    whole.push(Named::arbitrary("base_model.model.encoder.layers.0.mlp.fc1.base_layer.bias", &[128]));
    let error = refusal(&adapter(&whole, r#"{"lora_alpha": 8, "r": 4, "bias": "all"}"#, &scratch));
    assert!(error.contains("bias is \"all\""), "{error}");
    // The strength is in the configuration only.
    let lonely = write(&scratch.path().join("lonely.safetensors"), &tensors);
    let error = refusal(&lonely);
    assert!(error.contains("adapter_config.json") && error.contains("lonely.safetensors"), "{error}");
    // Folders that hold something else.
    let folder = scratch.path().join("training");
    adapter(&tensors, "{}", &scratch);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::rename(scratch.path().join("adapter"), folder.join("text_encoder")).unwrap();
    let error = refusal(&folder);
    assert!(
        error.contains("adapter_model.safetensors") && error.contains("training/text_encoder"),
        "{error}"
    );
    let old = scratch.path().join("old");
    write_text(&old.join("adapter_config.json"), "{}");
    std::fs::write(old.join("adapter_model.bin"), b"PK\x03\x04").unwrap();
    let error = refusal(&old);
    assert!(error.contains("adapter_model.bin") && error.contains("convert"), "{error}");
}
