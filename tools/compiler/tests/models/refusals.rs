//! What is no text encoder, or not a whole one: refused by file, with what was found and what to try.

use std::path::{Path, PathBuf};
use std::process::Command;

use cliptext_synthetic::{Tower, checkpoint};
use cliptext_test_support::{Scratch, export_file, fixtures};
use safetensors::Dtype;

use super::common::*;

fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn other_networks_are_told_apart() {
    let cases: [(&str, &[&str], &[&str]); 10] = [
        ("unet", &["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], &["UNet", "text_encoder"]),
        ("flux", &["double_blocks.0.img_attn.qkv.weight"], &["diffusion transformer"]),
        (
            "pruned",
            &["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"],
            &["UNet", "holds everything"],
        ),
        (
            "vae",
            &["encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"],
            &["VAE", "text_encoder"],
        ),
        ("t5", &["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"], &["T5", "text_encoder"]),
        ("vision", &["vision_model.encoder.layers.0.mlp.fc1.weight"], &["vision tower"]),
        (
            "vision-5",
            &["embeddings.patch_embedding.weight", "encoder.layers.0.mlp.fc1.weight"],
            &["vision tower"],
        ),
        ("control", &["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x"], &["ControlNet"]),
        ("headless", &["text_model.encoder.layers.0.mlp.fc1.weight"], &["token embedding", "missing"]),
        (
            "other",
            &["bert.encoder.layer.0.x", "a", "b", "c", "d", "e", "f", "g", "h"],
            &["token_embedding.weight"],
        ),
    ];
    let scratch = Scratch::new();
    let empty = refused(&job(&write(&scratch.path().join("none.safetensors"), &[]), &scratch));
    assert!(empty.ends_with("there is no tensor in it"), "{empty}");
    for (name, tensors, said) in cases {
        let tensors: Vec<Named> = tensors.iter().map(|name| Named::arbitrary(*name, &[2, 2])).collect();
        let file = write(&scratch.path().join(format!("{name}.safetensors")), &tensors);
        let error = refused(&job(&file, &scratch));
        says(&error, said);
        says(
            &error,
            &[&format!("{name}.safetensors"), "no text encoder", &format!("{} tensors", tensors.len())],
        );
    }
}

#[test]
fn other_formats_are_told_apart() {
    let scratch = Scratch::new();
    let cases: [(&str, &[u8], &[&str]); 8] = [
        (
            "sd.ckpt",
            b"PK\x03\x04\0\0archive/data.pkl",
            &["PyTorch", "run code", "save_file", "weights_only=True"],
        ),
        ("pytorch_model.bin", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", &["pickle", "save_file"]),
        ("clip-q8.gguf", b"GGUF\x03\0\0\0\0\0\0\0", &["GGUF", "safetensors or ONNX"]),
        (
            "pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            &["git lfs pull"],
        ),
        ("page.safetensors", b"\n <!DOCTYPE html><html>", &["web page", "download"]),
        ("empty.safetensors", b"", &["empty"]),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", &["TensorFlow"]),
        ("sd15.plan", b"cliptext\x01\0\0\0", &["compiled already"]),
    ];
    for (name, bytes, said) in cases {
        let error = refused(&job(&scratch.write(name, bytes), &Scratch::new()));
        says(&error, said);
        says(&error, &[name]);
    }
}

/// A file's name and what is in it.
type TextFile<'a> = (&'a str, &'a str);

fn folder(files: &[TextFile<'_>]) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let folder = scratch.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    for (name, text) in files {
        write_text(&folder.join(name), text);
    }
    (scratch, folder)
}

#[test]
fn folders_without_a_text_encoder() {
    let config = checkpoint::config(&like_l().options);
    let cases: [(&[TextFile<'_>], &[&str]); 9] = [
        (&[], &["no text encoder here", "model.safetensors", "model_index.json"]),
        (&[("config.json", &config), ("pytorch_model.bin", "\u{80}")], &["pytorch_model.bin", "save_file"]),
        (
            &[("config.json", r#"{"_class_name": "UNet2DConditionModel"}"#)],
            &["UNet2DConditionModel", "text_encoder"],
        ),
        (&[("config.json", r#"{"_class_name": "AutoencoderKL"}"#)], &["AutoencoderKL", "text_encoder"]),
        (
            &[("config.json", r#"{"model_type": "t5"}"#), ("model.safetensors", "x")],
            &["\"t5\"", "text_encoder"],
        ),
        (&[("config.json", r#"{"model_type": "clip_vision_model"}"#)], &["clip_vision_model"]),
        (&[("config.json", "{"), ("model.safetensors", "x")], &["config.json", "JSON"]),
        (
            &[(
                "model_index.json",
                r#"{"_class_name": "PixArtPipeline", "text_encoder": ["transformers", "T5EncoderModel"]}"#,
            )],
            &["PixArtPipeline", "T5EncoderModel"],
        ),
        (
            &[(
                "model_index.json",
                r#"{"_class_name": "P", "text_encoder": ["transformers", "CLIPTextModel"]}"#,
            )],
            &["text_encoder", "no such folder"],
        ),
    ];
    for (files, said) in cases {
        let (scratch, folder) = folder(files);
        says(&refused(&job(&folder, &scratch)), said);
    }
    let (scratch, several) = folder(&[("a.safetensors", ""), ("b.safetensors", "")]);
    says(&refused(&job(&several, &scratch)), &["a.safetensors", "b.safetensors", "give the file"]);
    says(&refused(&job(&several.join("c"), &scratch)), &["no such file"]);
}

/// A model's folder whose tensors and configuration are changed first.
fn changed(
    tower: &Tower,
    change: impl Fn(&mut Vec<Named>),
    config: impl Fn(&mut serde_json::Value),
) -> String {
    let scratch = Scratch::new();
    let folder = scratch.path().join("model");
    let mut tensors = hugging_face(tower, "");
    change(&mut tensors);
    write(&folder.join("model.safetensors"), &tensors);
    let mut fields = serde_json::from_str(&checkpoint::config(&tower.options)).unwrap();
    config(&mut fields);
    write_text(&folder.join("config.json"), &fields.to_string());
    let error = refused(&job(&folder, &scratch));
    assert!(!error.contains('\n'), "one sentence: {error}");
    error
}

#[test]
fn a_configuration_that_contradicts_the_tensors() {
    for (field, value, found) in [
        ("vocab_size", 601, "600"),
        ("hidden_size", 768, "128"),
        ("intermediate_size", 512, "128"),
        ("num_hidden_layers", 12, "3"),
        ("max_position_embeddings", 248, "77"),
        ("projection_dim", 97, "96"),
    ] {
        let error = changed(&like_h(), |_| {}, |config| config[field] = value.into());
        says(&error, &["config.json", field, &value.to_string(), found, "model.safetensors"]);
    }
    let error = changed(&like_h(), |_| {}, |config| config["num_attention_heads"] = 3.into());
    says(&error, &["width of 128", "3 heads"]);
    let error = changed(&like_h(), |_| {}, |config| config["num_attention_heads"] = 0.into());
    says(&error, &["0 heads"]);
    let error = changed(&like_h(), |_| {}, |config| config["hidden_act"] = "relu".into());
    says(&error, &["hidden_act", "relu", "quick_gelu"]);
    let error = changed(&like_h(), |_| {}, |config| config["layer_norm_eps"] = (-1).into());
    says(&error, &["layer_norm_eps"]);
    let error = changed(&like_h(), |_| {}, |config| config["hidden_size"] = "wide".into());
    says(&error, &["config.json", "wide"]);
    let error = changed(
        &like_l(),
        |_| {},
        |config| config["architectures"][0] = "CLIPTextModelWithProjection".into(),
    );
    says(&error, &["CLIPTextModelWithProjection", "text_projection.weight"]);
    let error = changed(&like_h(), |_| {}, |config| config["eos_token_id"] = 49407.into());
    says(&error, &["49407", "599", "--vocab"]);
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let remove =
        |part: &'static str| move |tensors: &mut Vec<Named>| tensors.retain(|t| !t.name.contains(part));
    let plain = |change: &dyn Fn(&mut Vec<Named>)| changed(&like_l(), change, |_| {});
    says(&plain(&remove("layers.1.")), &["layers", "0 to 2", "only 2", "missing"]);
    says(&plain(&remove("fc2.bias")), &["mlp.fc2.bias", "missing"]);
    says(&plain(&remove("layers.1.mlp.fc2.bias")), &["layers.1.mlp.fc2.bias"]);
    says(&plain(&remove("layers.2.self_attn")), &["layers.2.self_attn.q_proj", "and 4 more"]);
    says(&plain(&remove("position_embedding")), &["position_embedding.weight is missing"]);
    says(&plain(&remove("final_layer_norm")), &["final_layer_norm"]);
    says(&plain(&remove("encoder.layers")), &["no layers"]);
    says(&plain(&remove("token_embedding")), &["token embedding is not"]);

    let reshape = |part: &'static str, shape: &'static [usize]| {
        move |tensors: &mut Vec<Named>| {
            let tensor = tensors.iter_mut().find(|t| t.name.contains(part)).unwrap();
            *tensor = Named::arbitrary(tensor.name.clone(), shape);
        }
    };
    says(&plain(&reshape("0.mlp.fc2.weight", &[64, 127])), &["0.mlp.fc2.weight", "[64, 128]", "[64, 127]"]);
    says(&plain(&reshape("1.self_attn.q_proj.weight", &[64, 65])), &["q_proj", "[64, 64]", "[64, 65]"]);
    says(&plain(&reshape("0.mlp.fc1.bias", &[1])), &["fc1.bias", "[128]"]);
    says(&plain(&reshape("token_embedding.weight", &[600, 8, 8])), &["token_embedding.weight", "a matrix"]);
    says(&plain(&reshape("position_embedding.weight", &[77])), &["position_embedding.weight", "a matrix"]);
    says(&plain(&reshape("token_embedding.weight", &[0, 64])), &["vocab_size", "0"]);
    says(
        &plain(&reshape("position_embedding.weight", &[77, 63])),
        &["position_embedding.weight", "[77, 64]"],
    );
}

#[test]
fn values_that_are_no_weights() {
    let store = |dtype: Dtype| {
        move |tensors: &mut Vec<Named>| {
            let tensor = tensors.iter_mut().find(|t| t.name.contains("1.mlp.fc1.weight")).unwrap();
            tensor.dtype = dtype;
            tensor.bytes = vec![1; tensor.shape.iter().product::<usize>()];
        }
    };
    for (dtype, name) in [(Dtype::I8, "I8"), (Dtype::F8_E4M3, "F8_E4M3"), (Dtype::F8_E5M2, "F8_E5M2")] {
        let error = changed(&like_l(), store(dtype), |_| {});
        says(&error, &["model.safetensors", "layers.1.mlp.fc1.weight", name, "BF16"]);
    }
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let error = changed(
            &like_l(),
            |tensors| {
                let tensor = tensors.iter_mut().find(|t| t.name.contains("2.layer_norm1.bias")).unwrap();
                tensor.bytes[20..24].copy_from_slice(&value.to_le_bytes());
            },
            |_| {},
        );
        says(&error, &["layers.2.layer_norm1.bias", "value 5", name, "damaged"]);
    }
}

#[test]
fn files_that_were_cut_off() {
    let scratch = Scratch::new();
    let file = write(&scratch.path().join("whole.safetensors"), &hugging_face(&like_l(), ""));
    let bytes = std::fs::read(&file).unwrap();
    for length in [4, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        let cut = scratch.write("cut.safetensors", &bytes[..length]);
        says(&refused(&job(&cut, &Scratch::new())), &["cut.safetensors", "copy or download it again"]);
    }
    let longer = scratch.write("long.safetensors", &[&bytes[..], b"x"].concat());
    says(&refused(&job(&longer, &Scratch::new())), &["appended"]);
}

#[test]
fn widths_that_do_not_tell_the_heads() {
    let scratch = Scratch::new();
    let odd =
        cliptext_synthetic::generate(&cliptext_synthetic::Options { width: 48, heads: 1, ..small(64, 1, 5) });
    let file = write(&scratch.path().join("odd.safetensors"), &hugging_face(&odd, ""));
    says(&refused(&job(&file, &scratch)), &["odd.safetensors", "width of 48", "config.json"]);
    let odd =
        cliptext_synthetic::generate(&cliptext_synthetic::Options { width: 96, heads: 2, ..small(64, 1, 5) });
    let file = write(&scratch.path().join("odd.safetensors"), &hugging_face(&odd, ""));
    says(&refused(&job(&file, &scratch)), &["odd.safetensors", "width of 96", "config.json"]);
}

fn run(args: &[&Path]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cliptext")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_ends_with_1_or_2() {
    let scratch = Scratch::new();
    let unet = write(&scratch.path().join("unet.safetensors"), &[Named::arbitrary("down_blocks.0.x", &[2])]);
    let plan = scratch.path().join("x.plan");
    let compile = |more: &[&str]| {
        let fixed: [&Path; 4] = ["compile".as_ref(), &unet, "-o".as_ref(), &plan];
        run(&fixed.into_iter().chain(more.iter().map(Path::new)).collect::<Vec<_>>())
    };
    let (code, told, error) = compile(&[]);
    assert_eq!((code, told.as_str()), (1, ""));
    says(&error, &["cliptext: ", "unet.safetensors", "UNet"]);
    assert_eq!(compile(&["--lora", "/no/such.safetensors"]).0, 1);
    assert_eq!(compile(&["--embedding", "x=/no/such.safetensors"]).0, 1);
    for wrong in [
        &["--preset", "sd9"][..],
        &["--hidden", "first"],
        &["--hidden=-1"],
        &["--final-norm", "maybe"],
        &["--pooled", "max"],
        &["--pad", "one"],
        &["--context", "many"],
        &["--embedding", "x"],
        &["--embedding", "=x.safetensors"],
        &["--lora", "x.safetensors:NaN"],
        &["--tower"],
    ] {
        assert_eq!(compile(wrong).0, 2, "{wrong:?}");
    }
    assert!(!plan.exists());
    assert_eq!(run(&["inspect-model".as_ref(), &unet]).0, 1);
    assert_eq!(run(&["inspect-model".as_ref()]).0, 2);
}

/// What `inspect-model` tells of every kind, in words and as JSON.
#[test]
fn inspection_tells_what_is_there() {
    let scratch = Scratch::new();
    let folder = write_component(&scratch.path().join("model"), &like_h());
    let (code, told, _) = run(&["inspect-model".as_ref(), &folder]);
    assert_eq!(code, 0);
    says(
        &told,
        &["3 layers, width 128, 2 heads, GELU", "77 tokens of 600", "projects  to 96", "F32", "none found"],
    );
    let json = |path: &Path| -> serde_json::Value {
        let (code, told, error) = run(&["inspect-model".as_ref(), path, "--json".as_ref()]);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&told).unwrap()
    };
    let found = json(&folder);
    let file = folder.join("model.safetensors");
    assert_eq!(
        found,
        serde_json::json!({
            "path": folder, "kind": "a folder with a text encoder's weights", "preset": null, "notes": [],
            "towers": [{
                "name": "text_model", "file": file, "layers": 3, "width": 128, "heads": 2, "context": 77,
                "vocabulary": 600, "projection": 96, "activation": "GELU", "stored_as": "F32", "tokenizer": null,
            }],
        })
    );
    let checkpoint = [
        hugging_face(&like_l(), "conditioner.embedders.0.transformer."),
        open_clip(&like_h(), "conditioner.embedders.1.model."),
        others(),
    ]
    .concat();
    let checkpoint = json(&write(&scratch.path().join("xl.safetensors"), &checkpoint));
    assert_eq!((&checkpoint["preset"], checkpoint["towers"].as_array().unwrap().len()), (&"sdxl".into(), 2));
    assert_eq!(checkpoint["towers"][1]["name"], "conditioner.embedders.1.model");
    let graph = json(&export_file("proj.tf523-torch215-ts.op14.static.i64.hs", &scratch));
    assert_eq!((&graph["kind"], &graph["towers"][0]["projection"]), (&"an ONNX graph".into(), &8.into()));
    assert_eq!(graph["towers"][0]["stored_as"], serde_json::Value::Null);
    assert_eq!(run(&["inspect-model".as_ref(), &fixtures().join("refused/bert.onnx")]).0, 1);
}
