//! Single-file checkpoints: the text towers inside, by their prefixes, and nothing else of the file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cliptext::tokenizer::Padding;
use cliptext_compiler::preset::{Choice, Preset};
use cliptext_compiler::source::Source;
use cliptext_test_support::Scratch;

use super::common::*;

/// The plan's bytes, with every f32 weight in them.
fn plan(model: &Path, scratch: &Scratch, wanted: Option<Preset>) -> Vec<u8> {
    let choice = Choice { preset: wanted, ..Choice::default() };
    compiled(&with_choice(job(model, scratch), choice)).bytes().to_vec()
}

#[test]
fn stable_diffusion_1() {
    let scratch = Scratch::new();
    let tower = like_l();
    let folder = write_component(&scratch.path().join("text_encoder"), &tower);
    let expected = plan(&folder, &scratch, Some(Preset::Sd1));
    // Some tools leave `text_model.` out.
    for bare in [false, true] {
        let mut tensors = hugging_face(&tower, "cond_stage_model.transformer.");
        if bare {
            tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("text_model.", ""));
        }
        tensors.extend(others());
        let file = write(&scratch.path().join("sd1.safetensors"), &tensors);
        let source = Source::open(&file).unwrap();
        assert_eq!((source.preset, source.towers.len()), (Some(Preset::Sd1), 1));
        assert!(source.kind.contains("Stable Diffusion 1"), "{}", source.kind);
        assert!(plan(&file, &scratch, None) == expected);
    }
}

#[test]
fn stable_diffusion_2() {
    let scratch = Scratch::new();
    let tower = like_h();
    let folder = write_component(&scratch.path().join("text_encoder"), &tower);
    let expected = plan(&folder, &scratch, Some(Preset::Sd2));
    let mut tensors = open_clip(&tower, "cond_stage_model.model.");
    tensors.push(Named::f32("cond_stage_model.model.logit_scale", &[], &[4.6052]));
    tensors.extend(others());
    let file = write(&scratch.path().join("sd2.safetensors"), &tensors);
    let found = compiled(&job(&file, &scratch));
    assert_eq!(found.report.preset.as_deref(), Some("sd2"));
    let report = &found.report.towers[0];
    assert_eq!((report.layers, report.hidden_layer, report.hidden_norm), (2, 2, true));
    assert_eq!((report.pooled, report.padding.as_str()), (None, "zero"));
    assert_eq!(found.plan().tokenizer().padding(), Padding::Id(0));
    assert_eq!(found.plan().manifest().logit_scale, Some(f64::from(4.6052f32).exp() as f32));
    // Apart from the logit scale, which the folder has not.
    let without: Vec<Named> = tensors.into_iter().filter(|t| !t.name.ends_with("logit_scale")).collect();
    let file = write(&scratch.path().join("sd2.safetensors"), &without);
    assert!(plan(&file, &scratch, None) == expected);
}

/// Writes the two encoders of SDXL as a pipeline's folder without index, each by its own names.
fn xl_folder(scratch: &Scratch) -> std::path::PathBuf {
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &like_l());
    write_component(&folder.join("text_encoder_2"), &like_big_g());
    folder
}

#[test]
fn stable_diffusion_xl_and_what_looks_like_it() {
    let scratch = Scratch::new();
    let folder = xl_folder(&scratch);
    let (l, g) = (like_l(), like_big_g());
    let both = [
        hugging_face(&l, "conditioner.embedders.0.transformer."),
        open_clip(&g, "conditioner.embedders.1.model."),
        others(),
    ]
    .concat();
    let file = write(&scratch.path().join("sdxl.safetensors"), &both);
    let both_in_one = compiled(&job(&file, &scratch));
    assert_eq!(both_in_one.report.preset.as_deref(), Some("sdxl"));
    let towers = &both_in_one.report.towers;
    assert_eq!(towers.len(), 2);
    assert_eq!((towers[0].width, towers[0].hidden_layer, towers[0].hidden_norm), (64, 2, false));
    assert_eq!((towers[0].pooled, towers[0].padding.as_str()), (None, "eot"));
    assert_eq!((towers[1].width, towers[1].hidden_layer, towers[1].hidden_norm), (1280, 1, false));
    assert_eq!((towers[1].pooled_kind, towers[1].padding.as_str()), (Some("projected"), "zero-after-eos"));
    assert_eq!(both_in_one.plan().width(), 64 + 1280);
    assert!(plan(&folder, &scratch, Some(Preset::Sdxl)) == both_in_one.bytes());

    // The refiner has the second encoder alone, as its first embedder.
    let refiner = [open_clip(&g, "conditioner.embedders.0.model."), others()].concat();
    let refiner = write(&scratch.path().join("refiner.safetensors"), &refiner);
    let expected = plan(&folder.join("text_encoder_2"), &scratch, Some(Preset::Sdxl));
    let source = Source::open(&refiner).unwrap();
    assert_eq!((source.preset, source.towers.len()), (Some(Preset::Sdxl), 1));
    assert!(plan(&refiner, &scratch, None) == expected);

    // One of the two, by name.
    let name = "conditioner.embedders.1.model";
    let one = one_of(job(&file, &scratch), Some(name.into()));
    assert!(compiled(&one).bytes() == expected);
    let error = refused(&one_of(one, Some("clip_g".into())));
    assert!(error.contains("clip_g") && error.contains(name), "{error}");
}

#[test]
fn text_encoders_of_stable_diffusion_3_and_flux() {
    let scratch = Scratch::new();
    let (h, g) = (like_h(), like_big_g());
    let clip_l = hugging_face(&h, "text_encoders.clip_l.transformer.");
    let clip_g = hugging_face(&g, "text_encoders.clip_g.transformer.");
    let t5 = vec![
        Named::arbitrary("text_encoders.t5xxl.transformer.shared.weight", &[8, 4]),
        Named::arbitrary(
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight",
            &[4, 4],
        ),
    ];
    let joint =
        vec![Named::arbitrary("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", &[8, 8])];
    let file =
        write(&scratch.path().join("sd3.safetensors"), &[clip_l.clone(), clip_g, t5.clone(), joint].concat());
    let plan = compiled(&job(&file, &scratch));
    assert_eq!(plan.report.preset.as_deref(), Some("sd3"));
    let towers = &plan.report.towers;
    assert_eq!(towers.iter().map(|tower| tower.pooled).collect::<Vec<_>>(), [Some(96), Some(1280)]);
    // SD 3's first encoder is OpenAI's: quick GELU, whatever the projection beside it.
    assert!(towers.iter().all(|tower| !tower.hidden_norm && tower.hidden_layer + 1 == tower.layers));

    let double = vec![Named::arbitrary("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", &[8, 8])];
    let file = write(&scratch.path().join("flux.safetensors"), &[clip_l, t5, double].concat());
    let plan = compiled(&job(&file, &scratch));
    assert_eq!(plan.report.preset.as_deref(), Some("flux"));
    let tower = &plan.report.towers[0];
    assert_eq!((tower.pooled_kind, tower.hidden_norm, tower.layers), (Some("eos"), true, 3));
}

/// A checkpoint of several GB, most of which is a hole in the file: whoever reads it, pays for it.
#[test]
fn what_is_beside_the_towers_is_never_read() {
    const UNET: usize = 5 << 30;
    let scratch = Scratch::new();
    let text = hugging_face(&like_l(), "cond_stage_model.transformer.");
    let mut header = serde_json::Map::new();
    let mut end = 0;
    let mut place = |name: &str, shape: &[usize], bytes: usize| {
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]});
        header.insert(name.to_owned(), entry);
        end += bytes;
        end - bytes
    };
    place("model.diffusion_model.input_blocks.0.0.weight", &[UNET / 8], UNET / 2);
    let places: Vec<usize> = text.iter().map(|t| place(&t.name, &t.shape, t.bytes.len())).collect();
    place("first_stage_model.decoder.conv_in.weight", &[UNET / 8], UNET / 2);
    let header = serde_json::to_vec(&header).unwrap();
    let path = scratch.path().join("big.safetensors");
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let data = 8 + header.len();
    file.set_len((data + end) as u64).unwrap();
    for (at, tensor) in places.into_iter().zip(&text) {
        std::os::unix::fs::FileExt::write_all_at(&file, &tensor.bytes, (data + at) as u64).unwrap();
    }
    drop(file);

    let plan = scratch.path().join("x.plan");
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cliptext"))
        .args(["compile".as_ref(), path.as_os_str(), "-o".as_ref(), plan.as_os_str(), "--vocab".as_ref()])
        .arg(merges())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The most memory that it ever had, as long as the system tells.
    let status = format!("/proc/{}/status", child.id());
    let mut most_kb = 0;
    let done = loop {
        let told = std::fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kb| kb.parse().ok());
        most_kb = most_kb.max(kb.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(done) => break done,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(done.success() && plan.exists());
    println!("{} MB at most, {:.1} s", most_kb / 1000, started.elapsed().as_secs_f64());
    assert!(most_kb < 1_000_000, "{most_kb} KB for a text encoder of 1 MB");
    assert!(started.elapsed() < Duration::from_secs(60));
}
