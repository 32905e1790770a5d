//! What `encode` writes: every format read back by readers that are not its own, orders, a file for each prompt.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Folder, fails, fixture, npy, ok, run};
use half::f16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Two towers, hidden states of 40 columns, a pooled output of 20.
fn plan() -> String {
    fixture("two-towers.plan")
}

/// Runs `encode` and gives the path that it wrote to.
fn encode(folder: &Folder, name: &str, args: &[&str]) -> String {
    let path = folder.path(name);
    ok(&[&["encode", &plan(), "-o", &path], args].concat());
    path
}

/// The tensor `name` of a safetensors file.
fn tensor(bytes: &[u8], name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec())
}

fn metadata(bytes: &[u8]) -> std::collections::HashMap<String, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    metadata.metadata().clone().unwrap()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn plan_hash() -> String {
    let plan = cliptext::PlanFile::read(plan().as_ref()).unwrap();
    plan.plan().unwrap().hash().to_string()
}

#[test]
fn safetensors_have_the_names_that_diffusers_has() {
    let folder = Folder::new("safetensors");
    let (hidden, pooled) = (folder.path("h.npy"), folder.path("p.npy"));
    ok(&["encode", &plan(), "a cat", "--negative", "so blurry", "-o", &hidden, "--pooled", &pooled]);
    let (hidden, pooled) = (npy(&hidden).1, npy(&pooled).1);
    let file = encode(&folder, "x.safetensors", &["a cat", "--negative", "so blurry"]);
    let bytes = std::fs::read(file).unwrap();
    let names = [
        ("prompt_embeds", vec![1, 77, 40], &hidden[..77 * 40]),
        ("negative_prompt_embeds", vec![1, 77, 40], &hidden[77 * 40..]),
        ("pooled_prompt_embeds", vec![1, 20], &pooled[..20]),
        ("negative_pooled_prompt_embeds", vec![1, 20], &pooled[20..]),
    ];
    for (name, shape, values) in names {
        assert_eq!(tensor(&bytes, name), (Dtype::F32, shape, bytes_of(values)), "{name}");
    }
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 4);
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    assert_eq!((8 + header) % 64, 0, "values can be mapped");
    let told = metadata(&bytes);
    for (key, value) in [
        ("cliptext_version", env!("CARGO_PKG_VERSION")),
        ("plan_hash", &plan_hash()),
        ("prompt", "a cat"),
        ("negative_prompt", "so blurry"),
    ] {
        assert_eq!(told[key], value);
    }
    assert_eq!(told.len(), 4);
}

#[test]
fn several_prompts_are_a_batch_with_a_negative_for_each() {
    let folder = Folder::new("batch");
    let arrays = encode(&folder, "x.npy", &["a", "\"", "--negative", "x", "--no-pad"]);
    let error = {
        let path = folder.path("y.safetensors");
        fails(&["encode", &plan(), "a", "a b", "--no-pad", "-o", &path], 2)
    };
    assert!(error.contains("prompts of 3 and of 4 tokens"), "{error}");
    let hidden = npy(&arrays).1;
    let file =
        encode(&folder, "x.safetensors", &["a", "\"", "--negative", "x", "--no-pad", "--dtype", "f16"]);
    let bytes = std::fs::read(file).unwrap();
    let halves = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
    };
    let one = hidden.len() / 3;
    let (dtype, shape, data) = tensor(&bytes, "prompt_embeds");
    assert_eq!((dtype, shape), (Dtype::F16, vec![2, one / 40, 40]));
    assert!(data == halves(&hidden[..2 * one]));
    // diffusers refuses a negative of another shape than the prompts'.
    let (_, shape, data) = tensor(&bytes, "negative_prompt_embeds");
    assert_eq!(shape, [2, one / 40, 40]);
    assert!(data == halves(&[&hidden[2 * one..], &hidden[2 * one..]].concat()));
    assert_eq!(tensor(&bytes, "negative_pooled_prompt_embeds").1, [2, 20]);
    let told = metadata(&bytes);
    let prompts: Vec<String> = serde_json::from_str(&told["prompts"]).unwrap();
    assert_eq!(prompts, ["a", "\""]);
    assert_eq!((told["no_pad"].as_str(), told.get("prompt")), ("true", None));
}

#[test]
fn json_is_readable_and_exact() {
    let folder = Folder::new("json");
    let (hidden, pooled) = (folder.path("h.npy"), folder.path("p.npy"));
    ok(&["encode", &plan(), "a \"cat\"", "--negative", "x", "-o", &hidden, "--pooled", &pooled]);
    let (hidden, pooled) = (npy(&hidden).1, npy(&pooled).1);
    let file = encode(&folder, "x.json", &["a \"cat\"", "--negative", "x"]);
    let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(told["plan_hash"], plan_hash());
    assert_eq!(told["cliptext_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["options"], serde_json::json!({}));
    let ids = ok(&["tokenize", &plan(), "a \"cat\"", "x"]);
    let embeddings = told["embeddings"].as_array().unwrap();
    assert_eq!(embeddings.len(), 2);
    for (index, (embedding, ids)) in embeddings.iter().zip(ids.lines()).enumerate() {
        assert_eq!(embedding["prompt"], ["a \"cat\"", "x"][index]);
        assert_eq!(embedding["negative"], index == 1);
        assert_eq!(embedding["shape"], serde_json::json!([77, 40]));
        let told: Vec<String> =
            embedding["ids"].as_array().unwrap().iter().map(|id| id.to_string()).collect();
        assert_eq!(told.join(" "), ids);
        let number = |value: &Value| value.as_f64().unwrap() as f32;
        let rows = embedding["hidden"].as_array().unwrap();
        assert!(rows.len() == 77 && rows.iter().all(|row| row.as_array().unwrap().len() == 40));
        let values: Vec<f32> = rows.iter().flat_map(|row| row.as_array().unwrap()).map(number).collect();
        assert!(bytes_of(&values) == bytes_of(&hidden[index * 77 * 40..][..77 * 40]));
        let values: Vec<f32> = embedding["pooled"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(values, pooled[index * 20..][..20]);
    }
    // Each prompt has its own shape: one file holds prompts of several lengths.
    let file = encode(&folder, "x.json", &["a", "a b", "--no-pad"]);
    let told: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(told["options"]["no_pad"], "true");
    assert_eq!(
        (&told["embeddings"][0]["shape"][0], &told["embeddings"][1]["shape"][0]),
        (&3.into(), &4.into())
    );
}

#[test]
fn halves_are_the_same_in_every_format() {
    let folder = Folder::new("halves");
    let floats = npy(&encode(&folder, "x.npy", &["a cat"])).1;
    let raw = std::fs::read(encode(&folder, "x.f16", &["a cat"])).unwrap();
    let want: Vec<u8> = floats.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    assert!(raw == want);
    let array = std::fs::read(encode(&folder, "h.npy", &["a cat", "--dtype", "f16"])).unwrap();
    assert!(
        array.ends_with(&raw) && array.windows(5).any(|at| at == b"'<f2'") && array.len() == 128 + raw.len()
    );
    let file = std::fs::read(encode(&folder, "h.safetensors", &["a cat", "--dtype", "f16"])).unwrap();
    assert!(tensor(&file, "prompt_embeds").2 == raw);
    // --format says what a name does not.
    assert!(std::fs::read(encode(&folder, "x.bin", &["a cat", "--format", "f16"])).unwrap() == raw);
}

#[test]
fn the_negative_prompt_stands_where_it_is_asked_for() {
    let folder = Folder::new("order");
    let each =
        ["a cat", "a dog", "blurry"].map(|text| std::fs::read(encode(&folder, "x.f32", &[text])).unwrap());
    let [cat, dog, blurry] = &each;
    let order = |name: &str, prompts: &[&str], order: &str| {
        let path = encode(&folder, name, &[prompts, &["--negative", "blurry", "--order", order]].concat());
        std::fs::read(path).unwrap()
    };
    let both = ["a cat", "a dog"];
    assert!(order("x.f32", &both[..1], "negative-first") == [&blurry[..], cat].concat());
    assert!(order("x.f32", &both[..1], "prompt-first") == [&cat[..], blurry].concat());
    assert!(order("x.f32", &both, "negative-first") == [&blurry[..], cat, dog].concat());
    assert!(order("x.f32", &both, "prompt-first") == [&cat[..], dog, blurry].concat());
    assert!(
        encode(&folder, "default.f32", &[&both[..], &["--negative", "blurry"]].concat()).ends_with("f32")
    );
    assert!(std::fs::read(folder.path("default.f32")).unwrap() == each.concat());
    let told: Value = serde_json::from_slice(&order("x.json", &both, "negative-first")).unwrap();
    let negative: Vec<_> = told["embeddings"].as_array().unwrap().iter().map(|it| &it["negative"]).collect();
    assert_eq!(negative, [true, false, false]);
    let pooled = folder.path("p.f32");
    let args = ["a cat", "--negative", "blurry", "--pooled", &pooled];
    encode(&folder, "x.f32", &args);
    let first = std::fs::read(&pooled).unwrap();
    encode(&folder, "x.f32", &[&args[..], &["--order", "negative-first"]].concat());
    let second = std::fs::read(&pooled).unwrap();
    assert!(second == [&first[80..], &first[..80]].concat() && first.len() == 160);
}

#[test]
fn a_file_for_each_prompt_is_what_the_prompt_alone_gives() {
    let folder = Folder::new("each");
    let prompts = folder.write("prompts.txt", b"a cat\na\nthe dog sat");
    for ending in ["npy", "f32", "f16", "safetensors", "json"] {
        for options in [
            &["--no-pad"][..],
            &["--negative", "blurry"],
            &["--negative", "blurry", "--order", "negative-first"],
        ] {
            if ending == "safetensors" && options.contains(&"--order") {
                continue;
            }
            let name = format!("{{n:03}}.{ending}");
            let pooled = folder.path("pooled-{n}.npy");
            let args = ["--prompts", &prompts, "--pooled", &pooled];
            encode(&folder, &name, &[&args[..], options].concat());
            for (number, prompt) in ["a cat", "a", "the dog sat"].into_iter().enumerate() {
                let alone = format!("alone.{ending}");
                let pooled = folder.path("alone-pooled.npy");
                encode(&folder, &alone, &[&[prompt, "--pooled", &pooled], options].concat());
                let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
                let name = format!("00{number}.{ending}");
                assert!(read(&name) == read(&alone), "{name} {options:?}");
                assert!(
                    read(&format!("pooled-{number}.npy")) == read("alone-pooled.npy"),
                    "{name} {options:?}"
                );
            }
        }
    }
    assert!(!folder.names().iter().any(|name| name.ends_with(".tmp") || name.contains('{')));
    // One output for all beside one for each.
    let pooled = folder.path("all.npy");
    encode(&folder, "{n}.npy", &["--prompts", &prompts, "--no-pad", "--pooled", &pooled]);
    assert_eq!(npy(&pooled).0, [3, 20]);
    assert_eq!(npy(&folder.path("1.npy")).0, [1, 3, 40]);
}

/// Python: `CLIPTEXT_PYTHON`, else `python3`.
fn python() -> PathBuf {
    std::env::var_os("CLIPTEXT_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

fn has(python: &Path, modules: &str) -> bool {
    let found = Command::new(python).args(["-c", &format!("import {modules}")]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Runs a script in `folder`, with the line that it prints in the end.
fn run_python(python: &Path, script: &str, folder: &Folder, last: &str) {
    let ran = Command::new(python)
        .args(["-W", "ignore", "-c", script])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout).lines().last(), Some(last));
}

/// Reads every file with numpy, safetensors or Python's own reader, and compares it with the raw f32.
const READ_BACK: &str = r#"
import json, sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

raw = np.fromfile("x.f32", dtype="<f4").reshape(3, 77, 40)
pooled = np.fromfile("p.f32", dtype="<f4").reshape(3, 20)
half = raw.astype(np.float16)
# A warning is an error: an overflow would be one.
np.seterr(all="raise")

def same(found, want):
    assert found.dtype == want.dtype and found.shape == want.shape, (found.dtype, found.shape)
    assert np.array_equal(found.view(np.uint8), np.ascontiguousarray(want).view(np.uint8))

for name, want in [("x.npy", raw), ("half.npy", half), ("piped.npy", raw), ("p.npy", pooled)]:
    same(np.load(name, allow_pickle=False), want)
    same(np.array(np.load(name, mmap_mode="r")), want)
same(np.fromfile("half.f16", dtype="<f2").reshape(half.shape), half)
for name, want, small in [("x.safetensors", raw, pooled), ("half.safetensors", half, pooled.astype(np.float16))]:
    tensors = load_file(name)
    assert len(tensors) == 4
    same(tensors["prompt_embeds"], want[:2])
    same(tensors["negative_prompt_embeds"], np.stack([want[2]] * 2))
    same(tensors["pooled_prompt_embeds"], small[:2])
    same(tensors["negative_pooled_prompt_embeds"], np.stack([small[2]] * 2))
    with safe_open(name, "np") as file:
        told = file.metadata()
    assert json.loads(told["prompts"]) == ["a cat", "the \"dög\""], told
    assert told["negative_prompt"] == "blurry" and len(told["plan_hash"]) == 64, told
told = json.load(open("x.json", encoding="utf-8"))
same(np.array([it["hidden"] for it in told["embeddings"]], dtype=np.float32), raw)
same(np.array([it["pooled"] for it in told["embeddings"]], dtype=np.float32), pooled)
assert [it["negative"] for it in told["embeddings"]] == [False, False, True]
assert [it["prompt"] for it in told["embeddings"]] == ["a cat", "the \"dög\"", "blurry"]
print("read back")
"#;

#[test]
fn numpy_and_safetensors_for_python_read_every_format() {
    let python = python();
    if !has(&python, "numpy, safetensors.numpy") {
        // The one that is named has to have them.
        assert!(
            std::env::var_os("CLIPTEXT_PYTHON").is_none(),
            "{}: no numpy or safetensors",
            python.display()
        );
        eprintln!("skipped: no python3 with numpy and safetensors (CLIPTEXT_PYTHON names one)");
        return;
    }
    let folder = Folder::new("python");
    let prompts = ["a cat", "the \"dög\"", "--negative", "blurry"];
    for (name, pooled) in [
        ("x.f32", Some("p.f32")),
        ("x.npy", Some("p.npy")),
        ("x.safetensors", None),
        ("x.json", None),
        ("half.f16", None),
    ] {
        let pooled = pooled.map(|name| folder.path(name));
        let pooled = pooled.as_ref().map_or(vec![], |path| vec!["--pooled", path.as_str()]);
        encode(&folder, name, &[&prompts[..], &pooled].concat());
    }
    for name in ["half.npy", "half.safetensors"] {
        encode(&folder, name, &[&prompts[..], &["--dtype", "f16"]].concat());
    }
    let piped = run(&[&["encode", &plan(), "-o", "-"][..], &prompts].concat());
    folder.write("piped.npy", &piped.stdout);
    run_python(&python, READ_BACK, &folder, "read back");
}

/// Small pipelines of Stable Diffusion 1 and XL with random weights take the files as they are.
const DIFFUSERS: &str = r#"
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file

torch.manual_seed(0)
vae = AutoencoderKL(block_out_channels=[32], latent_channels=4)

def unet(width, **more):
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(32,), layers_per_block=1, attention_head_dim=8, cross_attention_dim=width,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), **more)

def draw(pipe, **embeds):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    return pipe(**embeds, num_inference_steps=1, height=8, width=8, generator=generator, output_type="np").images

sd = StableDiffusionPipeline(
    vae=vae, text_encoder=None, tokenizer=None, unet=unet(32), scheduler=DDIMScheduler(), safety_checker=None,
    feature_extractor=None, requires_safety_checker=False)
tensors = load_file("sd.safetensors")
named = draw(sd, **{name: tensors[name] for name in ("prompt_embeds", "negative_prompt_embeds")})
negative, prompt = torch.from_numpy(np.load("sd.npy")).chunk(2)
assert np.array_equal(named, draw(sd, prompt_embeds=prompt, negative_prompt_embeds=negative))

xl = StableDiffusionXLPipeline(
    vae=vae, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, scheduler=DDIMScheduler(),
    unet=unet(40, addition_embed_type="text_time", addition_time_embed_dim=8,
              projection_class_embeddings_input_dim=20 + 6 * 8))
assert draw(xl, **load_file("xl.safetensors")).shape == (1, 8, 8, 3)
assert draw(xl, **load_file("batch.safetensors")).shape == (2, 8, 8, 3)
print("drawn")
"#;

#[test]
fn diffusers_takes_the_files() {
    let python = python();
    if !has(&python, "diffusers, torch, numpy, safetensors.torch") {
        eprintln!("skipped: no python3 with diffusers and torch (CLIPTEXT_PYTHON names one)");
        return;
    }
    let folder = Folder::new("diffusers");
    let both = ["a dog", "--negative", "blurry"];
    let sd = |name: &str, args: &[&str]| {
        ok(&[&["encode", common::ONE_TOWER, "-o", &folder.path(name)][..], &both, args].concat());
    };
    sd("sd.safetensors", &[]);
    sd("sd.npy", &["--order", "negative-first"]);
    encode(&folder, "xl.safetensors", &both);
    encode(&folder, "batch.safetensors", &[&["a cat"], &both[..]].concat());
    run_python(&python, DIFFUSERS, &folder, "drawn");
}
