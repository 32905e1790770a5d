//! The same changes under the names of every program that writes them.

use cliptext_compiler::preset::Preset;
use safetensors::Dtype;

use super::*;

/// What a module's part is called in a file.
type Key = Box<dyn Fn(&str, &str) -> String>;

/// `prefix`, the module with dots, and the part's ending in the order up, down, alpha.
fn dotted(prefix: &'static str, [up, down, alpha]: [&'static str; 3]) -> Key {
    Box::new(move |module, part| {
        let ending = match part {
            "up" => up,
            "down" => down,
            _ => alpha,
        };
        format!("{prefix}{module}{ending}")
    })
}

const KOHYA: [&str; 3] = [".lora_up.weight", ".lora_down.weight", ".alpha"];
const PEFT: [&str; 3] = [".lora_B.weight", ".lora_A.weight", ".alpha"];

/// diffusers' oldest keys of the attention's layers.
fn oldest(module: &str, part: &str) -> String {
    let side = ["q", "k", "v", "out"].into_iter().find(|side| module.ends_with(&format!(".{side}_proj")));
    let key = match (side, part) {
        (Some(side), "up" | "down") => {
            format!("{}.to_{side}_lora.{part}.weight", module.rsplit_once('.').unwrap().0)
        }
        (None, "up" | "down") => format!("{module}.lora_linear_layer.{part}.weight"),
        _ => format!("{module}.alpha"),
    };
    format!("text_encoder.text_model.{key}")
}

#[test]
fn every_way_to_name_a_lora_merges_the_same() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let factor = 0.6 * 2.0 / RANK as f64;
    let expected = encoded(&merged(&tower, &CHANGES, factor, &scratch.path().join("merged")), &scratch);
    let plain = encoded(&model, &scratch);
    assert!(relative_error(&expected.0, &plain.0) > 1e-3, "the changes show");

    let linear = [".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight", ".alpha"];
    let named = [".lora_B.style.weight", ".lora_A.style.weight", ".alpha"];
    let names: [(&str, Key); 17] = [
        ("kohya", Box::new(kohya("lora_te_"))),
        ("kohya, first of two", Box::new(kohya("lora_te1_"))),
        ("OneTrainer", dotted("lora_te1.text_model.", KOHYA)),
        ("OneTrainer, new", dotted("clip_l.text_model.", KOHYA)),
        ("AI-Toolkit", dotted("lora_te.text_model.", PEFT)),
        ("ComfyUI", dotted("text_encoders.clip_l.transformer.text_model.", KOHYA)),
        ("ComfyUI, Stable Diffusion 2", dotted("text_encoders.clip_h.transformer.text_model.", KOHYA)),
        ("diffusers", dotted("text_encoder.text_model.", linear)),
        ("diffusers, oldest", Box::new(oldest)),
        (
            "diffusers, short",
            dotted("text_encoder.text_model.", [".lora.up.weight", ".lora.down.weight", ".alpha"]),
        ),
        ("PEFT in diffusers", dotted("text_encoder.text_model.", PEFT)),
        ("PEFT in diffusers, named adapter", dotted("text_encoder.text_model.", named)),
        ("PEFT in diffusers, transformers 5", dotted("text_encoder.", PEFT)),
        ("PEFT", dotted("base_model.model.text_model.", PEFT)),
        ("PEFT, transformers 5", dotted("base_model.model.", named)),
        ("the model's own names", dotted("text_model.", [".lora_B", ".lora_A", ".alpha"])),
        ("LyCORIS alone", Box::new(kohya("lycoris_"))),
    ];
    for (what, key) in names {
        let file = write(&scratch.path().join("lora.safetensors"), &lora(&CHANGES, Some(2.0), key));
        let error = error_against(&expected, &model, (&file, 0.6), &scratch);
        assert!(error < 1e-6, "{what}: {error:e}");
    }
}

/// Alphas are stored as any type, and linear layers as convolutions of one pixel.
#[test]
fn every_type_and_shape_merges_the_same() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let factor = 2.0 / RANK as f64;
    let expected = encoded(&merged(&tower, &CHANGES, factor, &scratch.path().join("merged")), &scratch);
    let plain = lora(&CHANGES, None, kohya("lora_te_"));
    let alphas = |dtype: Dtype, bytes: &[u8], shape: &[usize]| {
        let alpha = |change: &Change| Named {
            name: kohya("lora_te_")(change.0, "alpha"),
            shape: shape.to_vec(),
            dtype,
            bytes: bytes.to_vec(),
        };
        plain.iter().cloned().chain(CHANGES.iter().map(alpha)).collect::<Vec<_>>()
    };
    let four = |mut tensors: Vec<Named>| {
        tensors
            .iter_mut()
            .filter(|tensor| tensor.shape.len() == 2)
            .for_each(|tensor| tensor.shape.extend([1, 1]));
        tensors
    };
    for (what, tensors) in [
        ("I64", alphas(Dtype::I64, &2i64.to_le_bytes(), &[])),
        ("I32", alphas(Dtype::I32, &2i32.to_le_bytes(), &[])),
        ("U8", alphas(Dtype::U8, &[2], &[1])),
        ("F16", alphas(Dtype::F16, &half_of_two(), &[])),
        ("F64", alphas(Dtype::F64, &2f64.to_le_bytes(), &[1])),
        ("[o, r, 1, 1]", four(alphas(Dtype::F32, &2f32.to_le_bytes(), &[]))),
    ] {
        let file = write(&scratch.path().join("lora.safetensors"), &tensors);
        let error = error_against(&expected, &model, (&file, 1.0), &scratch);
        assert!(error < 1e-6, "{what}: {error:e}");
    }
}

/// 2 in f16.
fn half_of_two() -> [u8; 2] {
    0x4000u16.to_le_bytes()
}

/// diffusers keeps PEFT's settings in the header.
#[test]
fn alpha_may_stand_in_the_header() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let key = dotted("text_encoder.text_model.", PEFT);
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
        (
            r#"{"text_encoder.lora_alpha": 8, "text_encoder.alpha_pattern": {"q_proj": 2, "k_proj": 2, "v_proj": 2,
            "out_proj": 2, "fc1": 2, "text_model.encoder.layers.2.mlp.fc2": 2}}"#,
            0.5,
        ),
    ] {
        let edits = Edits { inversions: vec![], loras: vec![with_settings(settings).unwrap()] };
        let ours = compiled(&with_edits(job(&model, &scratch), edits)).encode(PROMPT).0;
        let expected = encoded(&merged(&tower, &CHANGES, factor, &scratch.path().join("merged")), &scratch);
        assert!(relative_error(&ours, &expected.0) < 1e-6, "{settings}");
    }
    for (settings, said) in [
        ("[", "JSON"),
        (r#"{"text_encoder.alpha_pattern": {"q.*": 2}}"#, "alpha_pattern"),
        (r#"{"text_encoder.use_dora": true}"#, "use_dora"),
        (r#"{"text_encoder.r": 8}"#, "rank 8"),
    ] {
        let error = format!("{:#}", with_settings(settings).unwrap_err());
        assert!(error.contains(said) && error.contains("lora.safetensors"), "{error}");
    }
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

/// SDXL's refiner has bigG alone, whose keys have no number then.
#[test]
fn a_lora_of_a_second_encoder_that_stands_alone() {
    let scratch = Scratch::new();
    let tower = like_big_g();
    let model = write_component(&scratch.path().join("model"), &tower);
    let changes: [Change; 2] =
        [("encoder.layers.0.mlp.fc2", [1280, 128]), ("encoder.layers.1.self_attn.q_proj", [1280, 1280])];
    let expected = encoded(&merged(&tower, &changes, 0.5, &scratch.path().join("merged")), &scratch);
    for key in [
        Box::new(kohya("lora_te_")) as Key,
        dotted("text_encoder.text_model.", PEFT),
        dotted("base_model.model.", PEFT),
        Box::new(kohya("lora_te2_")),
        dotted("clip_g.text_model.", KOHYA),
        dotted("text_encoders.clip_g.transformer.text_model.", KOHYA),
    ] {
        let name = key(changes[0].0, "up");
        let file = write(&scratch.path().join("lora.safetensors"), &lora(&changes, Some(2.0), key));
        let error = error_against(&expected, &model, (&file, 1.0), &scratch);
        assert!(error < 1e-6, "{name}: {error:e}");
        // An assumption is told.
        let told = read(&file, 1.0)
            .notes
            .iter()
            .any(|note| note.contains("taken to be for the second text encoder"));
        assert_eq!(told, !name.contains("te2") && !name.contains("clip_g"), "{name}");
    }
}
