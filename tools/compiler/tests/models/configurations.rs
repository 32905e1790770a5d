//! Configurations as programs wrote them over the years, and models that have none.

use std::path::{Path, PathBuf};
use std::process::Command;

use cliptext_compiler::import::safetensors::config::Config;
use cliptext_compiler::ir::Activation;
use cliptext_compiler::preset::{Choice, Preset};
use cliptext_compiler::source::{Source, Weights};
use cliptext_synthetic::{self as synthetic, Options, Tower, checkpoint, generate};
use cliptext_test_support::{Scratch, export_file, exports, fixtures};
use safetensors::Dtype;

use super::common::*;

/// The tower at a path, which has one, and the notes.
fn only(path: &Path) -> (Activation, usize, String) {
    let source = Source::open(path).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    let Weights::Tensors(named) = &source.towers[0].weights else { panic!("tensors") };
    (named.shape.activation, named.shape.layers, source.notes.join("\n"))
}

/// `make_configurations.py` made them with transformers.
#[test]
fn configurations_say_what_transformers_reads_in_them() {
    let text = std::fs::read_to_string(fixtures().join("configurations.json")).unwrap();
    let goldens: serde_json::Value = serde_json::from_str(&text).unwrap();
    let scratch = Scratch::new();
    let cases = goldens["cases"].as_array().unwrap();
    for case in cases {
        let (name, expected) = (&case["name"], &case["expected"]);
        let path = write_text(&scratch.path().join("config.json"), &case["config"].to_string());
        let found = Config::read(&path).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        for (field, value) in [
            ("vocabulary", found.vocabulary),
            ("width", found.width),
            ("mlp", found.mlp),
            ("layers", found.layers),
            ("heads", found.heads),
            ("context", found.context),
            ("projected", found.projected),
        ] {
            assert_eq!(expected[field], value, "{name}: {field}");
        }
        assert_eq!(expected["epsilon"].as_f64().unwrap() as f32, found.epsilon, "{name}");
        assert_eq!(expected["activation"], found.activation.to_string(), "{name}");
        // Where a configuration says nothing, the end token is the one that the vocabulary has.
        assert_eq!(expected["eos_token_id"], found.end_token.unwrap_or(49407), "{name}");
    }
    assert!(cases.len() >= 20);
}

#[test]
fn configurations_of_something_else() {
    let scratch = Scratch::new();
    for (config, said) in [
        (r#"{"architectures": ["BertModel"], "hidden_size": 64}"#, "no \"model_type\""),
        (r#"{"architectures": ["CLIPTextModel"]}"#, "no \"model_type\""),
        (r#"{"model_type": "clip_text_model", "eos_token_id": [1, 2]}"#, "eos_token_id is [1,2]"),
        (r#"{"model_type": "clip_text_model", "eos_token_id": -1}"#, "eos_token_id is -1"),
        ("[]", "expected a JSON object"),
    ] {
        let path = write_text(&scratch.path().join("config.json"), config);
        let error = format!("{:#}", Config::read(&path).expect_err("another model's"));
        assert!(error.contains("config.json") && error.contains(said), "{error}");
    }
}

fn whole_numbers(name: &str) -> Named {
    Named { dtype: Dtype::I64, bytes: 77u64.to_le_bytes().to_vec(), name: name.into(), shape: vec![] }
}

#[test]
fn activations_are_known_or_assumed_aloud() {
    let scratch = Scratch::new();
    let (l, wide) = (like_l(), like_big_g());
    let long = generate(&Options { positions: 248, ..small(64, 1, 31) });
    let (quick, gelu) = (Activation::QuickGelu, Activation::Gelu);
    let cases: [(&str, Vec<Named>, Activation, Option<&str>); 10] = [
        ("hf", hugging_face(&l, ""), quick, Some("--act gelu")),
        ("openai", open_clip(&l, ""), quick, Some("--act gelu")),
        ("parallel", open_clip(&l, "module."), quick, Some("--act gelu")),
        ("wide", open_clip(&wide, ""), gelu, Some("--act quick-gelu")),
        ("hf-wide", hugging_face(&wide, ""), gelu, Some("--act quick-gelu")),
        ("long", hugging_face(&long, ""), quick, None),
        ("archive", [open_clip(&l, ""), vec![whole_numbers("input_resolution")]].concat(), quick, None),
        ("sd1", hugging_face(&l, "cond_stage_model.transformer."), quick, None),
        ("sd2", open_clip(&l, "cond_stage_model.model."), gelu, None),
        ("clip_g", hugging_face(&l, "text_encoders.clip_g.transformer."), gelu, None),
    ];
    for (name, tensors, activation, told) in cases {
        let file = write(&scratch.path().join(format!("{name}.safetensors")), &tensors);
        let (found, _, notes) = only(&file);
        assert_eq!(found, activation, "{name}");
        match told {
            Some(option) => assert!(notes.contains(option) && notes.contains("assumed"), "{name}: {notes}"),
            None => assert_eq!(notes, "", "{name}"),
        }
    }
}

#[test]
fn act_says_which_activation_it_is() {
    let scratch = Scratch::new();
    let with = |activation| Choice { activation: Some(activation), ..Choice::default() };
    let gelu = generate(&Options { activation: synthetic::Activation::Gelu, ..small(64, 2, 41) });
    let folder = write_component(&scratch.path().join("folder"), &gelu);
    let expected = compiled(&job(&folder, &scratch));
    for tensors in [hugging_face(&gelu, ""), open_clip(&gelu, "")] {
        let file = write(&scratch.path().join("bare/gelu.safetensors"), &tensors);
        let said = compiled(&with_choice(job(&file, &scratch), with(Activation::Gelu)));
        assert!(said.bytes() == expected.bytes());
        assert!(compiled(&job(&file, &scratch)).bytes() != expected.bytes());
        assert_eq!(Source::open_as(&file, Some(Activation::Gelu)).unwrap().notes, [""; 0]);
    }
    // A configuration is overruled aloud; a graph has an activation of its own.
    let overruled = Source::open_as(&folder, Some(Activation::GeluTanh)).unwrap().notes.concat();
    assert!(
        overruled.contains("config.json: it says GELU; GELU by tanh is taken since --act"),
        "{overruled}"
    );
    let graph = export_file(&exports()[0], &scratch);
    let error = refused(&with_choice(job(&graph, &scratch), with(Activation::Gelu)));
    assert!(error.contains("--act") && error.contains("a graph has its own"), "{error}");

    let file = scratch.path().join("bare/gelu.safetensors");
    let inspect = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext"));
        let output = command.arg("inspect-model").arg(&file).args(more).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = inspect(&[]);
    assert!(code == 0 && told.contains("quick GELU") && told.contains("is assumed"), "{told}");
    let (code, told) = inspect(&["--act", "gelu-tanh"]);
    assert!(code == 0 && told.contains("GELU by tanh") && !told.contains("assumed"), "{told}");
    assert_eq!(inspect(&["--act", "relu"]).0, 2);
}

/// A configuration counts whatever all names begin with.
#[test]
fn a_prefix_before_every_name() {
    let scratch = Scratch::new();
    let tower = like_h();
    let folder = write_component(&scratch.path().join("plain"), &tower);
    let expected = compiled(&job(&folder, &scratch));
    let config = checkpoint::config(&tower.options);
    for (at, tensors) in [
        hugging_face(&tower, "module."),
        hugging_face(&tower, "_orig_mod.module."),
        open_clip(&tower, "module."),
        open_clip(&tower, "model.text."),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = scratch.path().join(format!("wrapped-{at}"));
        write(&folder.join("model.safetensors"), &tensors);
        write_text(&folder.join("config.json"), &config);
        assert!(compiled(&job(&folder, &scratch)).bytes() == expected.bytes(), "{at}");
    }
    // A whole CLIP, and a checkpoint, whose neighbour is another's configuration.
    let whole =
        [open_clip(&tower, "module."), vec![Named::arbitrary("module.visual.proj", &[4, 4])]].concat();
    let folder = scratch.path().join("whole");
    let file = write(&folder.join("whole.safetensors"), &whole);
    write_text(&folder.join("config.json"), &config);
    let source = Source::open(&file).unwrap();
    assert_eq!((source.preset, source.notes), (Some(Preset::Clip), vec![]));
    let checkpoint = [hugging_face(&tower, "cond_stage_model.transformer."), others()].concat();
    let file = write(&folder.join("checkpoint.safetensors"), &checkpoint);
    let notes = only(&file).2;
    assert!(notes.contains("config.json is not read") && notes.contains("a larger one"), "{notes}");
}

#[test]
fn fewer_layers_by_configuration_are_the_first_ones() {
    let scratch = Scratch::new();
    let tower = like_l();
    let folder = write_component(&scratch.path().join("all"), &tower);
    let mut config: serde_json::Value = serde_json::from_str(&checkpoint::config(&tower.options)).unwrap();
    config["num_hidden_layers"] = 2.into();
    write_text(&folder.join("config.json"), &config.to_string());
    let (_, layers, notes) = only(&folder);
    assert_eq!(layers, 2);
    assert!(notes.contains("num_hidden_layers is 2") && notes.contains("of the file's 3 layers"), "{notes}");
    let two = scratch.path().join("two");
    let mut tensors = hugging_face(&tower, "");
    tensors.retain(|tensor| !tensor.name.contains("layers.2."));
    write(&two.join("model.safetensors"), &tensors);
    write_text(&two.join("config.json"), &config.to_string());
    assert!(compiled(&job(&folder, &scratch)).bytes() == compiled(&job(&two, &scratch)).bytes());
    for layers in [0, 4] {
        config["num_hidden_layers"] = layers.into();
        write_text(&folder.join("config.json"), &config.to_string());
        assert!(refused(&job(&folder, &scratch)).contains(&format!("num_hidden_layers is {layers}")));
    }
}

/// Long-CLIP as its authors saved it: the trained rows are in a second table.
#[test]
fn long_clip_in_its_original_names() {
    let scratch = Scratch::new();
    let tower = generate(&Options { positions: 248, ..small(64, 2, 31) });
    let expected = compiled(&job(&write_component(&scratch.path().join("hf"), &tower), &scratch));
    let mut tensors = open_clip(&tower, "");
    let trained = tensors.iter().position(|tensor| tensor.name == "positional_embedding").unwrap();
    let (rows, width) = (tensors[trained].values(), 64);
    let noise = Named::arbitrary("noise", &[248, width]).values();
    let kept = 20 * width;
    let began = [&rows[..kept], &noise[kept..]].concat();
    let extended = [&noise[..kept], &rows[kept..]].concat();
    tensors[trained] = Named::f32("positional_embedding", &[248, width], &began);
    tensors.push(Named::f32("positional_embedding_res", &[248, width], &extended));
    let file = write(&scratch.path().join("longclip-L.safetensors"), &tensors);
    assert_eq!(only(&file).2, "", "nothing is assumed");
    assert!(compiled(&job(&file, &scratch)).bytes() == expected.bytes());

    tensors.pop();
    tensors.push(Named::arbitrary("positional_embedding_res", &[77, width]));
    let file = write(&scratch.path().join("short.safetensors"), &tensors);
    let error = refused(&job(&file, &scratch));
    assert!(error.contains("positional_embedding_res") && error.contains("[248, 64]"), "{error}");
}

#[test]
fn long_clip_beside_big_g_is_refused_at_once() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("xl");
    let long = generate(&Options { positions: 248, ..small(64, 2, 31) });
    write_component(&folder.join("text_encoder"), &long);
    let second = write_component(&folder.join("text_encoder_2"), &like_big_g());
    let choice = preset(Preset::Sdxl);
    let cut = Choice { context: Some(77), ..choice };
    let plan = compiled(&with_choice(job(&folder, &scratch), cut));
    assert_eq!((plan.plan().context(), plan.plan().width()), (77, 64 + 1280));
    // Headers are enough to tell: no value is read.
    let weights = second.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let error = refused(&with_choice(job(&folder, &scratch), choice));
    assert!(error.contains("248") && error.contains("--context 77"), "{error}");
}

/// A model's file with more tensors.
fn with_tensors(scratch: &Scratch, tensors: Vec<Named>, more: &[Named]) -> PathBuf {
    write(&scratch.path().join("more/model.safetensors"), &[tensors, more.to_vec()].concat())
}

#[test]
fn every_tensor_of_a_tower_is_accounted_for() {
    let scratch = Scratch::new();
    let (l, h): (&Tower, &Tower) = (&like_l(), &like_h());
    let layer = "text_model.encoder.layers.1.self_attn";
    let changing = [
        (hugging_face(l, ""), format!("{layer}.q_norm.weight")),
        (hugging_face(l, ""), format!("{layer}.q_proj.lora_A.weight")),
        (hugging_face(l, ""), "text_model.embeddings.position_embedding_res.weight".into()),
        (hugging_face(l, ""), "text_model.pooler.weight".into()),
        (hugging_face(h, ""), "text_projection.bias".into()),
        (open_clip(h, ""), "text_projection.bias".into()),
        (open_clip(h, ""), "transformer.resblocks.0.ls_1.gamma".into()),
        (open_clip(h, ""), "cls_emb".into()),
        (open_clip(h, "text."), "text.whatever".into()),
        (
            open_clip(h, "conditioner.embedders.1.model."),
            "conditioner.embedders.1.model.ln_pre.weight".into(),
        ),
    ];
    for (tensors, name) in changing {
        let file = with_tensors(&scratch, tensors, &[Named::arbitrary(name.clone(), &[8])]);
        let error = refused(&job(&file, &scratch));
        assert!(error.contains(&name) && error.contains("another text tower"), "{name}: {error}");
    }
    // Scales of weights that are quantized already.
    let mut quantized = hugging_face(l, "");
    let weight = quantized.iter_mut().find(|t| t.name.ends_with("1.mlp.fc1.weight")).unwrap();
    weight.dtype = Dtype::F8_E4M3;
    weight.bytes.truncate(weight.bytes.len() / 4);
    let scale = Named::arbitrary("text_model.encoder.layers.1.mlp.fc1.scale_weight", &[1]);
    let error = refused(&job(&with_tensors(&scratch, quantized, &[scale]), &scratch));
    assert!(error.contains("fc1.weight") && error.contains("F8_E4M3") && error.contains("BF16"), "{error}");
    let buffers = [
        Named { shape: vec![1], ..whole_numbers("text_model.embeddings.position_ids") },
        Named::arbitrary("logit_scale", &[]),
        Named::arbitrary("visual_projection.weight", &[4, 4]),
        Named::arbitrary("vision_model.post_layernorm.weight", &[4]),
    ];
    let file = with_tensors(&scratch, hugging_face(h, ""), &buffers);
    assert!(!only(&file).2.contains("not read"), "{}", only(&file).2);
    // What stands beside a tower without prefix may be anything, and is told.
    let more = [Named::arbitrary("text_decoder.weight", &[4]), whole_numbers("steps")];
    let notes = only(&with_tensors(&scratch, open_clip(h, ""), &more)).2;
    assert!(notes.contains("2 tensors beside") && notes.contains("steps, text_decoder.weight"), "{notes}");
    let counter = whole_numbers("text_model.encoder.updates");
    let notes = only(&with_tensors(&scratch, hugging_face(l, ""), &[counter])).2;
    assert!(notes.contains("text_model.encoder.updates"), "{notes}");
}
