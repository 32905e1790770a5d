//! What is no LoRA of a CLIP text encoder, or is one that can't be merged whole.

use cliptext_compiler::ir::Pooled;
use cliptext_compiler::preset::{Choice, Hidden};

use super::*;

const FC1: &str = "lora_te_text_model_encoder_layers_0_mlp_fc1";

fn named(part: &str, shape: &[usize]) -> Named {
    Named::arbitrary(format!("{FC1}{part}"), shape)
}

fn up_and_down() -> [Named; 2] {
    [named(".lora_up.weight", &[128, 4]), named(".lora_down.weight", &[4, 64])]
}

/// Beside a sound LoRA in the same file: never is a layer merged in part.
#[test]
fn other_methods_are_refused_by_name() {
    let scratch = Scratch::new();
    for (part, shape, said) in [
        (".lora_mid.weight", &[4, 4, 3, 3][..], "lora_mid"),
        (".hada_w1_a", &[4, 4], "LoHa"),
        (".lokr_w1", &[4, 4], "LoKr"),
        (".dora_scale", &[1, 64], "DoRA"),
        (".lora_magnitude_vector.weight", &[64], "DoRA"),
        (".lora_magnitude_vector.default.weight", &[64], "DoRA"),
        (".oft_blocks", &[4, 4, 4], "OFT"),
        (".boft_R", &[4, 4, 4], "BOFT"),
        (".a1.weight", &[4, 4], "GLoRA"),
        (".bm.weight", &[4, 4], "GLoRA"),
        (".on_input", &[1], "IA3"),
        (".ia3_l", &[64], "IA3"),
        (".lambda_layer", &[4], "T-LoRA"),
        (".lora_E", &[4, 1], "AdaLoRA"),
        (".vera_lambda_b", &[4], "VeRA"),
        (".set_weight", &[128, 64], "set_weight"),
    ] {
        let [up, down] = up_and_down();
        let error = refusal(&[up, down, named(part, shape)], &scratch);
        assert!(error.contains(said) && error.contains(part), "{said}: {error}");
    }
}

#[test]
fn keys_that_are_not_understood_are_refused() {
    let scratch = Scratch::new();
    for key in [
        "lora_te_text_model_encoder_layers_0_mlp_fc9.lora_up.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_left.weight",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.base_layer.weight",
        "conditioner_embedders_0_transformer_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
    ] {
        let [up, down] = up_and_down();
        let error = refusal(&[up, down, Named::arbitrary(key, &[4, 4])], &scratch);
        assert!(error.contains(key) && error.contains("1 of its keys"), "{error}");
    }
}

#[test]
fn broken_files_are_refused() {
    let scratch = Scratch::new();
    let [up, down] = up_and_down();
    let of_two = || up.clone().called("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight");
    for (tensors, said) in [
        (vec![up.clone()], "stands alone"),
        (vec![down.clone()], "stands alone"),
        (vec![named(".alpha", &[])], "stands alone"),
        (vec![named(".lora_B.bias", &[128])], "stands alone"),
        (vec![named(".lora_embedding_A", &[4, 64])], "stands alone"),
        (vec![up.clone(), named(".lora_down.weight", &[3, 64])], "4 columns"),
        (vec![up.clone(), named(".lora_down.weight", &[4, 64, 3, 3])], "[4, 64, 3, 3]"),
        (vec![up.clone(), down.clone(), named(".alpha", &[2])], "one number, found 2"),
        (vec![up.clone(), of_two()], "two LoRAs"),
        (
            [
                up_and_down(),
                up_and_down().map(|tensor| tensor.called_with(|key| key.replace("_te_", "_te1_"))),
            ]
            .concat(),
            "two LoRAs",
        ),
        (
            ["lora_A.one", "lora_A.two", "lora_B.one", "lora_B.two"]
                .map(|part| {
                    let module = "text_encoder.text_model.encoder.layers.0.mlp.fc1";
                    Named::arbitrary(format!("{module}.{part}.weight"), &[4, 4])
                })
                .to_vec(),
            "two LoRAs",
        ),
        (
            vec![Named::f32(up.name.clone(), &[1, 1], &[f32::INFINITY]), named(".lora_down.weight", &[1, 1])],
            "inf",
        ),
        (vec![up.clone(), down.clone(), Named::f32(format!("{FC1}.alpha"), &[], &[f32::NAN])], "NaN"),
        (vec![Named::f32(format!("{FC1}.diff_b"), &[1], &[f32::NAN])], "NaN"),
    ] {
        let error = refusal(&tensors, &scratch);
        assert!(error.contains(said) && error.contains("fc1"), "{said}: {error}");
    }
    // Finite matrices whose product is not.
    let model = write_component(&scratch.path().join("model"), &like_l());
    let huge = |part: &str, shape: &[usize]| {
        Named::f32(format!("{FC1}{part}"), shape, &vec![1e30; shape.iter().product()])
    };
    let tensors = [huge(".lora_up.weight", &[128, 4]), huge(".lora_down.weight", &[4, 64])];
    let file = write(&scratch.path().join("huge.safetensors"), &tensors);
    let error = refused(&with(&model, &[(&file, 1.0)], &scratch));
    assert!(
        error.contains("huge.safetensors") && error.contains(FC1) && error.contains("infinite"),
        "{error}"
    );
    // Given in place of a model, it is told apart.
    let file = write(&scratch.path().join("lora.safetensors"), &[up, down]);
    let error = refused(&job(&file, &scratch));
    assert!(error.contains("--lora"), "{error}");
}

/// Of other networks alone there is nothing to merge; beside a text encoder's keys they are counted.
#[test]
fn other_networks_are_called_by_their_names() {
    let scratch = Scratch::new();
    for (key, said) in [
        ("lora_unet_down_blocks_0.lora_up.weight", "1 keys of other networks (UNet"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight", "1 keys of a T5"),
        ("text_encoder_3.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", "1 keys of a T5"),
        ("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", "1 keys of a T5"),
        ("lora_prior_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "Stable Cascade"),
        ("lora_te_layers_0_self_attn_q_proj.lora_up.weight", "a language model"),
        ("base_model.model.vision_model.encoder.layers.0.mlp.fc1.lora_A.weight", "image encoder"),
    ] {
        let other = Named::arbitrary(key, &[4, 4]);
        let error = refusal(std::slice::from_ref(&other), &scratch);
        assert!(error.contains(said) && error.contains("nothing to merge"), "{said}: {error}");
        let [up, down] = up_and_down();
        let file = write(&scratch.path().join("mixed.safetensors"), &[up, down, other]);
        let notes = read(&file, 1.0).notes;
        assert!(notes.len() == 1 && notes[0].contains(said), "{said}: {notes:?}");
    }
}

/// Changes to layers that the outputs don't need, or that are not there, change no number: they are left out, and told.
#[test]
fn what_the_model_does_not_have_is_told() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    let mut tensors = lora(&CHANGES, None, kohya("lora_te_"));
    tensors.extend(lora(&CHANGES[..1], None, |_, part| {
        format!("lora_te_text_model_encoder_layers_30_mlp_fc1.lora_{part}.weight")
    }));
    tensors.push(Named::arbitrary("lora_unet_down_blocks_0.lora_up.weight", &[4, 4]));
    let file = write(&scratch.path().join("deep.safetensors"), &tensors);
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_cliptext"))
        .arg("compile")
        .arg(&model)
        .arg("--vocab")
        .arg(merges())
        .arg("--lora")
        .arg(format!("{}:0.5", file.display()))
        .arg("-o")
        .arg(scratch.path().join("x.plan"))
        .output()
        .unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{told}");
    for part in ["layers_30_mlp_fc1", "1 changes", "1 keys of other networks"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Changes to the third layer are left out with it.
    let choice = Choice { hidden: Some(Hidden::After(2)), pooled: Some(Pooled::None), ..Choice::default() };
    let short = compiled(&with_choice(with(&model, &[(&file, 1.0)], &scratch), choice));
    assert_eq!(short.report.towers[0].layers, 2);
    assert!(!short.bytes().is_empty());
}
