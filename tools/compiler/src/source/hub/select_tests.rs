//! Over the files of repositories that people use, as the hub lists them.

use serde_json::{Value, json};

use super::{Modality, beside, clip_only, describing, select};

/// Paths; `folder: a b` is `folder/a` and `folder/b`.
fn listing(text: &str) -> Vec<String> {
    let mut files: Vec<String> = vec![".gitattributes".into(), "README.md".into()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some((folder, names)) => files.extend(names.split(' ').map(|name| format!("{folder}/{name}"))),
            None => files.extend(line.split(' ').map(str::to_owned)),
        }
    }
    files
}

fn chosen(listing: &[String], part: Option<&str>) -> Vec<String> {
    select(listing, part, Modality::Text).unwrap_or_else(|error| panic!("{error:#}"))
}

fn image(listing: &[String], part: Option<&str>) -> Result<Vec<String>, String> {
    select(listing, part, Modality::Image).map_err(|error| format!("{error:#}"))
}

fn refusal(listing: &[String], part: Option<&str>) -> String {
    let said = format!("{:#}", select(listing, part, Modality::Text).expect_err("a refusal"));
    assert!(!said.contains('\n'), "{said}");
    said
}

/// Exactly these, in any order.
#[track_caller]
fn same(chosen: Vec<String>, expected: &str) {
    let mut expected = listing(expected)[2..].to_vec();
    expected.sort();
    assert_eq!(chosen, expected);
}

const SD_1_5: &str = "
    model_index.json v1-inference.yaml
    v1-5-pruned-emaonly.ckpt v1-5-pruned-emaonly.safetensors v1-5-pruned.ckpt v1-5-pruned.safetensors
    feature_extractor: preprocessor_config.json
    safety_checker: config.json model.fp16.safetensors model.safetensors pytorch_model.bin pytorch_model.fp16.bin
    scheduler: scheduler_config.json
    text_encoder: config.json model.fp16.safetensors model.safetensors pytorch_model.bin pytorch_model.fp16.bin
    tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    unet: config.json diffusion_pytorch_model.bin diffusion_pytorch_model.safetensors
    vae: config.json diffusion_pytorch_model.safetensors";

const SD_2_1: &str = "
    model_index.json v2-1_768-ema-pruned.ckpt v2-1_768-ema-pruned.safetensors
    text_encoder: config.json model.fp16.safetensors model.safetensors pytorch_model.bin
    tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    unet: config.json diffusion_pytorch_model.safetensors
    vae: config.json diffusion_pytorch_model.safetensors";

const SDXL: &str = "
    model_index.json sd_xl_base_1.0.safetensors sd_xl_base_1.0_0.9vae.safetensors
    text_encoder: config.json flax_model.msgpack model.fp16.safetensors model.onnx model.safetensors openvino_model.bin openvino_model.xml
    text_encoder_2: config.json flax_model.msgpack model.fp16.safetensors model.onnx model.onnx_data model.safetensors openvino_model.bin openvino_model.xml
    tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    unet: config.json diffusion_pytorch_model.safetensors model.onnx model.onnx_data";

const SD_3: &str = "
    model_index.json
    text_encoder: config.json model.fp16.safetensors model.safetensors
    text_encoder_2: config.json model.fp16.safetensors model.safetensors
    text_encoder_3: config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json
    tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    tokenizer_3: special_tokens_map.json spiece.model tokenizer.json tokenizer_config.json
    transformer: config.json diffusion_pytorch_model.safetensors";

const FLUX: &str = "
    model_index.json ae.safetensors flux1-schnell.safetensors
    text_encoder: config.json model.safetensors
    text_encoder_2: config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json
    tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
    tokenizer_2: special_tokens_map.json spiece.model tokenizer.json tokenizer_config.json
    transformer: config.json diffusion_pytorch_model-00001-of-00003.safetensors";

const VIT_L_14: &str = "
    config.json flax_model.msgpack merges.txt model.safetensors preprocessor_config.json pytorch_model.bin
    special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json vocab.json";

#[test]
fn stable_diffusion_1_and_2() {
    let expected = "
        model_index.json
        text_encoder: config.json model.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json";
    for repository in [SD_1_5, SD_2_1] {
        same(chosen(&listing(repository), None), expected);
        same(chosen(&listing(repository), Some("text_encoder")), expected);
    }
    let files = listing(SD_1_5);
    same(chosen(&files, Some("v1-5-pruned-emaonly.safetensors")), "v1-5-pruned-emaonly.safetensors");
    same(
        chosen(&files, Some("text_encoder/model.fp16.safetensors")),
        "model_index.json
        text_encoder: config.json model.fp16.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json",
    );
}

#[test]
fn stable_diffusion_xl() {
    let files = listing(SDXL);
    same(
        chosen(&files, None),
        "model_index.json
        text_encoder: config.json model.safetensors
        text_encoder_2: config.json model.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json
        tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json",
    );
    same(
        chosen(&files, Some("text_encoder_2")),
        "model_index.json
        text_encoder_2: config.json model.safetensors
        tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json",
    );
    same(
        chosen(&files, Some("text_encoder_2/model.onnx")),
        "model_index.json
        text_encoder_2: config.json model.onnx
        tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json",
    );
}

fn index(classes: &[(&str, &str)]) -> Value {
    let mut index = json!({"_class_name": "Pipeline", "text_encoder_9": [null, null]});
    for (name, class) in classes {
        index[name] = json!(["transformers", class]);
    }
    index
}

/// The files chosen once model_index.json and the configurations were read.
fn decided(
    files: &[String],
    part: Option<&str>,
    index: &Value,
    configs: &[(&str, &str)],
) -> anyhow::Result<Vec<String>> {
    let known = describing(files, part);
    let description = |file: &str| {
        assert!(!files.iter().any(|f| f == file) || known.iter().any(|k| k == file), "{file} in {known:?}");
        let class = configs.iter().find(|(folder, _)| format!("{folder}/config.json") == file);
        class.map(|(_, class)| json!({"architectures": [class]})).or_else(|| {
            (file.ends_with("model_index.json") && files.iter().any(|f| f == file)).then(|| index.clone())
        })
    };
    select(&clip_only(files, part, description)?, part, Modality::Text)
}

#[test]
fn t5_is_left_where_the_index_says_so() {
    let clip = "
        model_index.json
        text_encoder: config.json model.safetensors
        tokenizer: merges.txt special_tokens_map.json tokenizer_config.json vocab.json";
    let flux = index(&[("text_encoder", "CLIPTextModel"), ("text_encoder_2", "T5EncoderModel")]);
    let files = listing(FLUX);
    same(decided(&files, None, &flux, &[]).unwrap(), clip);
    for part in ["text_encoder_2", "text_encoder_2/model-00001-of-00002.safetensors"] {
        let error = decided(&files, Some(part), &flux, &[]).unwrap_err().to_string();
        assert!(error.contains("text_encoder_2 is a T5EncoderModel"), "{error}");
    }
    let sd3 = index(&[
        ("text_encoder", "CLIPTextModelWithProjection"),
        ("text_encoder_2", "CLIPTextModelWithProjection"),
        ("text_encoder_3", "T5EncoderModel"),
    ]);
    let second = "
        text_encoder_2: config.json model.safetensors
        tokenizer_2: merges.txt special_tokens_map.json tokenizer_config.json vocab.json";
    same(decided(&listing(SD_3), None, &sd3, &[]).unwrap(), &format!("{clip}{second}"));
    // In a folder of a repository as well.
    let deep: Vec<_> = listing(SD_3).iter().map(|file| format!("sd/3/{file}")).collect();
    let chosen = decided(&deep, Some("sd/3"), &sd3, &[]).unwrap();
    assert!(
        chosen.len() == 13 && chosen.iter().all(|file| file.starts_with("sd/3/") && !file.contains("_3/"))
    );
}

#[test]
fn the_configuration_decides_where_the_index_says_only_onnx() {
    let files = listing(
        "model_index.json
        text_encoder: config.json model.onnx
        text_encoder_2: config.json model.onnx model.onnx_data
        text_encoder_3: config.json model.onnx model.onnx_data
        tokenizer: merges.txt vocab.json
        tokenizer_2: merges.txt vocab.json",
    );
    let wrappers =
        ["text_encoder", "text_encoder_2", "text_encoder_3"].map(|name| (name, "ORTModelTextEncoder"));
    let configs = [
        ("text_encoder", "CLIPTextModelWithProjection"),
        ("text_encoder_2", "CLIPTextModelWithProjection"),
        ("text_encoder_3", "T5EncoderModel"),
    ];
    let expected = "
        model_index.json
        text_encoder: config.json model.onnx
        text_encoder_2: config.json model.onnx
        tokenizer: merges.txt vocab.json
        tokenizer_2: merges.txt vocab.json";
    same(decided(&files, None, &index(&wrappers), &configs).unwrap(), expected);
    // diffusers' own ONNX pipelines have no configuration there.
    let old = listing("model_index.json\ntext_encoder: model.onnx\ntokenizer: merges.txt vocab.json");
    let said = index(&[("text_encoder", "OnnxRuntimeModel")]);
    same(
        decided(&old, None, &said, &[]).unwrap(),
        "model_index.json\ntext_encoder: model.onnx\ntokenizer: merges.txt vocab.json",
    );
}

#[test]
fn pipelines_without_clip_or_with_a_part_missing() {
    let files = listing("model_index.json\ntext_encoder: config.json model.safetensors\nvae: config.json");
    let t5 = index(&[("text_encoder", "T5EncoderModel")]);
    let error = decided(&files, None, &t5, &[]).unwrap_err().to_string();
    assert!(error.contains("text_encoder is a T5EncoderModel"), "{error}");
    let two = index(&[("text_encoder", "CLIPTextModel"), ("text_encoder_2", "CLIPTextModelWithProjection")]);
    let error = decided(&files, None, &two, &[]).unwrap_err().to_string();
    assert!(error.contains("model_index.json names text_encoder_2"), "{error}");
    assert!(decided(&files, Some("text_encoder"), &two, &[]).is_ok(), "that one is whole");
}

#[test]
fn plain_transformers_repositories() {
    let expected = "
        config.json merges.txt model.safetensors special_tokens_map.json tokenizer.json tokenizer_config.json vocab.json";
    same(chosen(&listing(VIT_L_14), None), expected);
    let laion = format!(
        "{VIT_L_14} open_clip_config.json open_clip_pytorch_model.bin open_clip_pytorch_model.safetensors"
    );
    same(chosen(&listing(&laion), None), expected);
    let open_clip = "merges.txt open_clip_config.json open_clip_pytorch_model.safetensors vocab.json";
    same(chosen(&listing(&format!("{open_clip} open_clip_pytorch_model.bin README.md")), None), open_clip);
    same(
        chosen(&listing(&laion), Some("open_clip_pytorch_model.safetensors")),
        &format!(
            "{} open_clip_config.json open_clip_pytorch_model.safetensors",
            expected.replace("model.safetensors ", "")
        ),
    );
    let long =
        "config.json merges.txt model.safetensors special_tokens_map.json tokenizer_config.json vocab.json";
    same(chosen(&listing(long), None), long);
    let bigg = "
        config.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        model.safetensors.index.json open_clip_pytorch_model.bin pytorch_model-00001-of-00002.bin
        pytorch_model-00002-of-00002.bin pytorch_model.bin.index.json vocab.json";
    same(
        chosen(&listing(bigg), None),
        "config.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        model.safetensors.index.json vocab.json",
    );
    same(
        chosen(&listing(bigg), Some("model.safetensors.index.json")),
        "
        config.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors
        model.safetensors.index.json vocab.json",
    );
}

#[test]
fn image_encoders_come_with_their_preprocessing() {
    let vit = "config.json model.safetensors preprocessor_config.json";
    same(image(&listing(VIT_L_14), None).unwrap(), vit);
    let open_clip = "open_clip_config.json open_clip_model.safetensors";
    same(image(&listing(&format!("{open_clip} merges.txt vocab.json")), None).unwrap(), open_clip);
    // As optimum lays them out, or one encoder's graph in a folder of its own.
    let both = listing("config.json preprocessor_config.json vocab.json text_model.onnx vision_model.onnx");
    same(image(&both, None).unwrap(), "config.json preprocessor_config.json vision_model.onnx");
    same(chosen(&both, None), "config.json text_model.onnx vocab.json");
    let apart = listing("config.json preprocessor_config.json\nonnx: model.onnx vision_model.onnx");
    same(image(&apart, Some("onnx/vision_model.onnx")).unwrap(), "onnx: vision_model.onnx");
    // A pipeline's has a folder of its own, of which the user says that it is meant.
    let kandinsky = listing(
        "model_index.json
        image_encoder: config.json model.safetensors
        text_encoder: config.json model.safetensors",
    );
    let said = image(&kandinsky, None).unwrap_err();
    assert!(said.contains("hf:OWNER/REPO/image_encoder"), "{said}");
    same(image(&kandinsky, Some("image_encoder")).unwrap(), "image_encoder: config.json model.safetensors");
    let said = image(&listing(SD_1_5), None).unwrap_err();
    assert!(said.contains("safetensors"), "{said}");
    let said = image(&listing("README.txt"), None).unwrap_err();
    assert!(said.starts_with("no image encoder in the repository: expected model.safetensors"), "{said}");
}

#[test]
fn half_precision_and_onnx_only_without_anything_better() {
    let half = listing("text_encoder: config.json model.fp16.safetensors model.onnx");
    same(chosen(&half, None), "text_encoder: config.json model.fp16.safetensors");
    let onnx = listing("text_encoder: config.json model.onnx model.onnx.data pytorch_model.bin");
    same(chosen(&onnx, None), "text_encoder: config.json model.onnx");
}

#[test]
fn shards_that_are_missing_are_missed() {
    for (shards, there) in [
        ("", "0 of 0"),
        (" model-00001-of-00002.safetensors", "1 of 2"),
        (" model-00002-of-00002.safetensors", "1 of 2"),
        (" model-00001-of-00002.safetensors model-00002-of-00003.safetensors", "1 of 2"),
    ] {
        let said = refusal(&listing(&format!("config.json model.safetensors.index.json{shards}")), None);
        assert!(said.contains(there) && said.contains("model.safetensors.index.json"), "{said}");
    }
}

#[test]
fn pickles_are_refused_with_the_way_to_convert_them() {
    let no_safetensors = VIT_L_14.replace(" model.safetensors", "");
    for (files, part, file) in [
        (listing(&no_safetensors), None, "pytorch_model.bin"),
        (listing("text_encoder: config.json pytorch_model.bin"), None, "text_encoder/pytorch_model.bin"),
        (listing("sd-v1-4.ckpt"), None, "sd-v1-4.ckpt"),
        (listing(SD_1_5), Some("v1-5-pruned.ckpt"), "v1-5-pruned.ckpt"),
    ] {
        let said = refusal(&files, part);
        assert!(
            said.contains(file) && said.contains("weights_only=True") && said.contains("refs/pr"),
            "{said}"
        );
    }
    let said = refusal(&listing(&no_safetensors), None);
    assert!(said.ends_with(" pytorch_model.bin model.safetensors"), "{said}");
}

#[test]
fn what_has_no_text_encoder_is_told_with_what_it_has() {
    let said = refusal(&listing("unet: config.json model.safetensors\nvae: config.json"), None);
    assert!(said.contains("no text encoder") && said.contains("unet/, vae/"), "{said}");
    let said = refusal(&listing("dream.safetensors other.safetensors"), None);
    assert!(said.contains("dream.safetensors, other.safetensors") && said.contains("name it"), "{said}");
    let said = refusal(&listing("config.json vocab.json\nonnx: text_model.onnx vision_model.onnx"), None);
    assert!(said.contains("onnx/text_model.onnx"), "{said}");
    let said = refusal(&listing(SD_1_5), Some("text_encoder_2"));
    assert!(said.contains("no file or folder text_encoder_2") && said.contains("text_encoder/"), "{said}");
    let said = refusal(&listing(SD_1_5), Some("README.md"));
    assert!(said.contains("no model"), "{said}");
    let said = refusal(&[], None);
    assert!(said.contains("nothing"), "{said}");
    let said = refusal(&listing("text_encoder: config.json openvino_model.bin openvino_model.xml"), None);
    assert!(said.contains("openvino_model.xml") && !said.contains("pickle"), "{said}");
}

#[test]
fn external_data_lie_beside_their_model() {
    let files = listing("text_encoder: model.onnx data/w0 weights.pb\nw1");
    let at = |location| beside(&files, "text_encoder/model.onnx", location);
    assert_eq!(at("weights.pb").unwrap(), "text_encoder/weights.pb");
    assert_eq!(at("./data//w0").unwrap(), "text_encoder/data/w0");
    let said = at("w1").unwrap_err().to_string();
    assert!(
        said.contains("text_encoder/model.onnx") && said.contains("data/, model.onnx, weights.pb"),
        "{said}"
    );
    assert!(at("../w1").is_err());
}
