//! LoRAs: merged weights are `W + weight · alpha / rank · up · down`, whoever wrote the file.

use std::path::{Path, PathBuf};

use cliptext_compiler::compile::Job;
use cliptext_compiler::edit::Edits;
use cliptext_compiler::edit::lora::LoraFile;
use cliptext_compiler::preset::{Choice, Hidden, Preset};
use cliptext_compiler::reference::relative_error;
use cliptext_synthetic::Tower;
use cliptext_test_support::Scratch;

use super::common::*;

const PROMPT: &str = "the cat and a dog";

/// A module as transformers calls it, and its outputs and inputs.
type Change = (&'static str, [usize; 2]);

/// Changes to every kind of linear layer of a tower of width 64 with an MLP of 128.
const CHANGES: [Change; 6] = [
    ("encoder.layers.0.self_attn.q_proj", [64, 64]),
    ("encoder.layers.0.self_attn.k_proj", [64, 64]),
    ("encoder.layers.1.self_attn.v_proj", [64, 64]),
    ("encoder.layers.1.self_attn.out_proj", [64, 64]),
    ("encoder.layers.2.mlp.fc1", [128, 64]),
    ("encoder.layers.2.mlp.fc2", [64, 128]),
];

const RANK: usize = 4;

/// What a module's part is called in a file.
type Key = Box<dyn Fn(&str, &str) -> String>;

/// `[up, down]` of a change.
fn matrices(change: &Change) -> [Named; 2] {
    let (module, [outputs, inputs]) = *change;
    [
        Named::arbitrary(format!("{module} up"), &[outputs, RANK]),
        Named::arbitrary(format!("{module} down"), &[RANK, inputs]),
    ]
}

/// The file of `changes` with every module's key made by `key(module, part)`; part is `up`, `down` or `alpha`.
fn lora(changes: &[Change], alpha: Option<f32>, key: impl Fn(&str, &str) -> String) -> Vec<Named> {
    let mut all = Vec::new();
    for change in changes {
        let [up, down] = matrices(change);
        all.push(up.called(key(change.0, "up")));
        all.push(down.called(key(change.0, "down")));
        all.extend(alpha.map(|alpha| Named::f32(key(change.0, "alpha"), &[], &[alpha])));
    }
    all
}

fn kohya(prefix: &'static str) -> impl Fn(&str, &str) -> String {
    move |module, part| {
        let module = format!("text_model.{module}").replace('.', "_");
        match part {
            "alpha" => format!("{prefix}{module}.alpha"),
            part => format!("{prefix}{module}.lora_{part}.weight"),
        }
    }
}

/// The tower with `weight · alpha / rank · up · down` added, in f64.
fn merged(tower: &Tower, changes: &[Change], factor: f64, folder: &Path) -> PathBuf {
    let mut tower = tower.clone();
    for change in changes {
        let [up, down] = matrices(change).map(|named| named.values());
        let inputs = change.1[1];
        let name = format!("text_model.{}.weight", change.0);
        let tensor = tower.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
        for (at, value) in tensor.values.iter_mut().enumerate() {
            let (row, column) = (at / inputs, at % inputs);
            let sum: f64 =
                (0..RANK).map(|r| f64::from(up[row * RANK + r]) * f64::from(down[r * inputs + column])).sum();
            *value = (f64::from(*value) + factor * sum) as f32;
        }
    }
    write_component(folder, &tower)
}

fn with(model: &Path, loras: &[(&Path, f32)], scratch: &Scratch) -> Job {
    let read =
        |(file, weight): &(&Path, f32)| LoraFile::read(file, *weight).unwrap_or_else(|e| panic!("{e:#}"));
    let edits = Edits { inversions: vec![], loras: loras.iter().map(read).collect() };
    with_edits(job(model, scratch), edits)
}

#[test]
fn every_way_to_name_a_lora_merges_the_same() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let expected = merged(&tower, &CHANGES, 0.6 * 2.0 / RANK as f64, &scratch.path().join("merged"));
    let expected = compiled(&job(&expected, &scratch)).encode(PROMPT);
    let plain = compiled(&job(&model, &scratch)).encode(PROMPT);
    assert!(relative_error(&expected.0, &plain.0) > 1e-3, "the changes show");

    let diffusers = |up: &'static str, down: &'static str| {
        move |module: &str, part: &str| match part {
            "up" => format!("text_encoder.text_model.{module}{up}.weight"),
            "down" => format!("text_encoder.text_model.{module}{down}.weight"),
            _ => format!("text_encoder.text_model.{module}.alpha"),
        }
    };
    let old = |module: &str, part: &str| {
        let side = ["q", "k", "v", "out"].into_iter().find(|side| module.ends_with(&format!(".{side}_proj")));
        let key = match (side, part) {
            (Some(side), "up" | "down") => {
                format!("{}.to_{side}_lora.{part}.weight", module.rsplit_once('.').unwrap().0)
            }
            (None, "up" | "down") => format!("{module}.lora_linear_layer.{part}.weight"),
            _ => format!("{module}.alpha"),
        };
        format!("text_encoder.text_model.{key}")
    };
    let names: [(&str, Key); 7] = [
        ("kohya", Box::new(kohya("lora_te_"))),
        ("kohya, first of two", Box::new(kohya("lora_te1_"))),
        ("diffusers", Box::new(diffusers(".lora_linear_layer.up", ".lora_linear_layer.down"))),
        ("diffusers, oldest", Box::new(old)),
        ("PEFT in diffusers", Box::new(diffusers(".lora_B", ".lora_A"))),
        ("PEFT, named adapter", Box::new(diffusers(".lora_B.default", ".lora_A.default"))),
        (
            "PEFT alone",
            Box::new(|module: &str, part: &str| match part {
                "up" => format!("base_model.model.text_model.{module}.lora_B.weight"),
                "down" => format!("base_model.model.text_model.{module}.lora_A.weight"),
                _ => format!("base_model.model.text_model.{module}.alpha"),
            }),
        ),
    ];
    for (what, key) in names {
        let file = write(&scratch.path().join("lora.safetensors"), &lora(&CHANGES, Some(2.0), key));
        let ours = compiled(&with(&model, &[(&file, 0.6)], &scratch)).encode(PROMPT);
        let error = relative_error(&ours.0, &expected.0)
            .max(relative_error(&ours.1.unwrap(), expected.1.as_ref().unwrap()));
        assert!(error < 1e-6, "{what}: {error:e}");
    }
}

#[test]
fn weights_count_and_add_up() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let plain = compiled(&job(&model, &scratch)).bytes().to_vec();
    let whole = write(&scratch.path().join("whole.safetensors"), &lora(&CHANGES, None, kohya("lora_te_")));
    let halves = [&CHANGES[..3], &CHANGES[3..]].map(|changes| {
        write(
            &scratch.path().join(format!("{}.safetensors", changes[0].0)),
            &lora(changes, None, kohya("lora_te_")),
        )
    });
    let plan = |loras: &[(&Path, f32)]| compiled(&with(&model, loras, &scratch));
    assert!(plan(&[(&whole, 0.0)]).bytes() == plain, "a weight of 0 changes nothing");
    let once = plan(&[(&whole, 1.0)]).bytes().to_vec();
    assert!(once != plain);
    assert!(plan(&[(&halves[0], 1.0), (&halves[1], 1.0)]).bytes() == once);
    // Without alpha the rank stands for it: the factor is the weight.
    let expected = merged(&tower, &CHANGES, 1.0, &scratch.path().join("merged"));
    let expected = compiled(&job(&expected, &scratch)).encode(PROMPT).0;
    assert!(relative_error(&plan(&[(&whole, 1.0)]).encode(PROMPT).0, &expected) < 1e-6);
    let back = plan(&[(&whole, 1.0), (&whole, -1.0)]).encode(PROMPT).0;
    let never = plan(&[]).encode(PROMPT).0;
    assert!(relative_error(&back, &never) < 1e-5);
}

/// diffusers keeps PEFT's settings in the header.
#[test]
fn alpha_may_stand_in_the_header() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let key = |module: &str, part: &str| {
        let letter = if part == "up" { "B" } else { "A" };
        format!("text_encoder.text_model.{module}.lora_{letter}.weight")
    };
    let tensors = lora(&CHANGES, None, key);
    let file = scratch.path().join("lora.safetensors");
    let with_settings = |settings: &str| {
        let views = tensors.iter().map(|tensor| (tensor.name.clone(), tensor));
        let notes = [("lora_adapter_metadata".to_owned(), settings.to_owned())].into_iter().collect();
        safetensors::serialize_to_file(views, Some(notes), &file).unwrap();
        LoraFile::read(&file, 1.0)
    };
    for (settings, factor) in [
        (r#"{"text_encoder.lora_alpha": 8, "text_encoder.r": 4}"#, 2.0),
        (r#"{"text_encoder.lora_alpha": 3.0, "text_encoder.use_rslora": true}"#, 1.5),
        (r#"{"unet.lora_alpha": 8, "text_encoder_2.lora_alpha": 8}"#, 1.0),
    ] {
        let edits = Edits { inversions: vec![], loras: vec![with_settings(settings).unwrap()] };
        let ours = compiled(&with_edits(job(&model, &scratch), edits)).encode(PROMPT).0;
        let expected = merged(&tower, &CHANGES, factor, &scratch.path().join("merged"));
        let expected = compiled(&job(&expected, &scratch)).encode(PROMPT).0;
        assert!(relative_error(&ours, &expected) < 1e-6, "{settings}");
    }
    let own = with_settings(r#"{"text_encoder.alpha_pattern": {"q_proj": 2}}"#);
    assert!(format!("{:#}", own.unwrap_err()).contains("alpha_pattern"));
    assert!(format!("{:#}", with_settings("[").unwrap_err()).contains("JSON"));
}

#[test]
fn a_lora_of_the_second_encoder() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &like_l());
    write_component(&folder.join("text_encoder_2"), &like_big_g());
    let changes: [Change; 1] = [("encoder.layers.0.mlp.fc1", [128, 1280])];
    let file = |name: &str, prefix: &'static str| {
        write(&scratch.path().join(name), &lora(&changes, Some(1.0), kohya(prefix)))
    };
    let second = file("second.safetensors", "lora_te2_");
    let choice = preset(Preset::Sdxl);
    let plan = compiled(&with_choice(with(&folder, &[(&second, 1.0)], &scratch), choice));
    let plain = compiled(&with_choice(job(&folder, &scratch), choice));
    let (ours, theirs) = (plan.encode(PROMPT).0, plain.encode(PROMPT).0);
    let (rows, plain_rows) = (ours.chunks(64 + 1280), theirs.chunks(64 + 1280));
    assert!(rows.zip(plain_rows).all(|(row, plain)| row[..64] == plain[..64] && row[64..] != plain[64..]));

    // A plan of the first encoder alone has no use for it.
    let first = folder.join("text_encoder");
    let error = refused(&with(&first, &[(&second, 1.0)], &scratch));
    assert!(error.contains("second.safetensors") && error.contains("second text encoder"), "{error}");
    let wrong = file("wrong.safetensors", "lora_te1_");
    let error = refused(&with_choice(with(&folder, &[(&wrong, 1.0)], &scratch), choice));
    assert!(
        error.contains("128 × 1280") && error.contains("128 × 64") && error.contains("another model"),
        "{error}"
    );
}

#[test]
fn what_matches_nothing_is_listed() {
    let scratch = Scratch::new();
    let mut tensors = lora(&CHANGES, Some(2.0), kohya("lora_te_"));
    tensors.push(Named::arbitrary("lora_te_text_model_encoder_layers_0_mlp_fc9.lora_up.weight", &[4, 4]));
    tensors.push(Named::arbitrary("lora_te_text_model_encoder_layers_0_mlp_fc1.diff_b", &[4]));
    tensors.push(Named::arbitrary("lora_unet_down_blocks_0.lora_up.weight", &[4, 4]));
    let file = write(&scratch.path().join("lora.safetensors"), &tensors);
    let read = LoraFile::read(&file, 1.0).unwrap();
    assert_eq!(read.others, 1);
    assert_eq!(
        read.unmatched,
        [
            "lora_te_text_model_encoder_layers_0_mlp_fc1.diff_b",
            "lora_te_text_model_encoder_layers_0_mlp_fc9.lora_up.weight"
        ]
    );

    // Of layers that the outputs don't need, or that aren't there, as well.
    let model = write_component(&scratch.path().join("model"), &like_l());
    let mut edits = with(&model, &[(&file, 1.0)], &scratch).model.edits;
    let mut tensors = lora(&CHANGES[..1], None, kohya("lora_te_"));
    tensors.extend(lora(&CHANGES[..1], None, |_, part| {
        format!("lora_te_text_model_encoder_layers_30_mlp_fc1.lora_{part}.weight")
    }));
    let deep = write(&scratch.path().join("deep.safetensors"), &tensors);
    edits.loras = vec![LoraFile::read(&deep, 1.0).unwrap()];
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_cliptext"))
        .arg("compile")
        .arg(&model)
        .arg("--vocab")
        .arg(merges())
        .arg("--lora")
        .arg(&deep)
        .arg("--lora")
        .arg(format!("{}:0.5", file.display()))
        .arg("-o")
        .arg(scratch.path().join("x.plan"))
        .output()
        .unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{told}");
    for part in ["layers_30_mlp_fc1", "mlp_fc9", "diff_b", "1 keys are other networks'"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let choice = Choice {
        hidden: Some(Hidden::After(2)),
        pooled: Some(cliptext_compiler::ir::Pooled::None),
        ..Choice::default()
    };
    // Changes to the third layer are left out with it.
    let short = compiled(&with_choice(with(&model, &[(&file, 1.0)], &scratch), choice));
    assert_eq!(short.report.towers[0].layers, 2);
    assert!(!short.bytes().is_empty());
}

#[test]
fn other_methods_and_broken_files_are_refused() {
    let scratch = Scratch::new();
    let module = "lora_te_text_model_encoder_layers_0_mlp_fc1";
    let named = |part: &str, shape: &[usize]| Named::arbitrary(format!("{module}{part}"), shape);
    let (up, down) = (named(".lora_up.weight", &[128, 4]), named(".lora_down.weight", &[4, 64]));
    for (tensors, said) in [
        (vec![named(".hada_w1_a", &[4, 4])], "LoHa"),
        (vec![named(".lokr_w1", &[4, 4])], "LoKr"),
        (vec![up.clone(), down.clone(), named(".dora_scale", &[1, 64])], "DoRA"),
        (vec![up.clone(), down.clone(), named(".lora_magnitude_vector.weight", &[64])], "DoRA"),
        (vec![up.clone()], "stands alone"),
        (vec![down.clone()], "stands alone"),
        (vec![up.clone(), named(".lora_down.weight", &[3, 64])], "4 columns"),
        (vec![up.clone(), down.clone(), named(".alpha", &[2])], "one number"),
        (
            vec![
                up.clone(),
                up.clone().called("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_B.weight"),
            ],
            "two LoRAs",
        ),
        (vec![Named::arbitrary("lora_unet_x.lora_up.weight", &[4, 4])], "UNet"),
        (
            vec![Named::f32(up.name.clone(), &[1, 1], &[f32::INFINITY]), named(".lora_down.weight", &[1, 1])],
            "inf",
        ),
    ] {
        let file = write(&scratch.path().join("bad.safetensors"), &tensors);
        let error = format!("{:#}", LoraFile::read(&file, 1.0).unwrap_err());
        assert!(error.contains(said) && error.contains("bad.safetensors"), "{said}: {error}");
    }
    // Given in place of a model, it is told apart.
    let file = write(&scratch.path().join("lora.safetensors"), &[up, down]);
    let error = refused(&job(&file, &scratch));
    assert!(error.contains("--lora"), "{error}");
}
