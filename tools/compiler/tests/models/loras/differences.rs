//! Whole differences of weights and biases (LyCORIS Full and norms, ComfyUI's extracted LoRAs), and PEFT's changes of biases and
//! embeddings: all are sums, and all are merged.

use super::*;

/// A tensor of the tower, and what of it a file holds: the key, and the values as they lie there.
struct Difference {
    tensor: String,
    key: String,
    shape: Vec<usize>,
}

fn difference(tensor: &str, key: &str, shape: &[usize]) -> Difference {
    Difference { tensor: format!("text_model.{tensor}"), key: key.into(), shape: shape.to_vec() }
}

#[test]
fn differences_of_every_tensor_are_added() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let te = "lora_te_text_model";
    let comfy = "text_encoders.clip_l.transformer.text_model";
    let all = [
        difference(
            "encoder.layers.0.mlp.fc1.weight",
            &format!("{te}_encoder_layers_0_mlp_fc1.diff"),
            &[128, 64],
        ),
        difference("encoder.layers.0.mlp.fc1.bias", &format!("{te}_encoder_layers_0_mlp_fc1.diff_b"), &[128]),
        difference(
            "encoder.layers.0.self_attn.q_proj.bias",
            &format!("{te}_encoder_layers_0_self_attn_q_proj.diff_b"),
            &[64],
        ),
        difference(
            "encoder.layers.1.layer_norm1.weight",
            &format!("{te}_encoder_layers_1_layer_norm1.w_norm"),
            &[64],
        ),
        difference(
            "encoder.layers.1.layer_norm1.bias",
            &format!("{te}_encoder_layers_1_layer_norm1.b_norm"),
            &[64],
        ),
        difference(
            "encoder.layers.2.layer_norm2.weight",
            &format!("{te}_encoder_layers_2_layer_norm2.diff"),
            &[64],
        ),
        difference(
            "encoder.layers.2.layer_norm2.bias",
            &format!("{te}_encoder_layers_2_layer_norm2.diff_b"),
            &[64],
        ),
        difference("final_layer_norm.weight", &format!("{te}_final_layer_norm.w_norm"), &[64]),
        difference("final_layer_norm.bias", &format!("{te}_final_layer_norm.b_norm"), &[64]),
        difference(
            "embeddings.token_embedding.weight",
            &format!("{comfy}.embeddings.token_embedding.diff"),
            &[VOCABULARY, 64],
        ),
        difference(
            "embeddings.position_embedding.weight",
            &format!("{comfy}.embeddings.position_embedding.diff"),
            &[77, 64],
        ),
    ];
    let plain = encoded(&model, &scratch);
    for one in &all {
        let values = Named::arbitrary(one.key.clone(), &one.shape);
        let mut expected = (*tower).clone();
        let delta: Vec<f64> = values.values().into_iter().map(f64::from).collect();
        add(&mut expected, &one.tensor, 0.25, &delta);
        let expected = encoded(&write_component(&scratch.path().join("merged"), &expected), &scratch);
        assert!(relative_error(&expected.0, &plain.0) > 1e-4, "{} shows", one.key);
        let file = write(&scratch.path().join("diff.safetensors"), std::slice::from_ref(&values));
        let error = error_against(&expected, &model, (&file, 0.25), &scratch);
        assert!(error < 1e-6, "{}: {error:e}", one.key);
    }
    // Beside a product of the same layer.
    let change: Change = ("encoder.layers.0.mlp.fc1", [128, 64]);
    let mut tensors = lora(&[change], Some(2.0), kohya("lora_te_"));
    let bias = Named::arbitrary("lora_te_text_model_encoder_layers_0_mlp_fc1.diff_b", &[128]);
    tensors.push(bias.clone());
    let mut expected = (*tower).clone();
    add(&mut expected, "text_model.encoder.layers.0.mlp.fc1.weight", 0.25, &product(&change, RANK));
    let delta: Vec<f64> = bias.values().into_iter().map(f64::from).collect();
    add(&mut expected, "text_model.encoder.layers.0.mlp.fc1.bias", 0.5, &delta);
    let expected = encoded(&write_component(&scratch.path().join("merged"), &expected), &scratch);
    let file = write(&scratch.path().join("both.safetensors"), &tensors);
    assert!(error_against(&expected, &model, (&file, 0.5), &scratch) < 1e-6);
}

/// The projection of a model that has one, as a product and as a difference.
#[test]
fn the_projection_is_changed_too() {
    let scratch = Scratch::new();
    let tower = like_h();
    let model = write_component(&scratch.path().join("model"), &tower);
    let change: Change = ("text_projection", [96, 128]);
    let product = product(&change, RANK);
    let mut expected = (*tower).clone();
    add(&mut expected, "text_projection.weight", 1.0, &product);
    let expected = encoded(&write_component(&scratch.path().join("merged"), &expected), &scratch);
    let plain = lora(&[change], None, |module, part| format!("lora_te_{module}.lora_{part}.weight"));
    let values: Vec<f32> = product.iter().map(|&value| value as f32).collect();
    let whole = vec![Named::f32("clip_l.text_projection.diff", &[96, 128], &values)];
    for tensors in [plain, whole] {
        let file = write(&scratch.path().join("lora.safetensors"), &tensors);
        let error = error_against(&expected, &model, (&file, 1.0), &scratch);
        assert!(error < 1e-5, "{}: {error:e}", tensors[0].name);
    }
}

#[test]
fn differences_of_other_sizes_are_refused() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    for (key, shape, said) in [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.diff", &[64, 128][..], "64 × 128"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.diff_b", &[64], "a bias of 64, the model's has 128"),
        ("lora_te_text_model_final_layer_norm.w_norm", &[63], "1 × 63"),
        ("lora_te_text_model_embeddings_position_embedding.diff", &[248, 64], "248 × 64"),
        ("lora_te_text_model_embeddings_position_embedding.diff_b", &[64], "the model's has 0"),
    ] {
        let file = write(&scratch.path().join("diff.safetensors"), &[Named::arbitrary(key, shape)]);
        let error = refused(&with(&model, &[(&file, 1.0)], &scratch));
        assert!(error.contains(said) && error.contains(key) && error.contains("another model"), "{error}");
    }
}
