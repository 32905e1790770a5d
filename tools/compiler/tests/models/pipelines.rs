//! Pipelines' folders, and what comes out of them by preset and by single options.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cliptext::plan::{Place, Step};
use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Encoder, Plan};
use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::compile::Job;
use cliptext_compiler::ir::{self, Pooled};
use cliptext_compiler::preset::{Choice, Hidden, Preset};
use cliptext_compiler::reference::relative_error;
use cliptext_compiler::source::Source;
use cliptext_synthetic::{Activation, Options, Tower, checkpoint, generate};
use cliptext_test_support::{Scratch, export_file};

use super::common::*;

/// Vocabulary files of the small vocabulary, padded with `pad`.
fn write_tokenizer(folder: &Path, pad: &str) {
    let merges = std::fs::read_to_string(merges()).unwrap();
    write_text(&folder.join("merges.txt"), &merges);
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=255u8).filter(|byte| !printable(byte)).zip('\u{100}'..);
    let bytes: Vec<char> =
        (0..=255).filter(printable).map(char::from).chain(others.map(|(_, c)| c)).collect();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    tokens.extend(bytes.iter().map(|c| format!("{c}</w>")));
    tokens.extend(merges.lines().skip(1).map(|line| line.replace(' ', "")));
    tokens.extend(["<|startoftext|>".into(), "<|endoftext|>".into()]);
    assert_eq!(tokens.len(), VOCABULARY);
    let ids: serde_json::Map<_, _> = tokens.into_iter().enumerate().map(|(id, t)| (t, id.into())).collect();
    write_text(&folder.join("vocab.json"), &serde_json::Value::Object(ids).to_string());
    let config =
        serde_json::json!({"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": pad});
    write_text(&folder.join("tokenizer_config.json"), &config.to_string());
}

/// A pipeline's index of these components.
fn write_index(folder: &Path, class: &str, components: &[(&str, &str)]) {
    let mut index = serde_json::json!({
        "_class_name": class,
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": [null, null],
        "force_zeros_for_empty_prompt": true,
    });
    for (name, kind) in components {
        index[*name] = serde_json::json!(["transformers", kind]);
    }
    write_text(&folder.join("model_index.json"), &index.to_string());
}

const TEXT: &str = "CLIPTextModel";
const PROJECTED: &str = "CLIPTextModelWithProjection";

fn with_own_vocabulary(model: &Path, scratch: &Scratch) -> Job {
    Job { vocabulary: None, ..job(model, scratch) }
}

#[test]
fn stable_diffusion_1_and_2() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("sd");
    write_component(&folder.join("text_encoder"), &like_l());
    write_tokenizer(&folder.join("tokenizer"), "!");
    write_index(&folder, "StableDiffusionPipeline", &[("text_encoder", TEXT)]);
    // Of an unusual width, so no family is found; the tokenizer tells the padding all the same.
    let plan = compiled(&with_own_vocabulary(&folder, &scratch));
    assert_eq!(plan.report.preset, None);
    assert!(plan.report.kind.contains("StableDiffusionPipeline"));
    assert_eq!(plan.plan().tokenizer().padding(), Padding::Id(0));
    assert_eq!(plan.ids("a! b")[2], 0, "the padding token is cut out of the text");
    let choice = preset(Preset::Sd2);
    let plan = compiled(&with_choice(with_own_vocabulary(&folder, &scratch), choice));
    let tower = &plan.report.towers[0];
    assert_eq!((tower.name.as_str(), tower.layers, tower.hidden_norm), ("text_encoder", 2, true));
    assert_eq!(plan.encode("a").0.len(), 77 * 64);
}

/// The headers of a tower that nobody has to compute: the values are a hole in the file.
fn write_hollow(folder: &Path, options: &Options) {
    // Names and shapes of a tower with the same number of layers.
    let like = generate(&Options {
        width: 16,
        heads: 2,
        mlp: 32,
        vocab: 2,
        projection: options.projection,
        ..options.clone()
    });
    let full = |size: usize, old: usize, wide: usize| if size == old { wide } else { size };
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for tensor in &like.tensors {
        let shape: Vec<usize> = (tensor.shape.iter())
            .map(|&size| full(full(full(size, 16, options.width), 32, options.mlp), 2, options.vocab))
            .collect();
        let bytes = 4 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]});
        header.insert(tensor.name.clone(), entry);
        end += bytes;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("model.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len((bytes.len() + end) as u64).unwrap();
    write_text(&folder.join("config.json"), &checkpoint::config(options));
}

/// A component's folder, its class, and what it is made of.
type Component<'a> = (&'a str, &'a str, &'a Options);

#[test]
fn presets_are_found_by_class_and_size() {
    let l = Options::default();
    let h =
        Options { width: 1024, layers: 23, heads: 16, mlp: 4096, activation: Activation::Gelu, ..l.clone() };
    let g = Options { width: 1280, layers: 32, heads: 20, mlp: 5120, projection: Some(1280), ..h.clone() };
    let cases: [(&str, &[Component<'_>], Option<Preset>); 6] = [
        ("StableDiffusionPipeline", &[("text_encoder", TEXT, &l)], Some(Preset::Sd1)),
        ("StableDiffusionPipeline", &[("text_encoder", TEXT, &h)], Some(Preset::Sd2)),
        (
            "StableDiffusionXLPipeline",
            &[("text_encoder", TEXT, &l), ("text_encoder_2", PROJECTED, &g)],
            Some(Preset::Sdxl),
        ),
        ("StableDiffusionXLImg2ImgPipeline", &[("text_encoder_2", PROJECTED, &g)], Some(Preset::Sdxl)),
        (
            "StableDiffusion3Pipeline",
            &[("text_encoder", PROJECTED, &g), ("text_encoder_2", PROJECTED, &g)],
            Some(Preset::Sd3),
        ),
        ("FluxPipeline", &[("text_encoder", TEXT, &l)], Some(Preset::Flux)),
    ];
    for (class, components, expected) in cases {
        let scratch = Scratch::new();
        let mut listed = vec![("text_encoder_3", "T5EncoderModel")];
        for (name, kind, options) in components {
            write_hollow(&scratch.path().join(name), options);
            listed.push((name, kind));
        }
        write_index(scratch.path(), class, &listed);
        let source = Source::open(scratch.path()).unwrap_or_else(|error| panic!("{class}: {error:#}"));
        assert_eq!(source.preset, expected, "{class}");
        let names: Vec<&str> = source.towers.iter().map(|tower| tower.name.as_str()).collect();
        assert_eq!(names, components.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), "{class}");
        assert!(source.notes[0].contains("T5EncoderModel") && source.notes[0].contains("text_encoder_3"));
    }
}

/// SDXL's conventions on towers of two widths, with a tokenizer for each.
fn xl(scratch: &Scratch) -> PathBuf {
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &like_l());
    write_component(&folder.join("text_encoder_2"), &like_big_g());
    write_tokenizer(&folder.join("tokenizer"), "<|endoftext|>");
    write_tokenizer(&folder.join("tokenizer_2"), "!");
    let components = [("text_encoder", TEXT), ("text_encoder_2", PROJECTED)];
    write_index(&folder, "StableDiffusionXLPipeline", &components);
    folder
}

/// `--prefix-cache`: other places, and nothing else; what is typed is what the plan without it gives.
#[test]
fn kept_rows_change_the_arena_alone() {
    let scratch = Scratch::new();
    let one = write_component(&scratch.path().join("one"), &generate(&zoo_sd()));
    for (folder, precision) in [(xl(&scratch), Precision::F32), (one, Precision::Int8)] {
        let with = |prefix_cache| {
            compiled(&Job { prefix_cache, precision, ..with_own_vocabulary(&folder, &scratch) })
        };
        let (kept, plain) = (with(true), with(false));
        let plans = [kept.plan(), plain.plan()];
        assert_eq!(plans.each_ref().map(|plan| plan.keeps_rows()), [true, false]);
        assert!(plans[0].arena_bytes(1) > plans[1].arena_bytes(1));
        assert!(plans[0].constants().bytes() == plans[1].constants().bytes());
        let places = |plan: &Plan<'_>| -> Vec<Step> {
            plan.steps().map(|step| step.map(|place| Place { offset: 0, ..place })).collect()
        };
        assert_eq!(places(&plans[0]), places(&plans[1]));
        let mut arena = AlignedBytes::zeroed(plans[0].arena_bytes(1));
        let mut encoder = Encoder::new(&plans[0], &mut arena).unwrap();
        let mut rows = 0;
        for text in ["a", "a b", "a b c", "a b", "x", "x y z", "x y z"] {
            let typed = encoder.encode(text);
            rows += typed.kept();
            let want = plain.encode(text);
            assert!((typed.hidden(), typed.pooled()) == (&want.0[..], want.1.as_deref()), "{text}");
        }
        assert!(rows > 77, "{rows}");
    }
}

#[test]
fn stable_diffusion_xl() {
    let scratch = Scratch::new();
    let folder = xl(&scratch);
    let both = compiled(&with_own_vocabulary(&folder, &scratch));
    let paddings: Vec<Padding> = both.plan().towers().map(|tower| tower.padding).collect();
    assert_eq!(paddings, [Padding::End, Padding::Id(0)]);
    assert_eq!(both.ids("a!")[2], 256, "the first tokenizer cuts the prompt up for both");
    let (hidden, pooled) = both.encode("a");
    assert_eq!((hidden.len(), pooled.as_ref().map(Vec::len)), (77 * (64 + 1280), Some(1280)));

    // Each encoder by itself gives its own columns; the second reads its own padding.
    let alone = |tower: &str, padding| {
        let choice = Choice { padding: Some(padding), ..Choice::default() };
        let tower = Some(tower.to_owned());
        compiled(&one_of(with_choice(with_own_vocabulary(&folder, &scratch), choice), tower))
    };
    let (first, none) = alone("text_encoder", Padding::End).encode("a");
    let (second, second_pooled) = alone("text_encoder_2", Padding::Id(0)).encode("a");
    assert!(none.is_none());
    for token in 0..77 {
        let row = &hidden[token * (64 + 1280)..][..64 + 1280];
        assert!(
            row[..64] == first[token * 64..][..64] && row[64..] == second[token * 1280..][..1280],
            "{token}"
        );
    }
    assert_eq!(pooled, second_pooled);

    // Without an index the family has to be said.
    std::fs::remove_file(folder.join("model_index.json")).unwrap();
    let error = refused(&with_own_vocabulary(&folder, &scratch));
    assert!(
        error.contains("--preset") && error.contains("--tower") && error.contains("text_encoder_2"),
        "{error}"
    );
    let again = compiled(&with_choice(with_own_vocabulary(&folder, &scratch), preset(Preset::Sdxl)));
    assert!(again.bytes() == both.bytes());
}

#[test]
fn two_tokenizers_must_have_the_same_words() {
    let scratch = Scratch::new();
    let folder = xl(&scratch);
    let merges = folder.join("tokenizer_2/merges.txt");
    let text = std::fs::read_to_string(&merges).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(1, 2);
    std::fs::write(&merges, lines.join("\n")).unwrap();
    let error = refused(&with_own_vocabulary(&folder, &scratch));
    assert!(error.contains("other words") && error.contains("text_encoder_2"), "{error}");
}

/// A tower's own states and rows, by a plan for each kind of output.
fn chosen(model: &Path, scratch: &Scratch, choice: Choice) -> Compiled {
    compiled(&with_choice(job(model, scratch), choice))
}

#[test]
fn every_option_alone() {
    let scratch = Scratch::new();
    let folder = write_component(&scratch.path().join("h"), &like_h());
    let plain = Choice::default();
    let get = |choice: Choice| chosen(&folder, &scratch, choice).encode("the art");
    let (last, projected) = get(plain);
    let projected = projected.unwrap();
    let raw = get(Choice { final_norm: Some(false), ..plain }).0;
    assert!(raw != last);
    assert_eq!(get(Choice { hidden: Some(Hidden::Last), ..plain }).0, last);
    assert_eq!(get(Choice { hidden: Some(Hidden::After(3)), ..plain }).0, last);
    let penultimate = get(Choice { hidden: Some(Hidden::Penultimate), ..plain }).0;
    assert!(penultimate != last);
    assert_eq!(get(Choice { hidden: Some(Hidden::After(2)), ..plain }).0, penultimate);

    let eos = get(Choice { pooled: Some(Pooled::EndToken), ..plain }).1.unwrap();
    let ids = chosen(&folder, &scratch, plain).ids("the art");
    let end = ids.iter().position(|&id| id == 599).unwrap();
    assert!(relative_error(&eos, &last[end * 128..][..128]) < 1e-6);
    assert_eq!((eos.len(), projected.len()), (128, 96));
    assert_eq!(get(Choice { pooled: Some(Pooled::None), ..plain }).1, None);

    let unit = get(Choice { normalize: Some(true), ..plain }).1.unwrap();
    let length = projected.iter().map(|v| v * v).sum::<f32>().sqrt();
    let expected: Vec<f32> = projected.iter().map(|v| v / length).collect();
    assert!(relative_error(&unit, &expected) < 1e-5);

    for padding in [Padding::End, Padding::Id(0), Padding::Id(7), Padding::ZeroAfterEnd] {
        let plan = chosen(&folder, &scratch, Choice { padding: Some(padding), ..plain });
        assert_eq!(plan.plan().tokenizer().padding(), padding);
    }
    let short = get(Choice { context: Some(12), ..plain });
    assert_eq!(short.0.len(), 12 * 128);
    assert!(relative_error(&short.0, &last[..12 * 128]) < 1e-5);
    assert!(relative_error(&short.1.unwrap(), &projected) < 1e-5);
}

#[test]
fn what_a_model_has_not_is_refused() {
    let scratch = Scratch::new();
    let folder = write_component(&scratch.path().join("l"), &like_l());
    let plain = Choice::default();
    for (choice, said) in [
        (Choice { hidden: Some(Hidden::After(4)), ..plain }, ["after layer 4", "3 layers"]),
        (Choice { hidden: Some(Hidden::After(0)), ..plain }, ["after layer 0", "3 layers"]),
        (Choice { pooled: Some(Pooled::Projected), ..plain }, ["projection", "--pooled eos"]),
        (preset(Preset::Sd3), ["projection", "preset sd3"]),
        (preset(Preset::Clip), ["projection", "preset clip"]),
        (Choice { context: Some(78), ..plain }, ["--context", "77 positions"]),
        (Choice { context: Some(1), ..plain }, ["--context", "no room"]),
        (Choice { padding: Some(Padding::Id(600)), ..plain }, ["600", "--pad"]),
    ] {
        let error = refused(&with_choice(job(&folder, &scratch), choice));
        assert!(said.iter().all(|said| error.contains(said)), "{said:?}: {error}");
    }
}

/// The same options on a graph: its outputs are built again.
#[test]
fn options_work_on_graphs_as_on_folders() {
    let scratch = Scratch::new();
    let sizes = Options { width: 16, layers: 2, heads: 2, mlp: 64, ..Options::default() };
    let proj = Options { seed: 14, activation: Activation::Gelu, projection: Some(8), ..sizes };
    let folder = write_component(&scratch.path().join("proj"), &generate(&proj));
    let graph = export_file("proj.tf523-torch215-ts.op14.static.i64.hs", &scratch);
    let plain = Choice::default();
    for choice in [
        preset(Preset::Sd1),
        preset(Preset::Sd2),
        preset(Preset::Sdxl),
        preset(Preset::Sd3),
        preset(Preset::Flux),
        preset(Preset::Clip),
        Choice {
            hidden: Some(Hidden::After(1)),
            final_norm: Some(false),
            pooled: Some(Pooled::None),
            ..plain
        },
        Choice { context: Some(20), normalize: Some(true), ..plain },
    ] {
        let plan = |model: &Path| {
            let precision = Precision::Int8;
            compiled(&Job { vocabulary: None, precision, ..with_choice(job(model, &scratch), choice) })
                .bytes()
                .to_vec()
        };
        assert!(plan(&folder) == plan(&graph), "{choice:?}");
    }
}

/// The tensors of a whole CLIP: text, image, and the logit scale.
fn whole_clip(tower: &Tower) -> Vec<Named> {
    let mut tensors = hugging_face(tower, "");
    tensors.push(Named::arbitrary("vision_model.embeddings.class_embedding", &[32]));
    tensors.push(Named::arbitrary("vision_model.encoder.layers.0.self_attn.q_proj.weight", &[32, 32]));
    tensors.push(Named::arbitrary("visual_projection.weight", &[96, 32]));
    tensors.push(Named::f32("logit_scale", &[], &[100f32.ln()]));
    tensors
}

#[test]
fn a_whole_clip_is_for_zero_shot() {
    let scratch = Scratch::new();
    let tower = like_h();
    let folder = scratch.path().join("clip");
    write(&folder.join("model.safetensors"), &whole_clip(&tower));
    let text: serde_json::Value = serde_json::from_str(&checkpoint::config(&tower.options)).unwrap();
    let config = serde_json::json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 96, "logit_scale_init_value": 2.6592,
        "text_config": text, "vision_config": {"hidden_size": 32},
    });
    write_text(&folder.join("config.json"), &config.to_string());
    let plan = compiled(&job(&folder, &scratch));
    assert_eq!(plan.report.preset.as_deref(), Some("clip"));
    assert_eq!(plan.report.towers[0].pooled_kind, Some("projected, length 1"));
    assert!((plan.plan().manifest().logit_scale.unwrap() - 100.0).abs() < 1e-3);
    let (_, unit) = plan.encode("the art");
    let unit = unit.unwrap();
    assert!((unit.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);

    // OpenCLIP's own file of the same model; of that width it could be OpenAI's, which has quick GELU.
    let open: Vec<Named> = [
        open_clip(&tower, ""),
        vec![
            Named::arbitrary("visual.transformer.resblocks.0.ln_1.weight", &[32]),
            Named::arbitrary("visual.positional_embedding", &[5, 32]),
            Named::f32("logit_scale", &[], &[100f32.ln()]),
        ],
    ]
    .concat();
    let open = write(&scratch.path().join("open/open_clip_model.safetensors"), &open);
    let choice = Choice { activation: Some(ir::Activation::Gelu), ..Choice::default() };
    assert!(compiled(&with_choice(job(open.parent().unwrap(), &scratch), choice)).bytes() == plan.bytes());
}

/// OpenCLIP's weights with its own configuration, which alone tells quick GELU and unusual heads.
#[test]
fn open_clips_own_configuration_counts() {
    let scratch = Scratch::new();
    let options = Options { projection: Some(96), heads: 4, mlp: 512, ..small(128, 2, 24) };
    let tower = generate(&options);
    let expected = write_component(&scratch.path().join("transformers"), &tower);
    let folder = scratch.path().join("open_clip");
    write(&folder.join("open_clip_model.safetensors"), &open_clip(&tower, ""));
    write_text(&folder.join("config.json"), r#"{"architecture": "vit_base_patch32_clip_224"}"#);
    let written = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = serde_json::json!({"model_cfg": {
            "embed_dim": 96, "quick_gelu": true, "vision_cfg": {"layers": 12},
            "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 128, "heads": 4, "layers": 2},
        }, "preprocess_cfg": {}});
        change(&mut config);
        write_text(&folder.join("open_clip_config.json"), &config.to_string());
        job(&folder, &scratch)
    };
    let plan = compiled(&written(&|_| {}));
    assert!(plan.bytes() == compiled(&job(&expected, &scratch)).bytes());
    let text = |key: &'static str, value: serde_json::Value| {
        refused(&written(&move |config| config["model_cfg"]["text_cfg"][key] = value.clone()))
    };
    assert!(text("layers", 12.into()).contains("num_hidden_layers is 12"));
    assert!(text("hf_model_name", "roberta-base".into()).contains("hf_model_name"));
    assert!(text("pool_type", "last".into()).contains("pool_type"));
    assert!(refused(&written(&|config| *config = 3.into())).contains("model_cfg"));
    // The same tower in other words: the end token's row by its id, and fields that nothing reads.
    for more in [
        serde_json::json!({"pool_type": "eos", "eos_id": 599}),
        serde_json::json!({"pool_type": "argmax", "eos_id": 2, "pad_id": 1, "hf_pooler_type": "mean_pooler"}),
    ] {
        let same = compiled(&written(&|config| {
            let text = config["model_cfg"]["text_cfg"].as_object_mut().unwrap();
            text.extend(more.as_object().unwrap().clone());
        }));
        assert!(same.bytes() == plan.bytes(), "{more}");
    }
    let elsewhere = text("pool_type", "eos".into());
    assert!(elsewhere.contains("pools at token 2") && elsewhere.contains("--vocab"), "{elsewhere}");
    let notes = Source::open(&folder).unwrap().notes.concat();
    assert!(notes.contains("ftfy") && notes.contains("HTML entities"), "{notes}");
}

#[test]
fn long_clip_is_as_long_as_it_is() {
    let scratch = Scratch::new();
    let tower = Arc::new(generate(&Options { positions: 248, ..small(64, 2, 31) }));
    let folder = write_component(&scratch.path().join("long"), &tower);
    let long = compiled(&job(&folder, &scratch));
    assert_eq!(long.plan().context(), 248);
    let prompt = "cat ".repeat(150);
    let (all, _) = long.encode(&prompt);
    assert_eq!((all.len(), long.ids(&prompt).len()), (248 * 64, 248));
    let choice = Choice { context: Some(77), ..Choice::default() };
    let (cut, _) = compiled(&with_choice(job(&folder, &scratch), choice)).encode(&prompt);
    // All but the end token, which stands earlier.
    assert!(relative_error(&cut[..76 * 64], &all[..76 * 64]) < 1e-5);
}
